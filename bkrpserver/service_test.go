package bkrpserver_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/bkrpserver"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/keystore"
)

var (
	alice = bkrpserver.Caller{SID: dtyp.MustParseSID("S-1-5-21-1-2-3-1104"), Domain: "BKRP", Name: "alice", Mechanism: "ntlm"}
	bob   = bkrpserver.Caller{SID: dtyp.MustParseSID("S-1-5-21-1-2-3-1105"), Domain: "BKRP", Name: "bob", Mechanism: "ntlm"}
)

// fixture is a service on a store in memory that keeps its audit trail.
type fixture struct {
	*bkrpserver.Service
	t       *testing.T
	backend keystore.Backend
	events  []bkrpserver.Event
	log     bytes.Buffer
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	sealer, err := keystore.CreateKeyFile(filepath.Join(t.TempDir(), "kek.bin"))
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, backend: keystore.NewMemory()}
	domain := keystore.Domain{DNSName: "bkrp.example", NetBIOSName: "BKRP", SID: dtyp.MustParseSID("S-1-5-21-1-2-3")}
	if err := keystore.Create(t.Context(), f.backend, sealer, domain); err != nil {
		t.Fatal(err)
	}
	store, err := keystore.Open(t.Context(), f.backend, sealer, keystore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	f.Service = &bkrpserver.Service{
		Store:  store,
		Logger: slog.New(slog.NewTextHandler(&f.log, nil)),
		Audit: func(_ context.Context, e *bkrpserver.Event) error {
			f.events = append(f.events, *e)
			return nil
		},
	}
	return f
}

// must is a call that succeeds.
func (f *fixture) must(c bkrpserver.Caller, a bkrp.Action, in []byte) []byte {
	f.t.Helper()
	out, status := f.BackuprKey(f.t.Context(), c, a, in)
	if status != bkrp.StatusOK {
		f.t.Fatalf("%v: %v: %s", a, status, f.last().Reason)
	}
	if e := f.last(); e.Status != status || e.Action != a || e.Caller != c || e.Reason != "" {
		f.t.Fatalf("audit event does not tell of the call: %+v", e)
	}
	return out
}

// refused is a call that gets this status, no output, and an audit event.
func (f *fixture) refused(want bkrp.Status, c bkrpserver.Caller, a bkrp.Action, in []byte) {
	f.t.Helper()
	before := len(f.events)
	out, status := f.BackuprKey(f.t.Context(), c, a, in)
	if status != want || out != nil {
		f.t.Errorf("%v: got %v and %d octets, want %v and none", a, status, len(out), want)
	}
	if len(f.events) != before+1 || f.last().Status != want || f.last().Reason == "" {
		f.t.Errorf("%v: audit trail does not say why: %+v", a, f.events[before:])
	}
}

func (f *fixture) last() bkrpserver.Event { return f.events[len(f.events)-1] }

// certificate is the domain's, by way of the service.
func (f *fixture) certificate() *bkrp.Certificate {
	f.t.Helper()
	cert, err := bkrp.ParseCertificate(f.must(alice, bkrp.ActionRetrieve, nil))
	if err != nil {
		f.t.Fatal(err)
	}
	return cert
}

func (f *fixture) wrapClient(secret []byte, version uint32) []byte {
	f.t.Helper()
	blob, err := bkrp.WrapClient(f.certificate(), alice.SID, secret, version)
	if err != nil {
		f.t.Fatal(err)
	}
	return blob
}

