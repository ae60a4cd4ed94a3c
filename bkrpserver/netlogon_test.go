package bkrpserver_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/bkrpclient"
	"github.com/seed05845750/bkrp/bkrpserver"
)

// A domain controller that never answers does not hold up the end: the logon that
// waits for it is refused, long before its own time is up.
func TestShutdownWhileLoggingOn(t *testing.T) {
	dc, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer dc.Close()
	password := filepath.Join(t.TempDir(), "machine.password")
	if err := os.WriteFile(password, []byte("x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := quietService(t)
	srv, err := bkrpserver.New(bkrpserver.Config{
		Service: s, Logger: s.Logger, NTLM: bkrpserver.NTLMNetlogon,
		Netlogon: bkrpserver.Netlogon{
			Server: dc.Addr().String(), Account: "SRV1$", PasswordFile: password, Timeout: time.Hour,
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(context.Background(), l) }()
	loggedOn := make(chan error, 1)
	go func() {
		c, err := bkrpclient.Dial(context.Background(), bkrpclient.Config{
			Server:     l.Addr().String(),
			Credential: bkrpclient.Credential{Domain: "BKRP", User: "alice", Password: "Correct.Horse.9"},
		})
		if err == nil {
			c.Close()
		}
		loggedOn <- err
	}()
	asked, err := dc.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer asked.Close()
	ctx, cancel := context.WithTimeout(t.Context(), hangTime)
	defer cancel()
	if err := srv.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	if err := <-loggedOn; err == nil {
		t.Error("logged on, whoever said so")
	}
}
