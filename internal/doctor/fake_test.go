package doctor_test

import (
	"context"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/bkrpclient"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/backuprkey"
	"github.com/seed05845750/bkrp/internal/dcerpc"
	"github.com/seed05845750/bkrp/internal/gss"
	"github.com/seed05845750/bkrp/internal/gss/ntlm"
	"github.com/seed05845750/bkrp/internal/gss/spnego"
	"github.com/seed05845750/bkrp/internal/lsarpc"
	"github.com/seed05845750/bkrp/internal/smb2"
)

const (
	fakeDomain   = "bkrp.example"
	fakeUser     = "alice"
	fakePassword = "Correct.Horse.9"
)

var fakeSID = dtyp.MustParseSID("S-1-5-21-1-2-3-1104")

// fake is a server that does the protocol right until something in it is
// replaced.
type fake struct {
	pair   *bkrp.KeyPair
	server *bkrp.ServerKey
	guid   dtyp.GUID // of server

	cert     func() []byte
	restore  func(blob []byte) ([]byte, bkrp.Status)
	win2K    func(blob []byte) ([]byte, bkrp.Status)
	minLevel dcerpc.AuthLevel
}

// fakePair is one key for all, since making one takes its time.
var fakePair = sync.OnceValues(func() (*bkrp.KeyPair, error) { return bkrp.GenerateKeyPair(fakeDomain, time.Now()) })

func newFake(t *testing.T) *fake {
	t.Helper()
	pair, err := fakePair()
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{pair: pair, server: bkrp.GenerateServerKey(), guid: bkrp.NewKeyGUID()}
	f.cert = func() []byte { return pair.Certificate().Raw }
	f.restore, f.win2K = f.restoreRight, f.win2KRight
	return f
}

func (f *fake) derive(salt []byte) [20]byte { return f.server.Derive(0, salt) }

func (f *fake) restoreRight(blob []byte) ([]byte, bkrp.Status) {
	w, err := bkrp.ParseClientWrapped(blob)
	if err != nil {
		return nil, bkrp.StatusInvalidParameter
	}
	s, err := w.Open(f.pair.DecryptRaw, f.pair.RejectionKey())
	switch {
	case err != nil:
		return nil, bkrp.StatusInvalidData
	case s.SID != fakeSID:
		return nil, bkrp.StatusInvalidAccess
	}
	return bkrp.AppendUnwrapped(nil, s.Secret), 0
}

func (f *fake) win2KRight(blob []byte) ([]byte, bkrp.Status) {
	w, err := bkrp.ParseServerWrapped(blob)
	if err != nil {
		return nil, bkrp.StatusInvalidParameter
	}
	if w.KeyGUID != f.guid {
		return nil, bkrp.StatusFileNotFound
	}
	sid, secret, err := w.Open(f.derive)
	if err != nil || sid != fakeSID {
		return nil, bkrp.StatusInvalidAccess
	}
	return secret, 0
}

func (f *fake) handle(_ context.Context, c *dcerpc.Call) ([]byte, error) {
	q, err := backuprkey.ParseRequest(c.Stub, c.Encoding)
	if err != nil {
		return nil, err
	}
	var out []byte
	var status bkrp.Status
	switch bkrp.Action(q.Action) {
	case bkrp.ActionRetrieve:
		out = f.cert()
	case bkrp.ActionBackup:
		if out, err = bkrp.WrapServer(f.derive, f.guid, fakeSID, q.Data); err != nil {
			return nil, err
		}
	case bkrp.ActionRestore:
		if binary.LittleEndian.Uint32(q.Data) == bkrp.ServerWrappedVersion {
			out, status = f.win2K(q.Data)
			break
		}
		out, status = f.restore(q.Data)
	default:
		out, status = f.win2K(q.Data)
	}
	return backuprkey.Response{Data: out, Status: uint32(status)}.Append(nil, c.ResponseEncoding()), nil
}

// start serves it until the test ends.
func (f *fake) start(t *testing.T) (addr string) {
	t.Helper()
	acceptor, err := spnego.NewAcceptor(spnego.Mechanism{OIDs: []asn1.ObjectIdentifier{spnego.NTLM()}, Acceptor: ntlm.NewAcceptor(ntlm.Config{
		Source: ntlm.LocalSource(func(context.Context, string) (ntlm.LocalAccount, error) {
			return ntlm.LocalAccount{Hash: ntlm.HashPassword(fakePassword), SID: fakeSID, Name: fakeUser}, nil
		}, "BKRP"),
		NetBIOSDomain: "BKRP", DNSDomain: fakeDomain, NetBIOSComputer: "DC1", DNSComputer: "dc1." + fakeDomain,
	})})
	if err != nil {
		t.Fatal(err)
	}
	lsa := lsarpc.New(lsarpc.Config{
		Domain: lsarpc.Domain{DNSName: fakeDomain, NetBIOS: "BKRP", SID: dtyp.MustParseSID("S-1-5-21-1-2-3")},
		AccountByName: func(context.Context, string) (lsarpc.Account, error) {
			return lsarpc.Account{Name: fakeUser, SID: fakeSID}, nil
		},
	})
	rpc := &dcerpc.Server{
		Acceptors: map[dcerpc.AuthType]gss.Acceptor{dcerpc.AuthSPNEGO: acceptor},
		Interfaces: []dcerpc.Interface{
			{UUID: backuprkey.InterfaceUUID, Major: 1, Opnums: 1, MinAuthLevel: f.minLevel, Handle: f.handle}, lsa,
		},
	}
	serve := func(ctx context.Context, p *smb2.Pipe) {
		_ = rpc.ServeConn(ctx, p, dcerpc.Transport{Identity: gss.Identity{SID: fakeSID, Domain: "BKRP", Name: fakeUser}})
	}
	srv, err := smb2.NewServer(smb2.Config{Acceptor: acceptor, Pipes: map[string]smb2.PipeFunc{
		bkrpclient.ProtectedStorage: serve, "lsarpc": serve,
	}})
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

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func fakeConfig(addr string) bkrpclient.Config {
	return bkrpclient.Config{Server: addr, Timeout: hangTime, Credential: bkrpclient.Credential{
		Domain: "BKRP", User: fakeUser, Password: fakePassword,
	}}
}
