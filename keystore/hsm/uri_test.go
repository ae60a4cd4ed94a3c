package hsm_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/seed05845750/bkrp/keystore/hsm"
)

func slot(n uint) *uint { return &n }

func TestParseURI(t *testing.T) {
	for in, want := range map[string]hsm.URI{
		"pkcs11:token=bkrp;object=kek?module-path=/usr/lib/p11.so&pin-source=/etc/pin":      {Module: "/usr/lib/p11.so", Token: "bkrp", Object: "kek", PINSource: "/etc/pin"},
		"pkcs11:module-path=/p11.so;serial=0a0b;id=%00%ff%3b?pin-source=file:/etc/pin":      {Module: "/p11.so", Serial: "0a0b", ID: "\x00\xff;", PINSource: "/etc/pin"},
		"pkcs11:module-path=/p11.so;slot-id=7;max-sessions=2?pin-source=file:///etc/pin":    {Module: "/p11.so", Slot: slot(7), Sessions: 2, PINSource: "/etc/pin"},
		"pkcs11:token=The%20Software%20PKCS%2311%20Softtoken;slot-id=0?module-path=/p11.so": {Module: "/p11.so", Token: "The Software PKCS#11 Softtoken", Slot: slot(0)},
	} {
		got, err := hsm.ParseURI(in)
		if err != nil || !cmp.Equal(got, want) {
			t.Errorf("%s: %v, %s", in, err, cmp.Diff(want, got))
		}
		if again, err := hsm.ParseURI(got.String()); err != nil || !cmp.Equal(again, got) {
			t.Errorf("%s is read as %+v, %v", got, again, err)
		}
	}
}

func TestParseURIRefuses(t *testing.T) {
	for in, why := range map[string]string{
		"":                         "pkcs11:",
		"yubikey:slot-id=9c":       "pkcs11:",
		"pkcs11:":                  "module-path",
		"pkcs11:token=a":           "module-path",
		"pkcs11:module-path=/p.so": "token",
		"pkcs11:module-path=p.so":  "whole path",
		"pkcs11:module-path=/p;token=a?pin-source=pin":       "whole path",
		"pkcs11:module-path=/p;token=a?pin-source=|/bin/pin": "whole path",
		"pkcs11:module-path=/p;token=a?pin-value=31415":      "pin-source=/PATH",
		"pkcs11:module-path=/p;token=a?pin-value=%zz31415":   "no proper value",
		"pkcs11:module-path=/p;token=a;token=b":              "twice",
		"pkcs11:module-path=/p;token=a;flavour=b":            "not known",
		"pkcs11:module-path=/p;token":                        "no proper value",
		"pkcs11:module-path=/p;token=":                       "no proper value",
		"pkcs11:module-path=/p;slot-id=x":                    "not a number",
		"pkcs11:module-path=/p;token=a;max-sessions=0":       "1 to 64",
		"pkcs11:module-path=/p;token=a;max-sessions=65":      "1 to 64",
		"pkcs11:token=" + strings.Repeat("a", 5000):          "4096",
		"pkcs11:module-path=/p%00;token=a":                   "no proper value",
	} {
		_, err := hsm.ParseURI(in)
		if !errors.Is(err, hsm.ErrURI) || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", in, err)
		}
		if err != nil && strings.Contains(err.Error(), "31415") {
			t.Errorf("%s: the error tells the PIN: %v", in, err)
		}
	}
}

func FuzzParseURI(f *testing.F) {
	f.Add("pkcs11:token=bkrp;object=kek?module-path=/usr/lib/p11.so&pin-source=/etc/pin")
	f.Add("pkcs11:module-path=/p11.so;serial=0a0b;id=%00%ff%3b;slot-id=1?max-sessions=4")
	f.Fuzz(func(t *testing.T, in string) {
		u, err := hsm.ParseURI(in)
		if err != nil {
			if !errors.Is(err, hsm.ErrURI) {
				t.Error(err)
			}
			return
		}
		if again, err := hsm.ParseURI(u.String()); err != nil && len(u.String()) <= 4096 || err == nil && !cmp.Equal(again, u) {
			t.Errorf("%q is %+v, and %q of it %+v, %v", in, u, u, again, err)
		}
	})
}
