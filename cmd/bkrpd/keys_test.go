package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/bkrpclient"
	"github.com/seed05845750/bkrp/bkrpserver"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/keyform"
	"github.com/seed05845750/bkrp/keystore"
)

// keysTest is a domain whose keys go in and out.
type keysTest struct {
	*testing.T
	dir, config string
}

func newKeysTest(t *testing.T, arg ...string) *keysTest {
	t.Helper()
	k := &keysTest{T: t, dir: t.TempDir()}
	k.config = filepath.Join(k.dir, "d", configName)
	k.ok(append([]string{"init", "--dir", filepath.Join(k.dir, "d"), "--domain", "bkrp.example"}, arg...)...)
	return k
}

// path is a file in the test's directory.
func (k *keysTest) path(name string) string { return filepath.Join(k.dir, name) }

// keys runs a verb of "bkrpd keys".
func (k *keysTest) keys(arg ...string) (code int, stdout, stderr string) {
	return k.run(append(append([]string{"keys"}, arg...), "--config", k.config)...)
}

func (k *keysTest) run(arg ...string) (code int, stdout, stderr string) {
	k.Helper()
	var out, errs bytes.Buffer
	code = run(k.Context(), arg, stdio{strings.NewReader(""), &out, &errs})
	return code, out.String(), errs.String()
}

// ok fails the test unless the command line works, and returns both outputs.
func (k *keysTest) ok(arg ...string) (stdout, stderr string) {
	k.Helper()
	code, stdout, stderr := k.run(arg...)
	if code != 0 {
		k.Fatalf("%q: exit code %d: %s%s", arg, code, stdout, stderr)
	}
	return stdout, stderr
}

func (k *keysTest) keysOK(arg ...string) (stdout, stderr string) {
	k.Helper()
	return k.ok(append(append([]string{"keys"}, arg...), "--config", k.config)...)
}

// refused fails the test unless the verb fails and says why.
func (k *keysTest) refused(why string, arg ...string) {
	k.Helper()
	code, stdout, stderr := k.keys(arg...)
	if code == 0 || !strings.Contains(stderr, why) || stdout != "" {
		k.Errorf("%q: exit code %d, wanted %q in: %s%s", arg, code, why, stdout, stderr)
	}
}

// store opens the store for as long as use takes.
func (k *keysTest) store(use func(*keystore.Store)) {
	k.Helper()
	cfg, err := loadConfig(k.config, nil)
	if err != nil {
		k.Fatal(err)
	}
	store, closeStore, err := openStore(k.Context(), cfg, keystore.Options{})
	if err != nil {
		k.Fatal(err)
	}
	use(store)
	if err := closeStore(); err != nil {
		k.Error(err)
	}
}

// recipient makes an age identity, in a file, and gives its recipient.
func (k *keysTest) recipient(name string) string {
	k.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		k.Fatal(err)
	}
	k.write(name, []byte("# an identity\n"+id.String()+"\n"))
	return id.Recipient().String()
}

func (k *keysTest) write(name string, b []byte) string {
	k.Helper()
	if err := os.WriteFile(k.path(name), b, 0o600); err != nil {
		k.Fatal(err)
	}
	return k.path(name)
}

func (k *keysTest) read(path string) []byte {
	k.Helper()
	b, err := os.ReadFile(path)
	if err != nil || len(b) == 0 {
		k.Fatalf("%s: %d octets (%v)", path, len(b), err)
	}
	return b
}

// vectors is a folder of recorded data of real domains, beside the repository.
func (k *keysTest) vectors(set string) string {
	k.Helper()
	root := filepath.Join("..", "..", "..", "shared", "vectors")
	if _, err := os.Stat(root); err != nil {
		k.Skipf("no recorded data of real domains: %v", err)
	}
	return filepath.Join(root, set)
}

const (
	adatumClient = "efe756ec-f87c-493a-902f-259030203445"
	adatumServer = "585c52d5-1778-4d43-9d7b-c22b4f7e5fa4"
	adatumSID    = "S-1-5-21-4534338-1127018997-2609994386-500"
	nemesisKey   = "45cbf2fb-b468-471a-a374-3ca17b50cf3b"
)

