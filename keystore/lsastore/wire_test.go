package lsastore_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"

	"github.com/seed05845750/bkrp/bkrpserver"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/keystore"
	"github.com/seed05845750/bkrp/keystore/lsastore"
)

const password = "Correct.Horse.1"

// serve runs our own server, whose LSA gives its secrets to Administrator.
func serve(t *testing.T) (store *keystore.Store, addr string) {
	t.Helper()
	backend := keystore.NewMemory()
	kek, err := keystore.NewPassphrase([]byte("passphrase of a test"))
	if err != nil {
		t.Fatal(err)
	}
	domain := keystore.Domain{DNSName: "bkrp.test", NetBIOSName: "BKRP", SID: dtyp.MustParseSID("S-1-5-21-1-2-3")}
	if err := keystore.Create(t.Context(), backend, kek, domain); err != nil {
		t.Fatal(err)
	}
	if store, err = keystore.Open(t.Context(), backend, kek, keystore.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	admin, err := store.AddAccount(t.Context(), "Administrator", password)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	server, err := bkrpserver.New(bkrpserver.Config{
		Service:        &bkrpserver.Service{Store: store, Logger: log},
		Administrators: []dtyp.SID{admin.SID}, Logger: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(context.Background(), l) })
	t.Cleanup(func() {
		server.Shutdown(context.Background())
		serving.Wait()
	})
	return store, l.Addr().String()
}

// tap passes frames between a client and a server, and keeps the protocol, the
// first four octets, of each that the client sends.
type tap struct {
	l         net.Listener
	mu        sync.Mutex
	protocols []string
	sent      []byte
	running   sync.WaitGroup
}

func startTap(t *testing.T, target string) *tap {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &tap{l: l}
	p.running.Go(func() {
		client, err := l.Accept()
		if err != nil {
			return
		}
		defer client.Close()
		server, err := net.Dial("tcp", target)
		if err != nil {
			return
		}
		defer server.Close()
		p.running.Go(func() {
			io.Copy(client, server)
			client.Close()
		})
		var head [4]byte
		for {
			if _, err := io.ReadFull(client, head[:]); err != nil {
				return
			}
			frame := make([]byte, binary.BigEndian.Uint32(head[:]))
			if _, err := io.ReadFull(client, frame); err != nil {
				return
			}
			p.mu.Lock()
			p.protocols = append(p.protocols, string(frame[:4]))
			p.sent = append(p.sent, frame...)
			p.mu.Unlock()
			if _, err := server.Write(append(head[:], frame...)); err != nil {
				return
			}
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.running.Wait()
	})
	return p
}

// Against our own server, which has LsarRetrievePrivateData, over real SMB; and
// all that is said after the logon is encrypted, although nobody demands it.
func TestOverEncryptedSMB(t *testing.T) {
	store, addr := serve(t)
	key, err := store.CurrentServerWrapKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p := startTap(t, addr)
	b, err := lsastore.Open(t.Context(), lsastore.Config{
		Server: p.l.Addr().String(), Domain: "BKRP", User: "Administrator", Password: password,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	name := keystore.SecretPrefix + key.GUID().String()
	got, _, err := b.Get(t.Context(), name)
	want, wantErr := store.Secret(t.Context(), name)
	if err != nil || wantErr != nil || !bytes.Equal(got, want) {
		t.Errorf("secret: %v, %v", err, wantErr)
	}
	if _, _, err := b.Get(t.Context(), keystore.CurrentClientSecret); !errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("absent: %v", err)
	}
	// Our server gives secrets out and takes none in.
	if _, err := b.CompareAndSwap(t.Context(), keystore.CurrentClientSecret, 0, make([]byte, 16)); err == nil || errors.Is(err, keystore.ErrConflict) {
		t.Errorf("write: %v", err)
	}

	p.mu.Lock()
	defer p.mu.Unlock()
	const logon = 3 // negotiate, and two legs of session setup
	if len(p.protocols) < logon+5 {
		t.Fatalf("%d messages", len(p.protocols))
	}
	for i, protocol := range p.protocols {
		if want := map[bool]string{true: "\xfeSMB", false: "\xfdSMB"}[i < logon]; protocol != want {
			t.Errorf("message %d begins with %q, want %q", i, protocol, want)
		}
	}
	if bytes.Contains(p.sent, []byte("l\x00s\x00a\x00r\x00p\x00c\x00")) {
		t.Error("the pipe's name is to be read on the wire")
	}
}

func TestRefusedLogon(t *testing.T) {
	store, addr := serve(t)
	if _, err := store.AddAccount(t.Context(), "alice", password); err != nil {
		t.Fatal(err)
	}
	_, err := lsastore.Open(t.Context(), lsastore.Config{Server: addr, Domain: "BKRP", User: "alice", Password: "Wrong.Horse.1"})
	if !errors.Is(err, lsastore.ErrLogon) {
		t.Errorf("wrong password: %v", err)
	}
	b, err := lsastore.Open(t.Context(), lsastore.Config{Server: addr, Domain: "BKRP", User: "alice", Password: password})
	if err != nil {
		t.Fatal(err) // the policy opens for all; the secrets do not
	}
	defer b.Close()
	if _, _, err := b.Get(t.Context(), keystore.CurrentServerSecret); err == nil || errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("a secret for alice: %v", err)
	}
}
