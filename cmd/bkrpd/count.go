package main

import "fmt"

// count says how many there are of something, in its singular or its plural.
func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// countEntries says what is in a backup.
func countEntries(keys, accounts, entries int) string {
	return count(keys, "key", "keys") + ", " + count(accounts, "account", "accounts") + ", " + count(entries, "entry", "entries")
}