// opensFor sees a secret of a Windows domain opened through the server for its
// SID, and refused to another.
func (k *keysTest) opensFor(sid dtyp.SID, blob, secret []byte) {
	k.Helper()
	k.store(func(store *keystore.Store) {
		service := &bkrpserver.Service{Store: store, Logger: slog.New(slog.DiscardHandler)}
		out, status := service.BackuprKey(k.Context(), bkrpserver.Caller{SID: sid}, bkrp.ActionRestore, blob)
		if status != bkrp.StatusOK {
			k.Fatalf("S-3.1.4.1.4-08: %v", status)
		}
		if got, err := bkrp.ParseUnwrapped(out); err != nil || !bytes.Equal(got, secret) {
			k.Errorf("another secret (%v)", err)
		}
		other := bkrpserver.Caller{SID: dtyp.MustParseSID("S-1-5-21-4534338-1127018997-2609994386-501500")}
		if out, status := service.BackuprKey(k.Context(), other, bkrp.ActionRestore, blob); status != bkrp.StatusInvalidAccess || out != nil {
			k.Errorf("another SID: %v", status)
		}
	})
}

// The keys of a Windows domain come in as LSA secrets, and go through every form
// into another store, where the domain's secret still opens.
func TestKeysOfWindows(t *testing.T) {
	k := newKeysTest(t)
	dir := k.vectors("dsinternals-adatum")
	blob, secret := k.read(filepath.Join(dir, "client_side_wrapped_secret.bin")), k.read(filepath.Join(dir, "expected_secret.bin"))
	pair := filepath.Join(dir, "lsa_secret_BCKUPKEY_"+adatumClient+".bin")
	stdout, stderr := k.keysOK("import", pair)
	if stdout != "imported ClientWrap key "+adatumClient+"\n" {
		t.Errorf("printed %q", stdout)
	}
	if want := `action="keys import" uid=` + strconv.Itoa(os.Getuid()) + ` key=` + adatumClient + ` format=lsa`; !strings.Contains(stderr, "msg=audit "+want) {
		t.Errorf("no %q on the trail: %s", want, stderr)
	}
	k.opensFor(dtyp.MustParseSID(adatumSID), blob, secret)
	stdout, _ = k.keysOK("import", "--current", filepath.Join(dir, "lsa_secret_BCKUPKEY_"+adatumServer+"_serverwrap.bin"))
	if stdout != "imported ServerWrap key "+adatumServer+", now current\n" {
		t.Errorf("printed %q", stdout)
	}
	recipient := k.recipient("id")
	for _, tt := range []struct {
		form   string
		export []string
		accept []string
		same   []string // files that the exported one equals
	}{
		{"lsa", []string{"--plaintext"}, nil, []string{pair}},
		{"pem", []string{"--plaintext"}, nil, nil},
		{"pvk", []string{"--plaintext"}, []string{"--cert", filepath.Join(dir, "cert.der")}, nil},
		{"age", []string{"--to", recipient}, []string{"--identity", k.path("id")}, nil},
	} {
		t.Run(tt.form, func(t *testing.T) {
			file := k.path(adatumClient + "." + tt.form)
			k.keysOK(append([]string{"export", adatumClient, "--format", tt.form, "-o", file}, tt.export...)...)
			if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 {
				t.Errorf("mode %v (%v)", info.Mode(), err)
			}
			for _, other := range tt.same {
				if !bytes.Equal(k.read(file), k.read(other)) {
					t.Errorf("differs from %s", other)
				}
			}
			fresh := newKeysTest(t)
			fresh.keysOK(append([]string{"import", file}, tt.accept...)...)
			fresh.opensFor(dtyp.MustParseSID(adatumSID), blob, secret)
			fresh.store(func(store *keystore.Store) {
				got, err := store.Secret(t.Context(), keystore.SecretPrefix+adatumClient)
				if err != nil || !bytes.Equal(got, k.read(pair)) {
					t.Errorf("the store has another secret (%v)", err)
				}
			})
		})
	}
}

