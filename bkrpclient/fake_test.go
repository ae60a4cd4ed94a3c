package bkrpclient_test

import (
	"context"
	"crypto/rand"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"net"
	"sync/atomic"
	"testing"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/bkrpclient"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/backuprkey"
	"github.com/seed05845750/bkrp/internal/dcerpc"
	"github.com/seed05845750/bkrp/internal/gss"
	"github.com/seed05845750/bkrp/internal/gss/ntlm"
	"github.com/seed05845750/bkrp/internal/gss/spnego"
	"github.com/seed05845750/bkrp/internal/ndr"
	"github.com/seed05845750/bkrp/internal/smb2"
)

// answer gives the stub of the response to a call of BackuprKey.
type answer func(q backuprkey.Request, enc ndr.Encoding) ([]byte, error)

// startFake is a server that authenticates and protects as it should, and then
// answers as it is told. calls counts the calls.
func startFake(t *testing.T, f answer) (addr string, calls *atomic.Int64) {
	t.Helper()
	calls = new(atomic.Int64)
	return startFakeCalls(t, func(c *dcerpc.Call) ([]byte, error) {
		calls.Add(1)
		q, err := backuprkey.ParseRequest(c.Stub, c.Encoding)
		if err != nil {
			return nil, err
		}
		return f(q, c.ResponseEncoding())
	}), calls
}

// startFakeCalls is startFake for who wants to see more of a call.
func startFakeCalls(t *testing.T, handle func(c *dcerpc.Call) ([]byte, error)) (addr string) {
	t.Helper()
	mech := ntlm.NewAcceptor(ntlm.Config{
		Source: ntlm.LocalSource(func(context.Context, string) (ntlm.LocalAccount, error) {
			return ntlm.LocalAccount{Hash: ntlm.HashPassword(testPassword), SID: dtyp.MustParseSID("S-1-5-21-1-2-3-1104"), Name: testUser}, nil
		}, testDomain),
		NetBIOSDomain: testDomain, DNSDomain: "bkrp.example", NetBIOSComputer: "DC1", DNSComputer: "dc1.bkrp.example",
	})
	acceptor, err := spnego.NewAcceptor(spnego.Mechanism{OIDs: []asn1.ObjectIdentifier{spnego.NTLM()}, Acceptor: mech})
	if err != nil {
		t.Fatal(err)
	}
	rpc := &dcerpc.Server{
		Acceptors: map[dcerpc.AuthType]gss.Acceptor{dcerpc.AuthSPNEGO: acceptor},
		Interfaces: []dcerpc.Interface{{
			UUID: backuprkey.InterfaceUUID, Major: 1, Opnums: 1,
			Handle: func(_ context.Context, c *dcerpc.Call) ([]byte, error) { return handle(c) },
		}},
	}
	return startSMB(t, acceptor, func(ctx context.Context, p *smb2.Pipe) { _ = rpc.ServeConn(ctx, p, dcerpc.Transport{}) })
}

