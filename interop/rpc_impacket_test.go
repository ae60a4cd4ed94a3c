package interop

import (
	"bytes"
	"context"
	"encoding/asn1"
	"errors"
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/backuprkey"
	"github.com/seed05845750/bkrp/internal/dcerpc"
	"github.com/seed05845750/bkrp/internal/gss"
	"github.com/seed05845750/bkrp/internal/gss/ntlm"
	"github.com/seed05845750/bkrp/internal/gss/spnego"
	"github.com/seed05845750/bkrp/interop/peers"
)

// The runtime of internal/dcerpc without SMB below it, on a TCP listener:
// impacket and other clients can bind there as well.

const (
	rpcUser     = "alice"
	rpcPassword = "Passw0rd.2"
)

var rpcSID = dtyp.MustParseSID("S-1-5-21-1-2-3-1103")

// rpcAcceptors are NTLM, bare and in SPNEGO, for rpcUser.
func rpcAcceptors(t *testing.T) map[dcerpc.AuthType]gss.Acceptor {
	t.Helper()
	account := ntlm.LocalAccount{Hash: ntlm.HashPassword(rpcPassword), SID: rpcSID, Name: rpcUser}
	lookup := func(_ context.Context, user string) (ntlm.LocalAccount, error) {
		if strings.EqualFold(user, rpcUser) {
			return account, nil
		}
		return ntlm.LocalAccount{}, gss.ErrLogon
	}
	n := ntlm.NewAcceptor(ntlm.Config{
		Source:        ntlm.LocalSource(lookup, "BKRP", "bkrp.test"),
		NetBIOSDomain: "BKRP", DNSDomain: "bkrp.test", NetBIOSComputer: "DC1", DNSComputer: "dc1.bkrp.test",
	})
	s, err := spnego.NewAcceptor(spnego.Mechanism{OIDs: []asn1.ObjectIdentifier{spnego.NTLM()}, Acceptor: n})
	if err != nil {
		t.Fatal(err)
	}
	return map[dcerpc.AuthType]gss.Acceptor{dcerpc.AuthNTLM: n, dcerpc.AuthSPNEGO: s}
}

// backuprkeyEcho answers BackuprKey with its input reversed, after checking
// who called.
func backuprkeyEcho() dcerpc.Interface { return backuprkeyEchoFor(rpcSID) }

func backuprkeyEchoFor(sid dtyp.SID) dcerpc.Interface {
	return dcerpc.Interface{
		UUID: backuprkey.InterfaceUUID, Major: backuprkey.VersionMajor, Opnums: 1,
		Handle: func(_ context.Context, c *dcerpc.Call) ([]byte, error) {
			q, err := backuprkey.ParseRequest(c.Stub, c.Encoding)
			if err != nil {
				return nil, err
			}
			if c.Identity.SID != sid || c.AuthLevel != dcerpc.LevelPrivacy {
				return nil, dcerpc.FaultAccessDenied
			}
			if len(q.Data) == 0 {
				return backuprkey.Response{Status: 0x57}.Append(nil, c.ResponseEncoding()), nil
			}
			out := bytes.Clone(q.Data)
			for i, j := 0, len(out)-1; i < j; i, j = i+1, j-1 {
				out[i], out[j] = out[j], out[i]
			}
			return backuprkey.Response{Data: out}.Append(nil, c.ResponseEncoding()), nil
		},
	}
}

// serveRPC serves on a loopback port until the test ends.
func serveRPC(t *testing.T, s *dcerpc.Server, transport dcerpc.Transport) (port string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var served sync.WaitGroup
	served.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			served.Go(func() {
				if err := s.ServeConn(ctx, conn, transport); err != nil && !errors.Is(err, context.Canceled) {
					t.Logf("connection: %v", err)
				}
			})
		}
	})
	t.Cleanup(func() { cancel(); l.Close(); served.Wait() })
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return port
}

// runImpacketRPC runs a script in testdata with the system's Python, the one that
// Debian's impacket is installed for.
func runImpacketRPC(t *testing.T, script string, args ...string) string {
	t.Helper()
	const python = "/usr/bin/python3"
	if err := exec.Command(python, "-c", "import impacket").Run(); err != nil {
		peers.Unavailable(t, errors.New("impacket is not installed: apt-get install python3-impacket"))
	}
	out, err := exec.CommandContext(t.Context(), python, append([]string{script}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}

func TestRPCImpacket(t *testing.T) {
	port := serveRPC(t, &dcerpc.Server{
		Interfaces: []dcerpc.Interface{backuprkeyEcho()}, Acceptors: rpcAcceptors(t),
	}, dcerpc.Transport{PipeName: `\PIPE\protected_storage`})
	out := runImpacketRPC(t, "testdata/rpc_impacket.py", port, rpcUser, rpcPassword)
	var want []string
	for _, syntax := range []string{"ndr", "ndr64"} {
		for _, line := range []string{
			"6 call 0 0x57", "6 call 1 ok", "6 call 64 ok", "6 call 4280 ok", "6 call 10000 ok",
			"6 opnum nca_s_op_rng_error", "6 stub rpc_x_bad_stub_data", "6 megabyte ok",
			"5 rpc_s_access_denied\n" + syntax + " 5 rpc_s_access_denied",
			"2 rpc_s_access_denied\n" + syntax + " 2 rpc_s_access_denied",
			"1 rpc_s_access_denied\n" + syntax + " 1 rpc_s_access_denied",
		} {
			want = append(want, syntax+" "+line)
		}
	}
	want = append(want, "wrong password rpc_s_access_denied")
	for _, want := range want {
		if !strings.Contains(out, want+"\n") {
			t.Errorf("no %q", want)
		}
	}
	if !strings.Contains(out, "abstract_syntax_not_supported") {
		t.Error("the unknown interface was not refused as one")
	}
	if t.Failed() {
		t.Logf("impacket said:\n%s", out)
	}
}
