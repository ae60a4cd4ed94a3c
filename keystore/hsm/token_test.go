package hsm

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

var errDevice = errors.New("CKR_DEVICE_ERROR")

// fakeLibrary is a library with one token, which can be taken away, hang, and
// refuse PINs. Sessions are void once the token has been away or the library
// was set up anew, as with the real ones.
type fakeLibrary struct {
	mu          sync.Mutex
	initialized bool
	setUps      int
	away        bool
	sticky      bool // the token is found again by setting the library up only
	next        uint
	sessions    map[uint]bool
	most        int // sessions there were at a time
	pin         string
	logins      int
	keys        map[string]*rsa.PrivateKey

	// hang, while not nil, holds all decryptions until it is closed.
	hang chan struct{}
	// inside counts the calls that are in the library while it is finalised.
	running, broken int
}

func newFake() *fakeLibrary {
	return &fakeLibrary{sessions: map[uint]bool{}, keys: map[string]*rsa.PrivateKey{}, pin: "4711", next: 1}
}

func (f *fakeLibrary) initialize() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.initialized, f.sticky = true, false
	f.setUps++
	return nil
}

func (f *fakeLibrary) finalize() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.running > 0 {
		f.broken++
	}
	clear(f.sessions)
	f.initialized = false
	return nil
}

func (f *fakeLibrary) usable() error {
	if !f.initialized || f.away || f.sticky {
		return errDevice
	}
	return nil
}

func (f *fakeLibrary) slot(URI) (uint, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return 7, f.usable()
}

func (f *fakeLibrary) open(slot uint) (uint, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next++
	f.sessions[f.next] = true
	f.most = max(f.most, len(f.sessions))
	return f.next, f.usable()
}

func (f *fakeLibrary) login(_ uint, pin string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.logins++
	if pin != f.pin {
		return fmt.Errorf("%w: CKR_PIN_INCORRECT", ErrPIN)
	}
	return nil
}

func (f *fakeLibrary) close(session uint) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.sessions, session)
	return nil
}

func (f *fakeLibrary) in(session uint) error {
	if !f.sessions[session] {
		return errors.New("CKR_SESSION_HANDLE_INVALID")
	}
	return f.usable()
}

func (f *fakeLibrary) privateKeys(session uint, _, id string) ([]uint, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.keys[id] == nil {
		return nil, f.in(session)
	}
	return []uint{uint(id[0])}, f.in(session)
}

func (f *fakeLibrary) key(object uint) *rsa.PrivateKey { return f.keys[string([]byte{byte(object)})] }

func (f *fakeLibrary) publicKey(session, object uint) (*rsa.PublicKey, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &f.key(object).PublicKey, f.in(session)
}

func (f *fakeLibrary) generate(session uint, _, id string, bits int) (uint, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.in(session); err != nil {
		return 0, err
	}
	key, err := rsa.GenerateKey(rand.Reader, bits)
	f.keys[id] = key
	return uint(id[0]), err
}

func (f *fakeLibrary) extractable(session, _ uint) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return false, f.in(session)
}

func (f *fakeLibrary) decryptRaw(session, object uint, c []byte) ([]byte, error) {
	f.mu.Lock()
	hang := f.hang
	f.running++
	key, err := f.key(object), f.in(session)
	f.mu.Unlock()
	if hang != nil {
		<-hang
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.running--
	if err != nil {
		return nil, err
	}
	return new(big.Int).Exp(new(big.Int).SetBytes(c), key.D, key.N).Bytes(), nil
}

func (f *fakeLibrary) decryptOAEP(session, _ uint, _ crypto.Hash, _ []byte) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return nil, errors.Join(f.in(session), ErrKey)
}

func (f *fakeLibrary) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

var fakeID = []byte{5}

// openFake opens the token of a fake library with a key in it.
func openFake(t *testing.T, f *fakeLibrary, timeout time.Duration) (*Token, *rsa.PublicKey) {
	t.Helper()
	token, err := open(t.Context(), fakeURI(t), Options{Timeout: timeout}, func(string) (library, error) { return f, nil })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := token.Close(); err != nil {
			t.Error(err)
		}
		if f.initialized || len(f.sessions) != 0 {
			t.Errorf("after Close: initialized %t, %d sessions", f.initialized, len(f.sessions))
		}
	})
	token.module.renewEvery = 0
	public, err := token.Generate(t.Context(), fakeID, "label")
	if err != nil {
		t.Fatal(err)
	}
	return token, public
}