func randomSecret(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func TestActions(t *testing.T) {
	t.Run("S-3.1.4.1-07 S-3.1.4.1-08 BACKUP and RESTORE_WIN2K", func(t *testing.T) {
		f := newFixture(t)
		for _, n := range []int{1, 8, 64, 4096, 64 << 10} {
			secret := randomSecret(n)
			blob := f.must(alice, bkrp.ActionBackup, secret)
			if got := f.must(alice, bkrp.ActionRestoreWin2K, blob); !bytes.Equal(got, secret) {
				t.Errorf("%d octets do not come back", n)
			}
			w, err := bkrp.ParseServerWrapped(blob)
			if err != nil || f.last().Key != w.KeyGUID || f.last().Owner != alice.SID {
				t.Errorf("audit event %+v does not name the key and the owner of %+v (%v)", f.last(), w, err)
			}
			f.refused(bkrp.StatusInvalidAccess, bob, bkrp.ActionRestoreWin2K, blob)
			if f.last().Owner != alice.SID {
				t.Errorf("audit event does not say whose secret bob asked for: %+v", f.last())
			}
		}
	})
	for _, version := range []uint32{2, 3} {
		t.Run("S-3.1.4.1-09 S-3.1.4.1-10 RETRIEVE and RESTORE", func(t *testing.T) {
			f := newFixture(t)
			for _, n := range []int{1, 64, bkrp.MaxClientSecret(256, version)} {
				secret := randomSecret(n)
				blob := f.wrapClient(secret, version)
				out := f.must(alice, bkrp.ActionRestore, blob)
				if want := append(make([]byte, 4), secret...); !bytes.Equal(out, want) { // L-6
					t.Errorf("version %d: %d octets do not come back behind four zeros", version, n)
				}
				f.refused(bkrp.StatusInvalidAccess, bob, bkrp.ActionRestore, blob)
			}
		})
		t.Run("S-3.1.4.1.2.2 crossover: ClientWrap blob to RESTORE_WIN2K", func(t *testing.T) {
			f := newFixture(t)
			secret := randomSecret(64)
			blob := f.wrapClient(secret, version)
			out := f.must(alice, bkrp.ActionRestoreWin2K, blob)
			if binary.LittleEndian.Uint32(out) != 1 || len(out) != 4+16+16+20+len(secret) { // L-10, L-11
				t.Fatalf("not an UnwrappedSecret: %d octets", len(out))
			}
			again := f.must(alice, bkrp.ActionRestoreWin2K, blob)
			if bytes.Equal(out[4:20], again[4:20]) {
				t.Error("EncSalt is not drawn anew") // S-3.1.4.1.2.2-03
			}
			f.refused(bkrp.StatusInvalidAccess, bob, bkrp.ActionRestoreWin2K, blob)
			blob[len(blob)-1] ^= 1
			f.refused(bkrp.StatusInvalidData, alice, bkrp.ActionRestoreWin2K, blob) // S-3.1.4.1.2.2-01
		})
	}
	t.Run("S-3.1.4.1.4-02 A-17 crossover: ServerWrap blob to RESTORE", func(t *testing.T) {
		f := newFixture(t)
		secret := randomSecret(64)
		blob := f.must(alice, bkrp.ActionBackup, secret)
		if out := f.must(alice, bkrp.ActionRestore, blob); !bytes.Equal(out, secret) {
			t.Error("not the bare secret")
		}
		f.refused(bkrp.StatusInvalidAccess, bob, bkrp.ActionRestore, blob)
	})
	t.Run("S-3.1.4.1.3-01 RETRIEVE ignores its input", func(t *testing.T) {
		f := newFixture(t)
		f.MaxInput = 1 << 10
		want := f.must(alice, bkrp.ActionRetrieve, nil)
		for _, in := range [][]byte{randomSecret(1), randomSecret(64), randomSecret(8 << 10)} {
			if !bytes.Equal(f.must(bob, bkrp.ActionRetrieve, in), want) {
				t.Error("another certificate")
			}
		}
	})
}

func TestRefusals(t *testing.T) {
	f := newFixture(t)
	serverBlob := f.must(alice, bkrp.ActionBackup, randomSecret(64))
	clientBlob := f.wrapClient(randomSecret(64), 2)
	restores := []bkrp.Action{bkrp.ActionRestore, bkrp.ActionRestoreWin2K}

	t.Run("S-3.1.4.1-17 unknown action", func(t *testing.T) {
		f.refused(bkrp.StatusInvalidParameter, alice, bkrp.Action(dtyp.MustParseGUID("00000000-0000-0000-0000-000000000001")), serverBlob)
	})
	t.Run("A-22 empty secret", func(t *testing.T) {
		f.refused(bkrp.StatusInvalidParameter, alice, bkrp.ActionBackup, nil)
	})
	t.Run("A-54 input over the limit", func(t *testing.T) {
		f.MaxInput = 4096
		defer func() { f.MaxInput = 0 }()
		f.must(alice, bkrp.ActionBackup, randomSecret(4096))
		f.refused(bkrp.StatusInvalidParameter, alice, bkrp.ActionBackup, randomSecret(4097))
	})
	t.Run("S-3.1.4.1.2-03 S-3.1.4.1.4-04 neither kind of blob", func(t *testing.T) {
		for _, a := range restores {
			for _, in := range [][]byte{nil, {1}, {1, 0, 0}, {1, 0, 0, 0}, {2, 0, 0, 0}, {3, 0, 0, 0}, {78, 0, 0, 0}, make([]byte, 512)} {
				f.refused(bkrp.StatusInvalidParameter, alice, a, in)
			}
		}
	})
	t.Run("A-10 ClientWrap blob that says it is ServerWrap", func(t *testing.T) {
		in := slices.Clone(clientBlob)
		in[0] = 1
		for _, a := range restores {
			f.refused(bkrp.StatusInvalidParameter, alice, a, in)
		}
	})
	t.Run("A-52 W-2.2.2-10 lengths that do not fit", func(t *testing.T) {
		for _, blob := range [][]byte{serverBlob, clientBlob} {
			for _, a := range restores {
				f.refused(bkrp.StatusInvalidParameter, alice, a, append(slices.Clone(blob), 0))
				f.refused(bkrp.StatusInvalidParameter, alice, a, blob[:len(blob)-1])
				long := slices.Clone(blob)
				binary.LittleEndian.PutUint32(long[8:], 0xFFFFFFFF)
				f.refused(bkrp.StatusInvalidParameter, alice, a, long)
			}
		}
	})
	t.Run("S-3.1.4.1.2.1-08 S-3.1.4.1.2.1-13 each octet of a ServerWrap blob", func(t *testing.T) {
		for i := range serverBlob {
			in := slices.Clone(serverBlob)
			in[i] ^= 0x40
			want := bkrp.StatusInvalidAccess // R2, MAC, SID, Secret
			switch {
			case i < 12: // fixed word, Payload_Length, Ciphertext_Length
				want = bkrp.StatusInvalidParameter
			case i < 28: // GUID_of_Wrapping_Key
				want = bkrp.StatusFileNotFound
			}
			f.refused(want, alice, bkrp.ActionRestoreWin2K, in)
		}
	})
	t.Run("A-09 each octet of a ClientWrap blob", func(t *testing.T) {
		for i := range clientBlob {
			in := slices.Clone(clientBlob)
			in[i] ^= 0x40
			want := bkrp.StatusInvalidData // EncryptedSecret, AccessCheck
			switch {
			case i < 12: // dwVersion, cbEncryptedSecret, cbAccessCheck
				want = bkrp.StatusInvalidParameter
			case i < 28: // guidKey
				want = bkrp.StatusFileNotFound
			}
			f.refused(want, alice, bkrp.ActionRestore, in)
		}
	})
	t.Run("A-40 anonymous, guest and nobody", func(t *testing.T) {
		for _, sid := range []string{"", "S-1-0-0", "S-1-1-0", "S-1-5-7", "S-1-5-21-1-2-3-501"} {
			c := bkrpserver.Caller{}
			if sid != "" {
				c.SID = dtyp.MustParseSID(sid)
			}
			for _, a := range []bkrp.Action{bkrp.ActionBackup, bkrp.ActionRestore, bkrp.ActionRestoreWin2K, bkrp.ActionRetrieve} {
				f.refused(bkrp.StatusAccessDenied, c, a, serverBlob)
			}
		}
	})
	if !strings.Contains(f.last().Reason, "anonymous") {
		t.Errorf("reason for the operator: %q", f.last().Reason)
	}
}

// TestWrongMAC covers A-12: one code in each setting, whether what decrypts has
// a SID in it or not.
func TestWrongMAC(t *testing.T) {
	f := newFixture(t)
	blob := f.must(alice, bkrp.ActionBackup, randomSecret(64))
	for codes, want := range map[bkrpserver.ErrorCodes]bkrp.Status{
		bkrpserver.SpecCodes: bkrp.StatusInvalidAccess, bkrpserver.WindowsCodes: bkrp.StatusInvalidSID,
	} {
		f.ErrorCodes = codes
		for _, at := range []int{28, 96 + 32, 96 + 52, 96 + 52 + 1, 96 + 52 + 27, len(blob) - 1} { // R2, MAC, SID, Secret
			in := slices.Clone(blob)
			in[at] ^= 0x81
			f.refused(want, alice, bkrp.ActionRestoreWin2K, in)
		}
		f.refused(bkrp.StatusInvalidAccess, bob, bkrp.ActionRestoreWin2K, blob) // S-3.1.4.1.2.1-11
	}
}

// TestUnknownKeys covers A-08: absent keys and keys of the other kind.
func TestUnknownKeys(t *testing.T) {
	for _, c := range []struct {
		codes bkrpserver.ErrorCodes
		want  bkrp.Status
	}{{bkrpserver.SpecCodes, bkrp.StatusFileNotFound}, {bkrpserver.WindowsCodes, bkrp.StatusInvalidData}} {
		f := newFixture(t)
		f.ErrorCodes = c.codes
		server := f.must(alice, bkrp.ActionBackup, randomSecret(64))
		client := f.wrapClient(randomSecret(64), 3)
		serverKey, clientKey := slices.Clone(server[12:28]), slices.Clone(client[12:28])
		t.Run("S-3.1.4.1.4-06 S-3.1.4.1.2.1-03 kind of the other subprotocol", func(t *testing.T) {
			copy(server[12:], clientKey)
			copy(client[12:], serverKey)
			f.refused(c.want, alice, bkrp.ActionRestoreWin2K, server)
			f.refused(c.want, alice, bkrp.ActionRestore, client)
		})
		t.Run("S-3.1.4.1.4-07 S-3.1.4.1.2.1-04 no such key", func(t *testing.T) {
			rand.Read(server[12:28])
			rand.Read(client[12:28])
			f.refused(c.want, alice, bkrp.ActionRestoreWin2K, server)
			f.refused(c.want, alice, bkrp.ActionRestore, client)
		})
	}
}

// TestSrvKeyForms covers A-01: what was wrapped under either form opens under
// both settings.
func TestSrvKeyForms(t *testing.T) {
	f := newFixture(t)
	secret := randomSecret(64)
	var blobs [][]byte
	forms := []bkrp.SrvKeyForm{bkrp.SrvKeyFull, bkrp.SrvKeyLeading64}
	for _, form := range forms {
		f.SrvKey = form
		blobs = append(blobs, f.must(alice, bkrp.ActionBackup, secret))
	}
	for _, form := range forms {
		f.SrvKey = form
		for _, blob := range blobs {
			if !bytes.Equal(f.must(alice, bkrp.ActionRestoreWin2K, blob), secret) {
				t.Error("another secret comes back")
			}
		}
	}
}

// TestSubprotocols covers G-1.3-02, S-3.1-03 and S-3.1-04.
func TestSubprotocols(t *testing.T) {
	f := newFixture(t)
	server := f.must(alice, bkrp.ActionBackup, randomSecret(64))
	client := f.wrapClient(randomSecret(64), 2)
	t.Run("S-3.1-04 unwrap only", func(t *testing.T) {
		f.ServerWrap, f.ClientWrap = bkrpserver.UnwrapOnly, bkrpserver.UnwrapOnly
		f.refused(bkrp.StatusInvalidParameter, alice, bkrp.ActionBackup, randomSecret(64))
		f.refused(bkrp.StatusInvalidParameter, alice, bkrp.ActionRetrieve, nil)
		f.must(alice, bkrp.ActionRestoreWin2K, server)
		f.must(alice, bkrp.ActionRestore, client)
	})
	t.Run("G-1.3-02 off", func(t *testing.T) {
		f.ServerWrap, f.ClientWrap = bkrpserver.Off, bkrpserver.Off
		f.refused(bkrp.StatusInvalidParameter, alice, bkrp.ActionRetrieve, nil)
		for _, a := range []bkrp.Action{bkrp.ActionRestore, bkrp.ActionRestoreWin2K} {
			f.refused(bkrp.StatusInvalidParameter, alice, a, server)
			f.refused(bkrp.StatusInvalidParameter, alice, a, client)
		}
	})
}

// TestAuditFailure: what cannot be accounted for is not handed out.
func TestAuditFailure(t *testing.T) {
	f := newFixture(t)
	blob := f.must(alice, bkrp.ActionBackup, randomSecret(64))
	f.Audit = func(context.Context, *bkrpserver.Event) error { return errors.New("disk full") }
	out, status := f.BackuprKey(t.Context(), alice, bkrp.ActionRestoreWin2K, blob)
	if out != nil || status != bkrp.StatusInternalError {
		t.Errorf("got %d octets and %v", len(out), status)
	}
	if !strings.Contains(f.log.String(), "disk full") {
		t.Errorf("the operator is not told: %s", &f.log)
	}
}

// TestLogAuditor: the trail says who, what, which key and how it ended, and
// holds no part of a secret (SEC-5.1-06).
func TestLogAuditor(t *testing.T) {
	f := newFixture(t)
	f.Audit = nil
	secret := []byte("the secret that must not be logged")
	blob, _ := f.BackuprKey(t.Context(), alice, bkrp.ActionBackup, secret)
	f.BackuprKey(t.Context(), bob, bkrp.ActionRestoreWin2K, blob)
	w, err := bkrp.ParseServerWrapped(blob)
	if err != nil {
		t.Fatal(err)
	}
	log := f.log.String()
	for _, want := range []string{
		"action=BACKUP", "action=RESTORE_WIN2K", "sid=" + alice.SID.String(), "sid=" + bob.SID.String(),
		"owner=" + alice.SID.String(), "key=" + w.KeyGUID.String(), "ERROR_INVALID_ACCESS", "level=WARN",
	} {
		if !strings.Contains(log, want) {
			t.Errorf("no %q in the trail:\n%s", want, log)
		}
	}
	if strings.Contains(log, string(secret[:8])) {
		t.Error("the trail holds the secret")
	}
}

// TestAuditTrailBreaks: the log as a trail says when it cannot be written, and
// the answer is withheld as with any other Auditor.
func TestAuditTrailBreaks(t *testing.T) {
	f := newFixture(t)
	full := errors.New("disk full")
	f.Audit = bkrpserver.LogAuditor(slog.New(slog.NewTextHandler(brokenWriter{full}, nil)))
	out, status := f.BackuprKey(t.Context(), alice, bkrp.ActionBackup, randomSecret(64))
	if out != nil || status != bkrp.StatusInternalError {
		t.Errorf("got %d octets and %v", len(out), status)
	}
	if !strings.Contains(f.log.String(), full.Error()) {
		t.Errorf("the operator is not told: %s", &f.log)
	}
}

type brokenWriter struct{ err error }

func (w brokenWriter) Write([]byte) (int, error) { return 0, w.err }

// TestCallerHangsUp: who is gone before the answer is on the trail all the same,
// with an Auditor that heeds its context too.
func TestCallerHangsUp(t *testing.T) {
	f := newFixture(t)
	blob := f.must(alice, bkrp.ActionBackup, randomSecret(64))
	keep := f.Audit
	f.Audit = func(ctx context.Context, e *bkrpserver.Event) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return keep(ctx, e)
	}
	before := len(f.events)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f.BackuprKey(ctx, bob, bkrp.ActionRestoreWin2K, blob)
	if len(f.events) != before+1 || f.last().Caller != bob {
		t.Errorf("audit trail: %+v", f.events[before:])
	}
	if strings.Contains(f.log.String(), "level=ERROR") {
		t.Errorf("the operator is alarmed: %s", &f.log)
	}
}

