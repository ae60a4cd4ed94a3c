package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/seed05845750/bkrp/internal/backup"
	"github.com/seed05845750/bkrp/keystore"
)

// backend opens what is under the test's store, which nobody has open, for as
// long as use takes.
func (k *keysTest) backend(use func(keystore.Backend)) {
	k.Helper()
	cfg, err := loadConfig(k.config, nil)
	if err != nil {
		k.Fatal(err)
	}
	b, err := openBackend(k.Context(), cfg)
	if err != nil {
		k.Fatal(err)
	}
	use(b)
	if err := b.Close(); err != nil {
		k.Error(err)
	}
}

// rotate makes n server keys.
func (k *keysTest) rotate(n int) {
	k.Helper()
	k.store(func(s *keystore.Store) {
		for range n {
			if _, err := s.RotateServerWrapKey(k.Context()); err != nil {
				k.Fatal(err)
			}
		}
	})
}

// fails fails the test unless a command line does so and says why.
func (k *keysTest) fails(why string, arg ...string) (stdout string) {
	k.Helper()
	code, stdout, stderr := k.run(arg...)
	if code != 1 || !strings.Contains(stderr, why) {
		k.Fatalf("%q: exit code %d, wanted %q in: %s", arg, code, why, stderr)
	}
	return stdout
}

// A store that is damaged is not backed up by accident; what is whole of it can
// be, and what is not is named until it is restored.
func TestBackupOfDamagedStore(t *testing.T) {
	k := newKeysTest(t)
	k.rotate(3)
	to := k.recipient("id")
	var name string
	k.backend(func(b keystore.Backend) {
		entries, err := b.List(t.Context(), keystore.SecretPrefix)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if len(e.Value) > 256 {
				name = e.Name
				if _, err := b.CompareAndSwap(t.Context(), e.Name, e.Revision, flipLast(e.Value)); err != nil {
					t.Fatal(err)
				}
				break
			}
		}
	})
	k.fails("entries of the store are damaged: "+name, "backup", "-o", k.path("b"), "--to", to, "--config", k.config)
	if _, err := os.Lstat(k.path("b")); err == nil {
		t.Error("there is a file")
	}
	_, stderr := k.ok("backup", "-o", k.path("b"), "--to", to, "--skip-damaged", "--config", k.config)
	if !strings.Contains(stderr, "warning: "+name+" is damaged in the store") {
		t.Errorf("%s", stderr)
	}
	report := k.fails("the backup is not whole", "drill", k.path("b"), "--identity", k.path("id"))
	guid := strings.TrimPrefix(name, keystore.SecretPrefix)
	if !strings.Contains(report, guid) || !strings.Contains(report, "is damaged") || !strings.Contains(report, "2 of 3 keys open") {
		t.Errorf("%s", report)
	}
	var parsed drillReport
	if err := json.Unmarshal([]byte(k.fails("not whole", "drill", k.path("b"), "--identity", k.path("id"), "--json")), &parsed); err != nil {
		t.Fatal(err)
	}
	if parsed.OK || len(parsed.Keys) != 3 || len(parsed.Damaged) != 1 || parsed.Damaged[0] != name {
		t.Errorf("%+v", parsed)
	}
	cfg := k.elsewhere("restored")
	_, stderr = k.ok("restore", k.path("b"), "--identity", k.path("id"), "--config", cfg)
	if !strings.Contains(stderr, "warning: in the backup, and so in the store: ") || !strings.Contains(stderr, name) {
		t.Errorf("%s", stderr)
	}
}

// elsewhere is a configuration of the test's domain whose store is not there yet.
func (k *keysTest) elsewhere(name string) (config string) {
	k.Helper()
	dir := k.path(name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		k.Fatal(err)
	}
	config = filepath.Join(dir, configName)
	if err := os.WriteFile(config, k.read(k.config), 0o600); err != nil {
		k.Fatal(err)
	}
	return config
}

