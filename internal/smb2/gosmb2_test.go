package smb2

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"testing"

	peer "github.com/cloudsoda/go-smb2"

	"github.com/seed05845750/bkrp/internal/smb2/wire"
)

// dialPeer logs on with the client library, which is not of this project.
func dialPeer(t testing.TB, addr string, d Dialect, user, password string) (*peer.Session, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), hangTime)
	defer cancel()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	dialer := &peer.Dialer{
		Negotiator: peer.Negotiator{RequireMessageSigning: true, SpecifiedDialect: uint16(d)},
		Initiator:  &peer.NTLMInitiator{User: user, Password: password, Domain: testDomain},
	}
	return dialer.DialConn(ctx, nc, "127.0.0.1")
}

// TestPeerClient runs the client library against the server in each dialect,
// with and without encryption.
func TestPeerClient(t *testing.T) {
	for _, enc := range []Encryption{EncryptionOff, EncryptionOffer, EncryptionRequire} {
		for _, d := range []Dialect{Dialect202, Dialect210, Dialect300, Dialect302, Dialect311} {
			if enc == EncryptionRequire && d < Dialect300 {
				continue
			}
			name := map[Encryption]string{EncryptionOff: "off", EncryptionOffer: "offer", EncryptionRequire: "require"}[enc]
			t.Run(d.String()+"/"+name, func(t *testing.T) {
				encrypted := make(chan bool, 1)
				_, addr := startServer(t, Config{
					Encryption: enc, MaxDialect: Dialect311,
					Pipes: map[string]PipeFunc{"who": func(ctx context.Context, p *Pipe) {
						encrypted <- p.Encrypted()
						if p.Name() != "who" || len(p.SessionKey()) != 16 || p.RemoteAddr() == nil || p.LocalAddr() == nil {
							t.Errorf("pipe %q, key of %d octets", p.Name(), len(p.SessionKey()))
						}
						io.WriteString(p, p.Identity().SID.String())
						<-ctx.Done()
					}},
				})
				s, err := dialPeer(t, addr, d, testUser, testPassword)
				if err != nil {
					t.Fatal(err)
				}
				share, err := s.Mount("IPC$")
				if err != nil {
					t.Fatal(err)
				}
				usePipes(t, share)
				if got := <-encrypted; got != (enc == EncryptionRequire) {
					t.Errorf("Encrypted() = %v", got)
				}
				if err := share.Umount(); err != nil {
					t.Error(err)
				}
				if err := s.Logoff(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func usePipes(t *testing.T, share *peer.Share) {
	t.Helper()
	who, err := share.OpenFile("WHO", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer who.Close()
	sid := make([]byte, len(aliceSID.String()))
	if _, err := io.ReadFull(who, sid); err != nil || string(sid) != aliceSID.String() {
		t.Fatalf("the pipe says %q, %v", sid, err)
	}
	echo, err := share.OpenFile("echo", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	for _, size := range []int{4, 100, 1500, 4280, 60000} {
		m := message(size)
		got := make([]byte, size)
		if _, err := echo.Write(m); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(echo, got); err != nil || !bytes.Equal(got, m) {
			t.Fatalf("echo of %d octets: %v", size, err)
		}
	}
	if _, err := share.OpenFile("nosuchpipe", os.O_RDWR, 0); !os.IsNotExist(err) {
		t.Errorf("opening an unknown pipe: %v", err)
	}
}

// TestPeerRefused has the client library refused a logon.
func TestPeerRefused(t *testing.T) {
	_, addr := startServer(t, Config{})
	for _, c := range []struct{ user, password string }{
		{testUser, "wrong"}, {"nobody", testPassword}, {"", ""},
	} {
		_, err := dialPeer(t, addr, Dialect311, c.user, c.password)
		if e, ok := err.(*peer.ResponseError); !ok || wire.Status(e.Code) != wire.StatusLogonFailure {
			t.Errorf("logon of %q: %v, want status %v", c.user, err, wire.StatusLogonFailure)
		}
	}
	if s, err := dialPeer(t, addr, Dialect311, testUser, testPassword); err != nil {
		t.Error("logon after the refused ones:", err)
	} else if _, err := s.Mount("C$"); err == nil {
		t.Error("a share that is not there was mounted")
	}
}