// A store that fails is an alarm, and the caller learns nothing of it.
func TestStoreFails(t *testing.T) {
	f := newFixture(t)
	key := bkrp.GenerateServerKey()
	derive := func(salt []byte) [20]byte { return key.Derive(bkrp.SrvKeyFull, salt) }
	blob, err := bkrp.WrapServer(derive, dtyp.GUID{1}, alice.SID, randomSecret(64))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.backend.Close(); err != nil {
		t.Fatal(err)
	}
	f.refused(bkrp.StatusInternalError, alice, bkrp.ActionBackup, randomSecret(64))
	f.refused(bkrp.StatusInternalError, alice, bkrp.ActionRestoreWin2K, blob)
	if strings.Count(f.log.String(), "level=ERROR") != 2 || !strings.Contains(f.log.String(), keystore.ErrClosed.Error()) {
		t.Errorf("the operator is not told why: %s", &f.log)
	}
}

// TestConfigCheck: what would quietly mean something else is refused.
func TestConfigCheck(t *testing.T) {
	f := newFixture(t)
	for name, spoil := range map[string]func(*bkrpserver.Config){
		"no service":         func(c *bkrpserver.Config) { c.Service = nil },
		"no store":           func(c *bkrpserver.Config) { c.Service = &bkrpserver.Service{} },
		"pipe":               func(c *bkrpserver.Config) { c.Pipes = []string{"spoolss"} },
		"encryption":         func(c *bkrpserver.Config) { c.Encryption = bkrpserver.EncryptionRequire + 1 },
		"zero administrator": func(c *bkrpserver.Config) { c.Administrators = make([]dtyp.SID, 1) },
	} {
		cfg := bkrpserver.Config{Service: f.Service, ComputerName: "DC"}
		if _, err := bkrpserver.New(cfg); err != nil {
			t.Fatal(err)
		}
		spoil(&cfg)
		if _, err := bkrpserver.New(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