// What cannot be accounted for, or would not be encrypted, is not handed out.
func TestBackupNeedsTrailAndRecipient(t *testing.T) {
	k := newKeysTest(t)
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	k.store(func(store *keystore.Store) {
		good := &backupRequest{To: []string{id.Recipient().String()}}
		broken := &keyAudit{Log: slog.New(failing{slog.DiscardHandler})}
		resp := administer(t.Context(), store, &adminRequest{Verb: verbBackup, Backup: good}, broken)
		if !strings.Contains(resp.Error, "audit trail could not be written") || resp.Backup != nil {
			t.Errorf("%q, %v", resp.Error, resp.Backup != nil)
		}
		var log bytes.Buffer
		audit := &keyAudit{Log: slog.New(slog.NewTextHandler(&log, nil)), UID: 7}
		for _, bad := range []*backupRequest{nil, {}, {To: []string{"age1x"}}, {To: []string{id.String()}},
			{To: good.To, Verifier: []byte("x")}, {Verifier: good.Verifier}} {
			resp := administer(t.Context(), store, &adminRequest{Verb: verbBackup, Backup: bad}, audit)
			if resp.Error == "" || resp.Backup != nil || strings.Contains(resp.Error, id.String()) {
				t.Errorf("%+v: %q", bad, resp.Error)
			}
		}
		if !strings.Contains(log.String(), "level=WARN msg=audit action=backup uid=7 status=refused") {
			t.Errorf("refusals are not on the trail: %s", log.String())
		}
	})
}

