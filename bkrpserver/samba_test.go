package bkrpserver_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/bkrpserver"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/backuprkey"
	"github.com/seed05845750/bkrp/internal/dcerpc"
	"github.com/seed05845750/bkrp/internal/gss"
)

// smbdConn is a pipe as smbd forwards it: each message has its length in front.
type smbdConn struct {
	net.Conn
	rest int
}

func (c *smbdConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(append(binary.LittleEndian.AppendUint16(nil, uint16(len(b))), b...))
	return max(0, n-2), err
}

func (c *smbdConn) Read(b []byte) (int, error) {
	if c.rest == 0 {
		var head [2]byte
		if _, err := io.ReadFull(c.Conn, head[:]); err != nil {
			return 0, err
		}
		c.rest = int(binary.LittleEndian.Uint16(head[:]))
	}
	n, err := c.Conn.Read(b[:min(len(b), c.rest)])
	c.rest -= n
	return n, err
}

// openForwarded opens a pipe with the hello that a real smbd sent for alice, of
// another domain than the server's.
func openForwarded(t *testing.T, dir, pipe string) *smbdConn {
	t.Helper()
	conn, err := dialForwarded(dir, pipe, helloOfSmbd(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// helloOfSmbd is the one that was recorded.
func helloOfSmbd(t *testing.T) []byte {
	t.Helper()
	text, err := os.ReadFile("../internal/npa/testdata/hello7.hex")
	if err != nil {
		t.Fatal(err)
	}
	_, digits, _ := strings.Cut(string(text), "octets.\n")
	hello, err := hex.DecodeString(strings.ReplaceAll(digits, "\n", ""))
	if err != nil || len(hello) != 814 {
		t.Fatalf("%d octets, %v", len(hello), err)
	}
	return hello
}

// dialForwarded opens a pipe with a hello, which has to be answered.
func dialForwarded(dir, pipe string, hello []byte) (*smbdConn, error) {
	conn, err := net.Dial("unix", filepath.Join(dir, "np", pipe))
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(hangTime))
	if _, err = conn.Write(hello); err == nil {
		_, err = io.ReadFull(conn, make([]byte, 36))
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return &smbdConn{Conn: conn}, nil
}

// callForwarded binds as i says and backs a secret up, after wait.
func callForwarded(t *testing.T, conn *smbdConn, i gss.Initiator, level dcerpc.AuthLevel, wait func()) (bkrp.Status, error) {
	t.Helper()
	c := dcerpc.NewClient(conn, dcerpc.ClientConfig{
		Interface: dcerpc.SyntaxID{UUID: backuprkey.InterfaceUUID, Major: backuprkey.VersionMajor},
		Initiator: i, Level: level, Target: "host/dc1",
	})
	defer c.Close()
	if err := c.Bind(t.Context()); err != nil {
		return 0, err
	}
	if wait != nil {
		wait()
	}
	stub := backuprkey.Request{Action: dtyp.GUID(bkrp.ActionBackup), Data: []byte("secret")}.Append(nil, c.Encoding())
	out, err := c.Call(t.Context(), backuprkey.Opnum, stub)
	if err != nil {
		return 0, err
	}
	resp, err := backuprkey.ParseResponse(out, c.Encoding())
	return bkrp.Status(resp.Status), err
}

// sambaDir is an "ncalrpc dir" as Samba makes it.
func sambaDir(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("smbd runs as root, and so does what serves behind it")
	}
	dir, err := os.MkdirTemp("", "bkrp-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Mkdir(filepath.Join(dir, "np"), 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// smbd lets clients without any logon open pipes. They do not keep them.
func TestBehindSambaWithoutLogon(t *testing.T) {
	// An honest client on a busy machine may need more time than others are given:
	// it gets more then.
	for limit := time.Second; !withoutLogon(t, limit); limit *= 5 {
		if limit > time.Minute {
			t.Fatalf("nobody is in time with %v", limit)
		}
	}
}

// withoutLogon is the test with so much time for a logon. It reports whether that
// was enough for the clients to get to where the test begins.
func withoutLogon(t *testing.T, limit time.Duration) (inTime bool) {
	dir := sambaDir(t)
	f := newFixture(t)
	if _, err := f.Store.AddAccount(t.Context(), bobName, domainPassword); err != nil {
		t.Fatal(err)
	}
	srv, err := bkrpserver.New(bkrpserver.Config{
		Service: f.Service, Logger: slog.New(slog.DiscardHandler), Limits: bkrpserver.Limits{AuthTimeout: limit},
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := srv.ListenSamba(dir)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- l.Serve(context.Background()) }()
	defer func() {
		if err := srv.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	open := func() (*smbdConn, error) {
		conn, err := dialForwarded(dir, bkrpserver.PipeProtectedStorage, helloOfSmbd(t))
		if err == nil {
			t.Cleanup(func() { conn.Close() })
		}
		return conn, err
	}
	honest, err := open()
	if err != nil {
		return false
	}
	status, err := callForwarded(t, honest, ntlmInitiator(bobName, domainPassword), dcerpc.LevelPrivacy, func() {
		// Both of these are opened after the honest one, and closed before it
		// makes its call: one is silent, one bound to without authentication.
		silent, err := open()
		if err != nil {
			return
		}
		unknown, err := open()
		if err != nil {
			return
		}
		_, err = callForwarded(t, unknown, nil, 0, func() {
			inTime = true
			for name, conn := range map[string]*smbdConn{"silent": silent, "unknown": unknown} {
				if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
					t.Errorf("a client that stays %s: %v", name, err)
				}
			}
		})
		if inTime && (err == nil || errors.Is(err, dcerpc.FaultAccessDenied)) {
			t.Errorf("a client that did not log on is still answered: %v", err)
		}
	})
	if inTime && (err != nil || status != bkrp.StatusOK) {
		t.Errorf("a client that logged on in time: %v, %v", status, err)
	}
	return inTime
}

func TestBehindSamba(t *testing.T) {
	dir := sambaDir(t)
	f := newFixture(t)
	events := make(chan bkrpserver.Event, 10)
	f.Service.Audit = func(_ context.Context, e *bkrpserver.Event) error {
		events <- *e
		return nil
	}
	bob, err := f.Store.AddAccount(t.Context(), bobName, domainPassword)
	if err != nil {
		t.Fatal(err)
	}
	srv, err := bkrpserver.New(bkrpserver.Config{
		Service: f.Service, Pipes: []string{bkrpserver.PipeProtectedStorage, bkrpserver.PipeNTSvcs}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := srv.ListenSamba(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got := l.String(); got != "samba:"+dir {
		t.Errorf("it calls itself %s", got)
	}
	served := make(chan error, 1)
	go func() { served <- l.Serve(context.Background()) }()

	for _, pipe := range []string{bkrpserver.PipeProtectedStorage, bkrpserver.PipeNTSvcs} {
		// Whoever smbd says it is: the caller is whom the bind proves.
		status, err := callForwarded(t, openForwarded(t, dir, pipe), ntlmInitiator(bobName, domainPassword), dcerpc.LevelPrivacy, nil)
		if err != nil || status != bkrp.StatusOK {
			t.Errorf("%s: %v, %v", pipe, status, err)
		}
		e := <-events
		if e.Caller.SID != bob.SID || e.Caller.Address != "127.0.0.1:39668" || e.Status != bkrp.StatusOK {
			t.Errorf("%s: audited %+v", pipe, e)
		}
	}
	for _, c := range []struct {
		name  string
		who   gss.Initiator
		level dcerpc.AuthLevel
		want  error
	}{
		{"nobody S-2.1", nil, 0, dcerpc.FaultAccessDenied},
		{"only signed S-2.1", ntlmInitiator(bobName, domainPassword), dcerpc.LevelIntegrity, dcerpc.FaultAccessDenied},
		{"wrong password", ntlmInitiator(bobName, "wrong"), dcerpc.LevelPrivacy, dcerpc.FaultAccessDenied},
		{"whom smbd knows and we do not", ntlmInitiator(aliceName, domainPassword), dcerpc.LevelPrivacy, dcerpc.FaultAccessDenied},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, err := callForwarded(t, openForwarded(t, dir, bkrpserver.PipeProtectedStorage), c.who, c.level, nil)
			if !errors.Is(err, c.want) {
				t.Errorf("%v, %v, want %v", status, err, c.want)
			}
			if len(events) != 0 {
				t.Errorf("it came as far as the service: %+v", <-events)
			}
		})
	}
	t.Run("noise", func(t *testing.T) {
		conn := openForwarded(t, dir, bkrpserver.PipeProtectedStorage)
		conn.Write(bytes.Repeat([]byte{0xFF}, 5000))
		if _, err := io.Copy(io.Discard, conn.Conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("not closed")
		}
	})

	if err := srv.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "np", "protected_storage")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the pipe is still there: %v", err)
	}
	if _, err := srv.ListenSamba(dir); err == nil {
		t.Error("a server that is shut down listens again")
	}
}
