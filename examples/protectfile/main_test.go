package main

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed05845750/bkrp/bkrpserver"
	"github.com/seed05845750/bkrp/dpapi"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/keystore"
)

const (
	first  = "Correct.Horse.1"
	second = "Correct.Horse.2"
)

// domain is a server with the users alice and bob.
type domain struct {
	*testing.T
	addr  string
	store *keystore.Store
}

func startDomain(t *testing.T) *domain {
	t.Helper()
	sealer, err := keystore.CreateKeyFile(filepath.Join(t.TempDir(), "kek.bin"))
	if err != nil {
		t.Fatal(err)
	}
	backend := keystore.NewMemory()
	d := keystore.Domain{DNSName: "bkrp.example", NetBIOSName: "BKRP", SID: dtyp.MustParseSID("S-1-5-21-1-2-3")}
	if err := keystore.Create(t.Context(), backend, sealer, d); err != nil {
		t.Fatal(err)
	}
	store, err := keystore.Open(t.Context(), backend, sealer, keystore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"alice", "bob"} {
		if _, err := store.AddAccount(t.Context(), user, first); err != nil {
			t.Fatal(err)
		}
	}
	log := slog.New(slog.DiscardHandler)
	server, err := bkrpserver.New(bkrpserver.Config{Service: &bkrpserver.Service{Store: store, Logger: log}, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(context.Background(), l) }()
	t.Cleanup(func() {
		if err := server.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return &domain{T: t, addr: l.Addr().String(), store: store}
}

// protectfile runs the program.
func (d *domain) protectfile(verb, user, password, file string) (stdout, stderr string, code int) {
	d.Helper()
	var out, errs bytes.Buffer
	code = run(d.Context(), []string{verb, "--server", d.addr, "-U", `BKRP\` + user, file}, strings.NewReader(password+"\n"), &out, &errs)
	return out.String(), errs.String(), code
}

// TestForgottenPassword is the story of section 4: a file is protected, its owner
// forgets the password, an administrator sets another one, and the file opens.
func TestForgottenPassword(t *testing.T) {
	d := startDomain(t)
	name := filepath.Join(t.TempDir(), "notes.txt")
	const secret = "the key of the email that alice signs"
	if err := os.WriteFile(name, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, stderr, code := d.protectfile("seal", "alice", first, name); code != 0 {
		t.Fatal(stderr)
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if out, stderr, code := d.protectfile("open", "alice", first, name); code != 0 || out != secret {
		t.Fatalf("with the password: %q, %s", out, stderr)
	}
	if err := d.store.SetPassword(t.Context(), "alice", second); err != nil {
		t.Fatal(err)
	}
	if out, stderr, code := d.protectfile("open", "alice", first, name); code == 0 || out != "" {
		t.Errorf("with the password of before: %q, %s", out, stderr)
	}
	if out, stderr, code := d.protectfile("open", "alice", second, name); code != 0 || out != secret {
		t.Errorf("with the new password: %q, %s", out, stderr)
	}
	if out, stderr, code := d.protectfile("open", "bob", first, name); code == 0 || out != "" || !strings.Contains(stderr, "ERROR_INVALID_ACCESS") {
		t.Errorf("by somebody else: %q, %s", out, stderr)
	}
}

// TestWhatIsKept looks at the two files: one that other tools know, with nothing
// but the wrapped key in it, and one that does not open when it was altered.
func TestWhatIsKept(t *testing.T) {
	d := startDomain(t)
	name := filepath.Join(t.TempDir(), "notes.txt")
	if err := os.WriteFile(name, []byte("notes"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, stderr, code := d.protectfile("seal", "alice", first, name); code != 0 {
		t.Fatal(stderr)
	}
	encoded, err := os.ReadFile(name + ".mkf")
	if err != nil {
		t.Fatal(err)
	}
	f, err := dpapi.ParseFile(encoded)
	if err != nil || f.MasterKey != nil || f.BackupKey != nil || f.CredHist != nil || len(f.DomainKey) == 0 {
		t.Errorf("%+v, %v", f, err)
	}
	for _, suffix := range []string{".mkf", ".sealed"} {
		if info, err := os.Stat(name + suffix); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: %v, %v", suffix, info.Mode(), err)
		}
	}
	if _, stderr, code := d.protectfile("seal", "alice", first, name); code == 0 || !strings.Contains(stderr, "file exists") {
		t.Errorf("sealed once more, over the key of the first time: %s", stderr)
	}
	if err := os.Remove(name + ".mkf"); err != nil {
		t.Fatal(err)
	}
	if _, _, code := d.protectfile("seal", "alice", first, name); code == 0 {
		t.Error("sealed over another file")
	}
	if _, err := os.Stat(name + ".mkf"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the key of nothing is left behind: %v", err)
	}
	if err := os.WriteFile(name+".mkf", encoded, 0o600); err != nil {
		t.Fatal(err)
	}
	sealed, err := os.ReadFile(name + ".sealed")
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed, []byte("notes")) {
		t.Error("the file is there in the clear")
	}
	for at := range sealed {
		altered := bytes.Clone(sealed)
		altered[at] ^= 1
		if at > 3 && at < len(sealed)-3 {
			continue // one call each: the ends will do
		}
		if err := os.WriteFile(name+".sealed", altered, 0o600); err != nil {
			t.Fatal(err)
		}
		if out, stderr, code := d.protectfile("open", "alice", first, name); code == 0 || out != "" || !strings.Contains(stderr, "was altered") {
			t.Errorf("octet %d altered: %q, %s", at, out, stderr)
		}
	}
}

func TestCommandLine(t *testing.T) {
	for _, args := range [][]string{
		{}, {"lock"}, {"seal"}, {"seal", "--server", "x", "notes"}, {"open", "--server", "x", "-U", "alice", "notes"},
		{"open", "--server", "x", "-U", `BKRP\alice`}, {"open", "--sever", "x"},
		{"open", "--server", "127.0.0.1:1", "-U", `BKRP\alice`, "notes"}, // no password
	} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), args, strings.NewReader(""), &out, &errs); code == 0 || out.Len() != 0 || errs.Len() == 0 {
			t.Errorf("%q: exit code %d, %q, %q", args, code, out.String(), errs.String())
		}
	}
}
