package krb5

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/seed05845750/bkrp/internal/gss"
)

// A keytab that others may read is none, at the start and afterwards.
func TestKeytabMode(t *testing.T) {
	f := forge(t)
	for mode, want := range map[os.FileMode]struct {
		err    error
		logged bool
	}{
		0o600: {}, 0o400: {}, 0o640: {logged: true}, 0o440: {logged: true},
		0o644: {err: errKeytab}, 0o660: {err: errKeytab}, 0o602: {err: errKeytab}, 0o604: {err: errKeytab},
	} {
		path := writeKeytab(t, f.keytab)
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		var logged bytes.Buffer
		_, err := NewAcceptor(Config{Keytab: path, Log: slog.New(slog.NewTextHandler(&logged, nil))})
		if !errors.Is(err, want.err) || err != nil && !strings.Contains(err.Error(), "chmod 600 "+path) {
			t.Errorf("mode %o: %v", mode, err)
		}
		if strings.Contains(logged.String(), "a group may read the keytab") != want.logged {
			t.Errorf("mode %o: log %s", mode, logged.String())
		}
	}
	if _, err := NewAcceptor(Config{Keytab: t.TempDir()}); !errors.Is(err, errKeytab) {
		t.Errorf("a directory: %v", err)
	}
}

// What is wrong with a keytab is said once, and again when it is something
// else; when its mode is put right it is read.
func TestKeytabFaultsInLog(t *testing.T) {
	var logged bytes.Buffer
	f := forge(t)
	now := f.now
	path := writeKeytab(t, f.keytab)
	file, err := openKeytab(path, slog.New(slog.NewTextHandler(&logged, nil)))
	if err != nil {
		t.Fatal(err)
	}
	said := func(want string) {
		t.Helper()
		if len(file.current(now)) == 0 {
			t.Error("the keys are gone")
		}
		if (want == "") != (logged.Len() == 0) || !strings.Contains(logged.String(), want) {
			t.Errorf("log %q, want %q", logged.String(), want)
		}
		logged.Reset()
	}
	said("")
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	said("chmod 600")
	said("")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	said("no such file")
	for range 3 {
		said("")
	}
	now = now.Add(repeatFault)
	said("no such file")
	if err := os.WriteFile(path, f.keytab, 0o640); err != nil {
		t.Fatal(err)
	}
	said("keytab read again")
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	said("chmod 600")
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	said("keytab read again")
}

// Who holds the realm's own keys holds more than a server should.
func TestKeytabOfTheRealm(t *testing.T) {
	f := forge(t)
	entries, err := parseKeytab(f.keytab)
	if err != nil {
		t.Fatal(err)
	}
	for _, parts := range [][]string{{"krbtgt", "BKRP.TEST"}, {"KRBTGT", "OTHER.TEST"}, {"krbtgt"}, {"K", "M"}} {
		e := keytabEntry{realm: "BKRP.TEST", service: principal{2, parts}, kvno: 1, key: drawKey(t, AES256SHA1)}
		_, err := NewAcceptor(Config{Keytab: writeKeytab(t, marshalKeytab(append(entries, e)))})
		if !errors.Is(err, errKeytab) || !strings.Contains(err.Error(), strings.Join(parts, "/")+"@BKRP.TEST") {
			t.Errorf("%v: %v", parts, err)
		}
	}
}

// A user whose key is in the keytab cannot make tickets for a service of his
// own name; the account that the service runs under has the service's key, and
// a machine has its own.
func TestKeytabOfUsers(t *testing.T) {
	var logged bytes.Buffer
	f := forge(t)
	entries, err := parseKeytab(f.keytab)
	if err != nil {
		t.Fatal(err)
	}
	user, machine := f.service, f.service
	user.service, user.key = principal{1, []string{"bob"}}, drawKey(t, AES256SHA1)
	machine.service, machine.key = principal{1, []string{"SRV1$"}}, drawKey(t, AES256SHA1)
	f.keytab = marshalKeytab(append(entries, user, user, machine))
	a := f.acceptor(t, Config{Log: slog.New(slog.NewTextHandler(&logged, nil))})
	if text := logged.String(); strings.Count(text, "keys of users") != 1 || !strings.Contains(text, "users=[bob@BKRP.TEST]") {
		t.Errorf("log: %s", text)
	}
	account := f.service
	account.service = principal{1, []string{"svc-srv1"}}
	for _, tt := range []struct {
		service keytabEntry
		err     error
	}{{user, errService}, {machine, nil}, {account, nil}} {
		f.service, f.kvno, f.signer, f.sign = tt.service, tt.service.kvno, tt.service.key, true
		f.ticket.service = tt.service.service
		f.auth.cusec++ // no replay of the one before
		if _, _, err := a.Accept(gss.AcceptOptions{}).Step(t.Context(), f.seal(t, true)); !errors.Is(err, tt.err) {
			t.Errorf("%v: %v", tt.service.service, err)
		}
	}
	if _, err := NewAcceptor(Config{Keytab: writeKeytab(t, marshalKeytab([]keytabEntry{user}))}); !errors.Is(err, errKeytab) {
		t.Errorf("users alone: %v", err)
	}
}

// Outside of its seal a ticket says of its realm what the client likes. It does
// not make a foreign realm ours.
func TestRealmOutsideTheSeal(t *testing.T) {
	f := forge(t)
	f.part.realm, f.auth.realm, f.ticket.realm = "bkrp.test", "bkrp.test", "bkrp.test"
	if _, _, _, err := f.try(t, Config{DomainSID: ownDomain(t)}, 0); !errors.Is(err, errForeignSID) {
		t.Errorf("error %v", err)
	}
}
