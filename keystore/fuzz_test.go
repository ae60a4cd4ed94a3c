package keystore

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
)

func FuzzParseKeyFile(f *testing.F) {
	k, _ := testKeyFile(f)
	f.Add([]byte(k.text()))
	f.Add([]byte("bkrp-kek-1\nid 00\nkey 00\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := parseKeyFile(b)
		if err != nil {
			if !errors.Is(err, ErrKeyFile) {
				t.Fatalf("error is %v, want ErrKeyFile", err)
			}
			return
		}
		again, err := parseKeyFile([]byte(k.text()))
		if err != nil || *again != *k {
			t.Fatalf("what was read does not write and read again: %v", err)
		}
	})
}

func FuzzOpenSealed(f *testing.F) {
	k, _ := testKeyFile(f)
	p := quick(f, "one")
	for _, s := range []Sealer{k, p} {
		sealed, err := s.Seal(f.Context(), make([]byte, keySize), nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(sealed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := k.Open(t.Context(), b, []byte("bound")); !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrWrongKEK) {
			t.Fatalf("key file: %v", err)
		}
		if cost, salt, verifier, err := parsePassphraseHeader(b); err == nil {
			if cost.memoryKiB > maxArgon2.memoryKiB || cost.passes > maxArgon2.passes || cost.lanes > maxArgon2.lanes ||
				len(salt) != passphraseSaltSize || len(verifier) != passphraseVerifierSize {
				t.Fatalf("passphrase header: %+v", cost)
			}
		}
	})
}

func FuzzVaultOpen(f *testing.F) {
	v := newVault(nil, dtyp.GUID{1}, dataKeys(nil).with())
	sealed, err := v.seal("name", []byte("value"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add("name", sealed)
	f.Add("other", sealed)
	f.Fuzz(func(t *testing.T, name string, b []byte) {
		value, err := v.open(name, b)
		// Each fuzzing process has a seed of its own, so the octets may differ.
		if err == nil && (name != "name" || string(value) != "value") {
			t.Fatalf("%x opens as %q", b, name)
		}
		if err != nil && (!errors.Is(err, ErrCorrupt) || value != nil) {
			t.Fatalf("error is %v, want ErrCorrupt", err)
		}
	})
}

func FuzzParseHeader(f *testing.F) {
	k, _ := testKeyFile(f)
	d := Domain{DNSName: "bkrp.example", NetBIOSName: "BKRP", SID: RandomDomainSID()}
	h, _, err := newHeader(f.Context(), NewMemory(), k, randomGUID(), sealedHeader{Domain: d, Created: time.Now()})
	if err != nil {
		f.Fatal(err)
	}
	seed, err := json.Marshal(h)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parseHeader(b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("error is %v, want ErrCorrupt", err)
			}
			return
		}
		if _, _, err := h.unlock(t.Context(), NewMemory(), k); err != nil &&
			!errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrWrongKEK) {
			t.Fatalf("unlocking: %v", err)
		}
	})
}

func FuzzParseDataKeys(f *testing.F) {
	f.Add(dataKeys(nil).with().with().append(nil))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		keys, err := parseDataKeys(b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("error is %v, want ErrCorrupt", err)
			}
			return
		}
		again, err := parseDataKeys(keys.append(nil))
		if err != nil || len(again) != len(keys) || keys.current() == 0 {
			t.Fatalf("%d keys, and %d when read again: %v", len(keys), len(again), err)
		}
	})
}

func FuzzParseAccount(f *testing.F) {
	f.Add([]byte(`{"version":1,"name":"alice","sid":"S-1-5-21-1-2-3-1100","ntHash":"AAAAAAAAAAAAAAAAAAAAAA=="}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := parseAccount("account/ALICE", b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("error is %v, want ErrCorrupt", err)
			}
			return
		}
		if foldAccount(a.Name) != "ALICE" || a.SID.IsZero() {
			t.Fatalf("account is %v %v", a.Name, a.SID)
		}
	})
}

func FuzzCanonicalSecret(f *testing.F) {
	for _, name := range []string{CurrentClientSecret, CurrentServerSecret, keySecret(dtyp.GUID{1}), "store", "g$bckupkey_p"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		canonical, ok := canonicalSecret(name)
		if !ok {
			return
		}
		if again, ok := canonicalSecret(canonical); !ok || again != canonical {
			t.Fatalf("%q gives %q, and that %q", name, canonical, again)
		}
	})
}
