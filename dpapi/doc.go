// Package dpapi reads the files in which the Data Protection API keeps its
// master keys, as far as recovery by the BackupKey protocol needs: which master
// key a file holds, and the wrapped copy of it that a domain's server opens for
// the user it belongs to ([MS-BKRP] 1.4 and 4; the file itself is in no published
// specification, and what is here agrees with files that Windows wrote).
//
// ParseFile reads a file, and Recover has its master key opened:
//
//	f, err := dpapi.ParseFile(octets)
//	...
//	key, err := f.Recover(ctx, client.Unwrap)
//
// The package opens nothing with a password, and knows nothing of the blobs that
// are encrypted under a master key.
package dpapi