// A key in a PVK file has no certificate: it gets a new one each time it is
// imported, and the store keeps the first.
func TestKeysOfPVK(t *testing.T) {
	k := newKeysTest(t)
	dir := k.vectors("nemesis-oldformat")
	file := filepath.Join(dir, "backupkey_"+nemesisKey+".pvk")
	k.keysOK("import", file)
	first := k.secret(nemesisKey)
	pair, err := bkrp.ParseKeyPair(first)
	if err != nil {
		t.Fatal(err)
	}
	blob := k.read(filepath.Join(dir, "client_side_wrapped_secret.bin"))
	w, err := bkrp.ParseClientWrapped(blob)
	if err != nil {
		t.Fatal(err)
	}
	opened, err := w.Open(pair.DecryptRaw, pair.RejectionKey())
	if err != nil {
		t.Fatal(err)
	}
	k.opensFor(opened.SID, blob, k.read(filepath.Join(dir, "expected_secret.bin")))
	if pair.Certificate().Subject != "bkrp.example" {
		t.Errorf("the certificate is for %q", pair.Certificate().Subject)
	}
	time.Sleep(time.Until(pair.Certificate().NotBefore.Add(time.Second))) // the next one has another date
	if stdout, _ := k.keysOK("import", "--current", file); !strings.Contains(stdout, "now current") {
		t.Errorf("printed %q", stdout)
	}
	if !bytes.Equal(k.secret(nemesisKey), first) {
		t.Error("the certificate was replaced")
	}
	anonymous := k.write("anonymous.pvk", k.read(file))
	k.refused("by --guid or in the name of the file", "import", anonymous)
	k.keysOK("import", anonymous, "--guid", nemesisKey)
	k.keysOK("export", nemesisKey, "--format", "pvk", "--plaintext", "-o", k.path("out.pvk"))
	if !bytes.Equal(k.read(k.path("out.pvk")), k.read(file)) {
		t.Error("exported as another file")
	}
}

func (k *keysTest) secret(guid string) (secret []byte) {
	k.Helper()
	k.store(func(store *keystore.Store) {
		var err error
		if secret, err = store.Secret(k.Context(), keystore.SecretPrefix+guid); err != nil {
			k.Fatal(err)
		}
	})
	return secret
}

// All keys of a store go to another one, with their marks.
func TestKeysExportAll(t *testing.T) {
	k := newKeysTest(t)
	k.refused("the store has no keys yet", "export", "--all", "-o", k.path("none"), "--to", k.recipient("id"))
	if _, err := os.Stat(k.path("none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file without keys was left: %v", err)
	}
	var client, server dtyp.GUID
	k.store(func(store *keystore.Store) {
		c, errC := store.CurrentClientWrapKey(t.Context())
		_, errOld := store.CurrentServerWrapKey(t.Context())
		s, errS := store.RotateServerWrapKey(t.Context())
		if err := errors.Join(errC, errOld, errS); err != nil {
			t.Fatal(err)
		}
		client, server = c.GUID(), s.GUID()
	})
	one, two := k.recipient("id1"), k.recipient("id2")
	file := k.path("keys.age")
	stdout, stderr := k.keysOK("export", "--all", "-o", file, "--to", one, "--to-file", k.write("recipients", []byte("# two\n"+two+"\n")))
	if n := strings.Count(stdout, "exported "); n != 3 {
		t.Errorf("%d keys: %s", n, stdout)
	}
	if n := strings.Count(stderr, `msg=audit action="keys export"`); n != 3 {
		t.Errorf("%d keys on the trail: %s", n, stderr)
	}
	before := k.read(file)
	k.refused("file exists", "export", "--all", "-o", file, "--to", one)
	if !bytes.Equal(k.read(file), before) {
		t.Error("the file was replaced")
	}

	fresh := newKeysTest(t)
	fresh.refused("name the file of an age identity", "import", file)
	fresh.refused("encrypted to other recipients", "import", file, "--identity", k.path("id"))
	fresh.refused("is no list of age identities", "import", file, "--identity", k.path("recipients"))
	stdout, stderr = fresh.keysOK("import", file, "--identity", k.path("id2"), "--current")
	if n := strings.Count(stdout, "now current"); n != 2 || strings.Count(stdout, "imported ") != 3 {
		t.Errorf("printed %s", stdout)
	}
	if !strings.Contains(stderr, "warning: the keys are of the domain") {
		t.Errorf("no word of the other domain: %s", stderr)
	}
	fresh.store(func(store *keystore.Store) {
		c, errC := store.CurrentClientWrapKey(t.Context())
		s, errS := store.CurrentServerWrapKey(t.Context())
		if err := errors.Join(errC, errS); err != nil || c.GUID() != client || s.GUID() != server {
			t.Errorf("other keys are current (%v)", err)
		}
	})
	if err := os.Chmod(k.path("id2"), 0o640); err != nil {
		t.Fatal(err)
	}
	fresh.refused("others may read", "import", file, "--identity", k.path("id2"))
}

