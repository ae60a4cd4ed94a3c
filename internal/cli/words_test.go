package cli

import (
	"errors"
	"testing"
)

func TestPlain(t *testing.T) {
	for text, want := range map[string]string{
		"keystore: no such key: 1":                                            "no such key: 1",
		"bkrp: structure is malformed: le: structure is cut short":            "structure is malformed: structure is cut short",
		"user add: keystore: account exists already: alice":                   "user add: account exists already: alice",
		"calling: bkrpclient: bkrp: keystore: away (smbclient: gone)":         "calling: away (gone)",
		"bkrpclient: no Kerberos ticket for x: krb5: run kinit":               "no Kerberos ticket for x: krb5: run kinit",
		"opening bkrp:: open backup: no such file":                            "opening bkrp:: open backup: no such file",
		"netlogon: the domain controller: dcerpc: fault: access denied (0x5)": "netlogon: the domain controller: dcerpc: fault: access denied (0x5)",
	} {
		if got := plain(errors.New(text)); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
