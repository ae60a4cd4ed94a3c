package nthash

import (
	"encoding/hex"
	"testing"
)

func TestSum(t *testing.T) {
	for password, want := range map[string]string{
		"Password": "a4f49c406510bdcab6824ee7c30fd852", // [MS-NLMP] 4.2.2.1.2
		"":         "31d6cfe0d16ae931b73c59d7e0c089c0",
	} {
		got := Sum(password)
		if hex.EncodeToString(got[:]) != want {
			t.Errorf("%q: %x, want %s", password, got, want)
		}
	}
}
