package bkrpclient_test

import (
	"errors"
	"net"
	"testing"

	"github.com/seed05845750/bkrp/bkrpclient"
	"github.com/seed05845750/bkrp/bkrpserver"
	"github.com/seed05845750/bkrp/internal/gss/ntlm"
	"github.com/seed05845750/bkrp/internal/smbclient"
)

// TestPipeClosedInUse: a context that ends closes the pipe, whatever a call does
// with it at that moment. The race detector sees what a crash would come of.
func TestPipeClosedInUse(t *testing.T) {
	s := startServer(t, bkrpserver.Config{})
	open := func(t *testing.T) *smbclient.Pipe {
		t.Helper()
		session, err := smbclient.Dial(t.Context(), smbclient.Config{Host: "DC1", Address: s.addr, Initiator: ntlm.NewInitiator(ntlm.Credential{
			Domain: testDomain, User: testUser, Hash: ntlm.HashPassword(testPassword),
		})})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { session.Close() })
		p, err := session.OpenPipe(bkrpclient.ProtectedStorage)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	for name, use := range map[string]func(*smbclient.Pipe) (int, error){
		"reading": func(p *smbclient.Pipe) (int, error) { return p.Read(make([]byte, 16)) },
		"writing": func(p *smbclient.Pipe) (int, error) { return p.Write(make([]byte, 16)) },
	} {
		t.Run(name, func(t *testing.T) {
			for range 20 {
				p, ended := open(t), make(chan error, 1)
				begun := make(chan struct{})
				go func() {
					close(begun)
					for {
						if _, err := use(p); err != nil {
							ended <- err
							return
						}
					}
				}()
				<-begun
				p.Close()
				if err := <-ended; err == nil {
					t.Error("no error")
				}
				if _, err := use(p); !errors.Is(err, net.ErrClosed) {
					t.Errorf("afterwards: %v", err)
				}
				if err := p.Close(); err != nil {
					t.Errorf("closed twice: %v", err)
				}
			}
		})
	}
}