func startSMB(t *testing.T, acceptor gss.Acceptor, f smb2.PipeFunc) string {
	t.Helper()
	srv, err := smb2.NewServer(smb2.Config{Acceptor: acceptor, Pipes: map[string]smb2.PipeFunc{bkrpclient.ProtectedStorage: f}})
	if err != nil {
		t.Fatal(err)
	}
	l := listen(t)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// good is the answer with data and status.
func good(data []byte, status uint32) answer {
	return func(_ backuprkey.Request, enc ndr.Encoding) ([]byte, error) {
		return backuprkey.Response{Data: data, Status: status}.Append(nil, enc), nil
	}
}

// bent is a good answer of 8 octets after f has been at it.
func bent(f func(stub []byte) []byte) answer {
	return func(_ backuprkey.Request, enc ndr.Encoding) ([]byte, error) {
		return f(backuprkey.Response{Data: []byte("8 octets")}.Append(nil, enc)), nil
	}
}

func TestAnswersThatBreakTheProtocol(t *testing.T) {
	for name, f := range map[string]answer{
		"C-3.2.4-06 count below max_count": bent(func(b []byte) []byte { b[16]--; return b }),
		"C-3.2.4-06 count above max_count": bent(func(b []byte) []byte { b[16]++; return b }),
		"C-3.2.4-06 max_count of 2 GiB":    bent(func(b []byte) []byte { b[7] = 0x80; return b }),
		"C-3.2.4-07 NULL and a count": func(backuprkey.Request, ndr.Encoding) ([]byte, error) {
			return []byte{0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0}, nil
		},
		"trailing octets": bent(func(b []byte) []byte { return append(b, 0, 0, 0, 0) }),
		"cut short":       bent(func(b []byte) []byte { return b[:len(b)-1] }),
		"nothing":         bent(func([]byte) []byte { return nil }),
	} {
		t.Run(name, func(t *testing.T) {
			addr, _ := startFake(t, f)
			c := dial(t, configFor(addr))
			for _, action := range []bkrp.Action{bkrp.ActionBackup, bkrp.ActionRestore, bkrp.ActionRestoreWin2K, bkrp.ActionRetrieve} {
				if out, err := c.BackuprKey(t.Context(), action, []byte{1}); !errors.Is(err, bkrpclient.ErrResponse) || out != nil {
					t.Errorf("%v: %d octets, %v", action, len(out), err)
				}
			}
		})
	}
}

func TestStatusCodes(t *testing.T) {
	for _, status := range []uint32{2, 5, 8, 0xC, 0xD, 0x32, 0x57, 0x3E5, 0x539, 0x54F, 0xFFFFFFFF} {
		addr, _ := startFake(t, good(nil, status))
		c := dial(t, configFor(addr))
		_, err := c.RetrieveKey(t.Context())
		if got := serverStatus(t, err); uint32(got) != status {
			t.Errorf("C-3.2.4-17: status %#x, want %#x", uint32(got), status)
		}
	}
	t.Run("data beside a status is not used", func(t *testing.T) {
		addr, _ := startFake(t, good([]byte("data"), 0xD))
		out, err := dial(t, configFor(addr)).BackuprKey(t.Context(), bkrp.ActionBackup, []byte{1})
		if out != nil || serverStatus(t, err) != bkrp.StatusInvalidData {
			t.Errorf("%x, %v", out, err)
		}
	})
	t.Run("a fault", func(t *testing.T) {
		addr, _ := startFake(t, func(backuprkey.Request, ndr.Encoding) ([]byte, error) { return nil, dcerpc.FaultAccessDenied })
		var fault dcerpc.Fault
		if _, err := dial(t, configFor(addr)).RetrieveKey(t.Context()); !errors.As(err, &fault) || fault != dcerpc.FaultAccessDenied {
			t.Error(err)
		}
	})
}

// TestGarbage: what can be read and makes no sense is an error, and nothing
// else is tried instead.
func TestGarbage(t *testing.T) {
	clientBlob := make([]byte, 0, 1024)
	for _, v := range []uint32{2, 256, 88} { // dwVersion, cbEncryptedSecret, cbAccessCheck
		clientBlob = binary.LittleEndian.AppendUint32(clientBlob, v)
	}
	clientBlob = clientBlob[:12+16+256+88]
	rand.Read(clientBlob[12:])
	junk := make([]byte, 700)
	rand.Read(junk)
	for name, tt := range map[string]struct {
		data []byte
		call func(c *bkrpclient.Client) ([]byte, error)
	}{
		"C-3.2.4.1-05 certificate": {junk, func(c *bkrpclient.Client) ([]byte, error) {
			_, err := c.RetrieveKey(t.Context())
			return nil, err
		}},
		"C-3.2.4.1-05 certificate, wrapping": {junk, func(c *bkrpclient.Client) ([]byte, error) {
			return c.Wrap(t.Context(), []byte("secret"), bkrpclient.WrapOptions{})
		}},
		"C-3.2.4.1-05 certificate, wrapping where it may": {junk, func(c *bkrpclient.Client) ([]byte, error) {
			return c.Wrap(t.Context(), make([]byte, 1000), bkrpclient.WrapOptions{Mode: bkrpclient.ModeAuto})
		}},
		"no certificate": {nil, func(c *bkrpclient.Client) ([]byte, error) {
			return c.Wrap(t.Context(), []byte("secret"), bkrpclient.WrapOptions{})
		}},
		"2.2.3 secret without four zero octets": {[]byte{1, 0, 0, 0, 's'}, func(c *bkrpclient.Client) ([]byte, error) {
			return c.Unwrap(t.Context(), clientBlob)
		}},
		"2.2.3 three octets": {[]byte{0, 0, 0}, func(c *bkrpclient.Client) ([]byte, error) {
			return c.Unwrap(t.Context(), clientBlob)
		}},
		"ServerWrap blob that is none": {junk, func(c *bkrpclient.Client) ([]byte, error) {
			return c.Wrap(t.Context(), []byte("secret"), bkrpclient.WrapOptions{Mode: bkrpclient.ModeServer})
		}},
		"ServerWrap blob of no octets": {nil, func(c *bkrpclient.Client) ([]byte, error) {
			return c.Wrap(t.Context(), []byte("secret"), bkrpclient.WrapOptions{Mode: bkrpclient.ModeServer})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			addr, calls := startFake(t, good(tt.data, 0))
			out, err := tt.call(dial(t, configFor(addr)))
			if !errors.Is(err, bkrpclient.ErrResponse) || out != nil {
				t.Errorf("%d octets, %v", len(out), err)
			}
			if calls.Load() != 1 {
				t.Errorf("%d calls were made", calls.Load())
			}
		})
	}
}
