package krb5

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/internal/gss"
)

// What Samba wrote is read, and comes out as it was when it is written again.
func TestKeytab(t *testing.T) {
	b := transcripts(t)["samba-smb-1.json"].Keytab
	entries, err := parseKeytab(b)
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for _, e := range entries {
		seen[e.service.String()+"@"+e.realm+" "+e.key.Type.String()] = true
	}
	for _, want := range []string{
		"cifs/srv1.bkrp.test@BKRP.TEST aes256-cts-hmac-sha1-96", "host/srv1.bkrp.test@BKRP.TEST aes128-cts-hmac-sha1-96",
		"svc-srv1@BKRP.TEST aes256-cts-hmac-sha1-96",
	} {
		if !seen[want] {
			t.Errorf("no %s among %v", want, seen)
		}
	}
	again, err := parseKeytab(marshalKeytab(entries))
	if err != nil || len(again) != len(entries) {
		t.Fatalf("%d entries, %v", len(again), err)
	}
	for n := range len(b) {
		// Cut anywhere it is an error or, between entries, a shorter keytab.
		if e, err := parseKeytab(b[:n]); err == nil && len(e) >= len(entries) {
			t.Errorf("cut to %d octets: %d entries", n, len(e))
		}
	}
}

func TestKeytabChoosesKeys(t *testing.T) {
	k := func(b byte) Key { return Key{AES128SHA1, bytes.Repeat([]byte{b}, 16)} }
	name := func(parts ...string) principal { return principal{1, parts} }
	keys := keytab{
		{realm: "A", service: name("host", "x"), kvno: 1, key: k(1)},
		{realm: "A", service: name("host", "x"), kvno: 2, key: k(2)},
		{realm: "A", service: name("cifs", "x"), kvno: 2, key: k(2)},
		{realm: "A", service: name("cifs", "y"), kvno: 300 & 0xFF, key: k(3)},
		{realm: "A", service: name("cifs", "z"), kvno: 300, wide: true, key: k(4)},
	}
	for _, tt := range []struct {
		service principal
		kvno    uint32
		want    string
		err     error
	}{
		{name("cifs", "X"), 2, "\x02", nil},
		{name("ProtectedStorage", "x"), 1, "\x01", nil},
		{name("host", "x"), 0, "\x01\x02", nil},
		{name("host", "x"), 3, "", errKeyVersion},
		{name("cifs", "y"), 300, "\x03", nil},
		{name("cifs", "z"), 300, "\x04", nil},
		{name("cifs", "z"), 300 & 0xFF, "", errKeyVersion},
		{name("host", "y"), 44, "", errService},
		{name("x"), 1, "", errService},
		{name("host", "x", "A"), 1, "", errService},
	} {
		got, err := keys.candidates("a", tt.service, encrypted{etype: AES128SHA1, kvno: tt.kvno, hasKvno: tt.kvno != 0})
		text := ""
		for _, e := range got {
			text += string(e.key.Value[:1])
		}
		if text != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("%v, version %d: keys %x, %v", tt.service, tt.kvno, text, err)
		}
	}
}

// A keytab that is replaced is read at the next logon; one that is damaged or
// away is not.
func TestKeytabFileChanges(t *testing.T) {
	var logged bytes.Buffer
	f := forge(t)
	a := f.acceptor(t, Config{Log: slog.New(slog.NewTextHandler(&logged, nil))})
	logon := func() error {
		_, _, err := a.Accept(gss.AcceptOptions{}).Step(t.Context(), f.seal(t, true))
		return err
	}
	if err := logon(); err != nil {
		t.Fatal(err)
	}
	path := a.keytab.path
	replace := func(b []byte) {
		t.Helper()
		if err := os.WriteFile(path+".new", b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	// A new version of the key, beside the old one.
	entries, err := parseKeytab(f.keytab)
	if err != nil {
		t.Fatal(err)
	}
	next := f.service
	next.kvno, next.key = f.kvno+1, drawKey(t, f.service.key.Type)
	f.service, f.kvno, f.sign, f.signer = next, next.kvno, true, next.key
	if err := logon(); !errors.Is(err, errKeyVersion) {
		t.Fatalf("before the keytab has it: %v", err)
	}
	replace(marshalKeytab(append(entries, next)))
	if err := logon(); err != nil {
		t.Fatalf("with the new key: %v", err)
	}
	if !strings.Contains(logged.String(), "keytab read again") {
		t.Errorf("log: %s", logged.String())
	}
	for name, b := range map[string][]byte{"damaged": {5, 2, 0, 0, 1, 0, 1}, "empty": nil, "another format": []byte("xy")} {
		logged.Reset()
		a.keytab.fault = "" // two of them read the same in the log, which says so once
		replace(b)
		if err := logon(); err != nil || !strings.Contains(logged.String(), "keytab not usable") {
			t.Errorf("%s: %v, log %s", name, err, logged.String())
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		logged.Reset()
		if err := logon(); err != nil || strings.Contains(logged.String(), "keytab not usable") != (i == 0) {
			t.Errorf("away: %v, log %s", err, logged.String())
		}
	}
	// Back, with other keys: changed in place, its size the same.
	f.service.key = drawKey(t, f.service.key.Type)
	f.signer = f.service.key
	replace(marshalKeytab([]keytabEntry{f.service}))
	if err := logon(); err != nil {
		t.Error(err)
	}
	f.service.key = drawKey(t, f.service.key.Type)
	f.signer = f.service.key
	if err := os.WriteFile(path, marshalKeytab([]keytabEntry{f.service}), 0o600); err != nil {
		t.Fatal(err)
	}
	later := time.Now().Add(time.Minute)
	if err := os.Chtimes(path, later, later); err != nil {
		t.Fatal(err)
	}
	if err := logon(); err != nil {
		t.Error(err)
	}
}

func TestKeytabAtStart(t *testing.T) {
	if _, err := NewAcceptor(Config{Keytab: filepath.Join(t.TempDir(), "none")}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	for name, b := range map[string][]byte{
		"empty": {5, 2}, "old": {5, 1, 0, 0}, "DES only": marshalKeytab([]keytabEntry{{realm: "A", service: principal{1, []string{"x"}}, key: Key{3, make([]byte, 8)}}}),
		"long": make([]byte, maxKeytab+1),
	} {
		if _, err := NewAcceptor(Config{Keytab: writeKeytab(t, b)}); !errors.Is(err, errKeytab) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