// A key in a token is named, and does not make a backup fail that cannot have it.
func TestDrillOfTokenKey(t *testing.T) {
	ctx, backend, sealer := t.Context(), keystore.NewMemory(), keystore.NewThrowAwaySealer()
	domain := keystore.Domain{DNSName: "bkrp.example", NetBIOSName: "BKRP", SID: keystore.RandomDomainSID()}
	if err := keystore.Create(ctx, backend, sealer, domain); err != nil {
		t.Fatal(err)
	}
	store, err := keystore.Open(ctx, backend, sealer, keystore.Options{Tokens: softToken{}, KeysInToken: true})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	inToken, err := store.CurrentClientWrapKey(ctx)
	if err != nil {
		t.Fatal(err)
	}
	locked, err := store.CurrentServerWrapKey(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.RotateServerWrapKey(ctx); err != nil {
		t.Fatal(err)
	}
	if err := store.SetKeyState(ctx, locked.GUID(), keystore.KeyLocked); err != nil {
		t.Fatal(err)
	}
	dump, err := store.Dump(ctx)
	if err != nil {
		t.Fatal(err)
	}
	r, err := drill(ctx, backup.New(dump, "test", time.Now()), new(atomic.Int64))
	if err != nil {
		t.Fatal(err)
	}
	if !r.OK || len(r.Keys) != 3 {
		t.Errorf("%+v", r)
	}
	for _, key := range r.Keys {
		want := resultOpens
		if key.GUID == inToken.GUID() {
			want = resultToken
		}
		if key.Result != want || (key.State == keystore.KeyLocked) != (key.GUID == locked.GUID()) {
			t.Errorf("key %+v, want %q", key, want)
		}
	}
	var out bytes.Buffer
	if err := r.print(&out); err != nil || !strings.Contains(out.String(), "2 of 3 keys open what is wrapped under them, 1 need their token") {
		t.Errorf("%s, %v", out.String(), err)
	}
}

// The file gets its name after the shares have been shown, and they are not shown
// before it is whole.
func TestWriteBackup(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "b.bkrp")
	names := func() (list []string) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			list = append(list, e.Name())
		}
		return list
	}
	failure := errors.New("no paper")
	err := writeBackup(path, []byte("content"), func() error {
		// Whoever is killed here leaves this, and nothing that looks like a backup.
		got := names()
		if len(got) != 1 || !strings.HasPrefix(got[0], ".b.bkrp.partial-") {
			t.Errorf("there are %q", got)
		} else if b, err := os.ReadFile(filepath.Join(dir, got[0])); err != nil || string(b) != "content" {
			t.Errorf("it has %q, %v", b, err)
		}
		return failure
	})
	if !errors.Is(err, failure) || len(names()) != 0 {
		t.Errorf("%v, and there are %q", err, names())
	}
	if err := writeBackup(path, []byte("content"), func() error { return nil }); err != nil || len(names()) != 1 {
		t.Fatalf("%v, and there are %q", err, names())
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := writeBackup(path, []byte("other"), func() error { return nil }); !errors.Is(err, os.ErrExist) || len(names()) != 1 {
		t.Errorf("%v, and there are %q", err, names())
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "content" {
		t.Errorf("the file has %q now, %v", b, err)
	}
}

// asProcess runs a command line in a process of its own, which is killed after a
// while, and reports whether that came before it ended.
func (k *keysTest) asProcess(after time.Duration, arg ...string) (killed bool) {
	k.Helper()
	program := k.path("bkrpd")
	if _, err := os.Lstat(program); err != nil {
		self, err := os.Executable()
		if err == nil {
			err = os.Symlink(self, program) // by this name it is the program, as in scripts
		}
		if err != nil {
			k.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(k.Context(), after)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, arg...) // kills by SIGKILL
	out, err := cmd.CombinedOutput()
	if err != nil && ctx.Err() == nil {
		k.Fatalf("%q: %v: %s", arg, err, out)
	}
	return ctx.Err() != nil
}

// A restore that is killed at any moment leaves nothing that is served as whole,
// and the next one completes it. A backup that is killed leaves no file, or a
// whole one.
func TestBackupAndRestoreKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("kills processes for some seconds; not with -short")
	}
	k := newKeysTest(t)
	k.rotate(40)
	to := k.recipient("id")
	k.ok("backup", "-o", k.path("b"), "--to", to, "--config", k.config)
	begin := time.Now()
	if k.asProcess(time.Minute, "restore", k.path("b"), "--identity", k.path("id"), "--config", k.elsewhere("first")) {
		t.Fatal("a restore takes more than a minute")
	}
	whole := time.Since(begin)
	killed, halves := 0, 0
	for i := range 12 {
		config := k.elsewhere(fmt.Sprint("restored", i))
		arg := []string{"restore", k.path("b"), "--identity", k.path("id"), "--config", config}
		if k.asProcess(rand.N(whole), arg...) {
			killed++
		}
		code, _, stderr := k.run("keys", "list", "--config", config)
		if code != 0 {
			// What the second restore says is that it is needed no more, or nothing.
			halves++
			if code, _, stderr := k.run(arg...); code != 0 {
				t.Fatalf("the second restore: %s", stderr)
			}
		} else if strings.Contains(stderr, "no keys yet") {
			t.Fatalf("half a store is served: %s", stderr)
		}
		k.ok("backup", "-o", k.path(fmt.Sprint("again", i)), "--to", to, "--config", config)
		stdout, _ := k.ok("drill", k.path(fmt.Sprint("again", i)), "--identity", k.path("id"))
		if !strings.Contains(stdout, "40 of 40 keys open") {
			t.Fatalf("%s", stdout)
		}
	}
	t.Logf("%d restores of %v killed, %d left half a store, and all were completed", killed, whole, halves)
	for i := range 12 {
		path := k.path(fmt.Sprint("killed", i))
		k.asProcess(rand.N(whole), "backup", "-o", path, "--to", to, "--config", k.config)
		if _, err := os.Lstat(path); err == nil {
			k.ok("drill", path, "--identity", k.path("id"))
		}
	}
}

// flipLast is a value with its last bit flipped.
func flipLast(value []byte) []byte {
	value[len(value)-1] ^= 1
	return value
}