// A damaged file changes nothing in the store.
func TestKeysImportRefusals(t *testing.T) {
	k := newKeysTest(t)
	pair, err := bkrp.GenerateKeyPair("foreign.example", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	secret, err := pair.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Clone(secret)
	damaged[12+20+256+5] ^= 1
	k.refused("primes do not multiply", "import", k.write("damaged", damaged))
	k.refused("not a usable key", "import", k.write("junk", []byte("hello")))
	k.refused("no such file", "import", k.path("nowhere"))
	k.refused("GUID or certificate is another key's", "import", k.write("pair", secret), "--guid", nemesisKey)
	k.store(func(store *keystore.Store) {
		if names, err := store.SecretNames(t.Context()); err != nil || len(names) != 0 {
			t.Errorf("the store has %q (%v)", names, err)
		}
	})
	k.keysOK("import", k.path("pair"))
	// Another key of the same GUID.
	other, err := bkrp.GenerateKeyPair("foreign.example", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	k.refused("another key has this GUID", "import", k.write(pair.GUID().String()+".pvk", other.AppendPVK(nil)))
	if !bytes.Equal(k.secret(pair.GUID().String()), secret) {
		t.Error("the key was replaced")
	}
}

// syncBuffer is a log that a daemon writes and a test reads.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// A foreign key serves a running daemon's callers at once, and the trail is in
// the daemon's log even where that keeps errors only.
func TestKeysImportIntoDaemon(t *testing.T) {
	k := newKeysTest(t)
	cfg, err := loadConfig(k.config, nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Listen, cfg.Log.Level = []string{"127.0.0.1:0"}, "error"
	std := stdio{strings.NewReader(""), new(bytes.Buffer), new(bytes.Buffer)}
	const password = "Correct.Horse.1"
	resp, err := ask(t.Context(), std, cfg, &adminRequest{Verb: verbUserAdd, Name: "alice", Password: []byte(password)})
	if err != nil {
		t.Fatal(err)
	}
	var log syncBuffer
	d, err := startDaemon(t.Context(), cfg, newLogger(&log, cfg))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := d.stop(ctx); err != nil {
			t.Error(err)
		}
	}()
	pair, err := bkrp.GenerateKeyPair("foreign.example", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	blob, err := bkrp.WrapClient(pair.Certificate(), resp.Users[0].SID, []byte("a secret"), 3)
	if err != nil {
		t.Fatal(err)
	}
	alice, err := bkrpclient.Dial(t.Context(), bkrpclient.Config{
		Server:     d.addrs[0],
		Credential: bkrpclient.Credential{Domain: cfg.Domain.NetBIOS, User: "alice", Password: password},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer alice.Close()
	if _, err := alice.Unwrap(t.Context(), blob); !errors.Is(err, bkrp.StatusFileNotFound) {
		t.Fatalf("before: %v", err)
	}
	key := &keyform.Key{}
	if key.Secret, err = pair.AppendBinary(nil); err != nil {
		t.Fatal(err)
	}
	text, err := key.Marshal(keyform.PEM)
	if err != nil {
		t.Fatal(err)
	}
	k.keysOK("import", k.write("foreign.pem", text))
	if got, err := alice.Unwrap(t.Context(), blob); err != nil || string(got) != "a secret" {
		t.Errorf("after: %v", err)
	}
	k.keysOK("export", pair.GUID().String(), "-o", k.path("one.age"), "--to", k.recipient("id"))
	k.refused("no such key", "export", nemesisKey, "-o", k.path("none.age"), "--to", k.recipient("id"))
	uid := ` uid=` + strconv.Itoa(os.Getuid())
	for _, want := range []string{
		`msg=audit action="keys import"` + uid + ` key=` + pair.GUID().String() + ` format=pem current=false status=ok`,
		`msg=audit action="keys export"` + uid + ` key=` + pair.GUID().String() + ` format=age current=false status=ok`,
		`level=WARN msg=audit action="keys export"` + uid + ` key=` + nemesisKey + ` format=age current=false status=refused reason="keystore: no such key"`,
	} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("no %q on the trail: %s", want, log.String())
		}
	}
}

// failing is a log handler that cannot write.
type failing struct{ slog.Handler }

func (failing) Handle(context.Context, slog.Record) error { return errors.New("disk full") }

// What cannot be accounted for is not handed out.
func TestKeysExportNeedsTrail(t *testing.T) {
	k := newKeysTest(t)
	k.store(func(store *keystore.Store) {
		key, err := store.CurrentServerWrapKey(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		audit := &keyAudit{Log: slog.New(failing{slog.DiscardHandler})}
		resp := administer(t.Context(), store, &adminRequest{Verb: verbKeysExport, GUIDs: []dtyp.GUID{key.GUID()}}, audit)
		if !strings.Contains(resp.Error, "audit trail could not be written") || resp.Keys != nil {
			t.Errorf("%q, %v", resp.Error, resp.Keys)
		}
	})
}

// softToken is a token in memory.
type softToken map[string]*rsa.PrivateKey

func (softToken) Name() string { return "soft" }

func (s softToken) Generate(_ context.Context, id []byte, _ string) (*rsa.PublicKey, error) {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	s[string(id)] = k
	return &k.PublicKey, nil
}

func (s softToken) DecryptRaw(_ context.Context, id []byte, _ *rsa.PublicKey, c []byte) ([]byte, error) {
	k := s[string(id)]
	return new(big.Int).Exp(new(big.Int).SetBytes(c), k.D, k.N).FillBytes(make([]byte, 256)), nil
}

// A key in a token stays there, and does not keep the others in.
func TestKeysExportLeavesTokens(t *testing.T) {
	sealer, err := keystore.NewPassphrase([]byte("correct horse"))
	if err != nil {
		t.Fatal(err)
	}
	backend := keystore.NewMemory()
	defer backend.Close()
	domain := keystore.Domain{DNSName: "bkrp.example", NetBIOSName: "BKRP", SID: keystore.RandomDomainSID()}
	if err := keystore.Create(t.Context(), backend, sealer, domain); err != nil {
		t.Fatal(err)
	}
	store, err := keystore.Open(t.Context(), backend, sealer, keystore.Options{Tokens: softToken{}, KeysInToken: true})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	inToken, err := store.CurrentClientWrapKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	audit := &keyAudit{Log: slog.New(slog.NewTextHandler(&log, nil))}
	all := &adminRequest{Verb: verbKeysExport}
	if resp := administer(t.Context(), store, all, audit); !strings.Contains(resp.Error, keystore.ErrNotExportable.Error()) {
		t.Errorf("nothing else: %q", resp.Error)
	}
	server, err := store.CurrentServerWrapKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	resp := administer(t.Context(), store, all, audit)
	if resp.Error != "" || len(resp.Keys) != 1 || resp.Keys[0].GUID != server.GUID() || len(resp.Left) != 1 || resp.Left[0] != inToken.GUID() {
		t.Errorf("all: %q, %v, left %v", resp.Error, resp.Keys, resp.Left)
	}
	named := &adminRequest{Verb: verbKeysExport, GUIDs: []dtyp.GUID{inToken.GUID()}}
	if resp := administer(t.Context(), store, named, audit); !strings.Contains(resp.Error, keystore.ErrNotExportable.Error()) || resp.Keys != nil {
		t.Errorf("named: %q", resp.Error)
	}
	if !strings.Contains(log.String(), "key="+inToken.GUID().String()+` format="" current=true status=refused`) {
		t.Errorf("not on the trail: %s", log.String())
	}
}

func TestMarkCurrent(t *testing.T) {
	key := func(kind keyform.Kind, current bool) *keyform.Key { return &keyform.Key{Kind: kind, Current: current} }
	for _, tt := range []struct {
		name   string
		keys   []*keyform.Key
		wanted bool
		want   string
	}{
		{"one", []*keyform.Key{key("a", false)}, true, "+"},
		{"one, not wanted", []*keyform.Key{key("a", true)}, false, "-"},
		{"marked", []*keyform.Key{key("a", false), key("a", true), key("b", false)}, true, "-++"},
		{"unclear", []*keyform.Key{key("a", false), key("a", false), key("b", false)}, true, "--+"},
		{"all unclear", []*keyform.Key{key("a", false), key("a", false)}, true, "error"},
	} {
		got := ""
		err := markCurrent(tt.keys, tt.wanted)
		for _, k := range tt.keys {
			got += map[bool]string{true: "+", false: "-"}[k.Current]
		}
		if err != nil {
			got = "error"
		}
		if got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}