func fakeURI(t *testing.T) URI {
	t.Helper()
	dir := t.TempDir()
	pin := filepath.Join(dir, "pin")
	if err := os.WriteFile(pin, []byte("4711\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return URI{Module: filepath.Join(dir, "fake.so"), Token: "fake", PINSource: pin, Sessions: 3}
}

func probe(token *Token, public *rsa.PublicKey) error {
	got, err := token.DecryptRaw(context.Background(), fakeID, public, new(big.Int).Exp(big.NewInt(7), big.NewInt(int64(public.E)), public.N).Bytes())
	if err == nil && string(got) != "\x07" {
		return fmt.Errorf("7 is %x", got)
	}
	return err
}

func TestSessionsAreFew(t *testing.T) {
	f := newFake()
	token, public := openFake(t, f, time.Minute)
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			if err := probe(token, public); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if f.most > 3 || f.logins > 4 {
		t.Errorf("%d sessions at a time, %d logins", f.most, f.logins)
	}
}

// A library that does not come back takes as much time as its caller gives, and
// as many calls as there are sessions; others go on when it does.
func TestHangs(t *testing.T) {
	f := newFake()
	token, public := openFake(t, f, time.Minute)
	token.timeout = 10 * time.Millisecond
	hang := make(chan struct{})
	f.set(func() { f.hang = hang })
	for range 5 {
		if err := probe(token, public); !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("it hangs: %v", err)
		}
	}
	f.set(func() {
		if f.running > 3 {
			t.Errorf("%d calls are in the library", f.running)
		}
		f.hang = nil
	})
	close(hang)
	token.timeout = time.Minute
	if err := probe(token, public); err != nil {
		t.Errorf("it answers again: %v", err)
	}
}

// A token is found again, where need be by setting its library up, which nobody
// is inside then.
func TestComesBack(t *testing.T) {
	f := newFake()
	token, public := openFake(t, f, time.Minute)
	other, err := open(t.Context(), token.uri, Options{}, nil) // the same library
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for _, sticky := range []bool{false, true} {
		f.set(func() { f.away = true })
		if err := probe(token, public); !errors.Is(err, ErrUnavailable) || !errors.Is(err, errDevice) {
			t.Errorf("it is away: %v", err)
		}
		f.set(func() { f.away, f.sticky = false, sticky })
		var wg sync.WaitGroup
		for range 20 {
			for _, token := range []*Token{token, other} {
				wg.Go(func() {
					if err := probe(token, public); err != nil {
						t.Errorf("it is back (sticky %t): %v", sticky, err)
					}
				})
			}
		}
		wg.Wait()
	}
	f.set(func() {
		if f.broken > 0 {
			t.Errorf("%d times the library was finalised under a call", f.broken)
		}
	})
}

// A token that stays away is not set up again at each call, which would take it
// from others.
func TestSetUpSeldom(t *testing.T) {
	f := newFake()
	token, public := openFake(t, f, time.Minute)
	token.module.renewEvery = time.Hour
	f.set(func() { f.away = true })
	for range 10 {
		if err := probe(token, public); !errors.Is(err, errDevice) {
			t.Error(err)
		}
	}
	if f.setUps > 2 {
		t.Errorf("the library was set up %d times", f.setUps)
	}
	f.set(func() { f.away = false })
}

// A wrong PIN is tried once: a token locks itself after a few.
func TestWrongPINOnce(t *testing.T) {
	f := newFake()
	token, public := openFake(t, f, time.Minute)
	f.set(func() { f.pin = "changed"; clear(f.sessions) })
	before := f.logins
	for range 10 {
		if err := probe(token, public); !errors.Is(err, ErrPIN) {
			t.Errorf("the PIN was changed: %v", err)
		}
	}
	if f.logins != before+1 {
		t.Errorf("the PIN was tried %d times", f.logins-before)
	}
}

// Nor is it tried again by whoever opens the token next: a daemon does so at each
// "bkrpd rekey" that names it. Another PIN in the file is.
func TestWrongPINOnceForAll(t *testing.T) {
	f, uri := newFake(), fakeURI(t)
	f.pin = "another"
	load := func(string) (library, error) { return f, nil }
	for range 3 {
		if _, err := open(t.Context(), uri, Options{}, load); !errors.Is(err, ErrPIN) {
			t.Errorf("the PIN is wrong: %v", err)
		}
	}
	if f.logins != 1 {
		t.Errorf("the PIN was tried %d times", f.logins)
	}
	if err := os.WriteFile(uri.PINSource, []byte(f.pin+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	token, err := open(t.Context(), uri, Options{}, load)
	if err != nil {
		t.Fatalf("the PIN is right: %v", err)
	}
	if err := token.Close(); err != nil {
		t.Error(err)
	}
}

func TestClosedToken(t *testing.T) {
	f := newFake()
	token, err := open(t.Context(), fakeURI(t), Options{}, func(string) (library, error) { return f, nil })
	if err != nil {
		t.Fatal(err)
	}
	if err := token.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := token.Generate(t.Context(), fakeID, ""); !errors.Is(err, ErrUnavailable) {
		t.Error(err)
	}
}

func TestPINFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pin")
	for text, want := range map[string]string{"1234\n": "1234", "1234": "1234", "12 34 \r\nmore": "12 34 ", "": "", "\n1": ""} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, _, err := readPIN(path)
		if string(got) != want || (err == nil) != (want != "") || err != nil && !errors.Is(err, ErrPIN) {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	if _, _, err := readPIN(filepath.Dir(path)); !errors.Is(err, ErrPIN) {
		t.Errorf("a directory: %v", err)
	}
}

// A program without PKCS#11 says how to build one that has it.
func TestNotBuilt(t *testing.T) {
	_, err := open(t.Context(), fakeURI(t), Options{}, func(string) (library, error) { return nil, ErrNotBuilt })
	if !errors.Is(err, ErrNotBuilt) {
		t.Error(err)
	}
}
