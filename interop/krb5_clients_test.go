package interop

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oiweiwei/go-msrpc/ssp"
	"github.com/oiweiwei/go-msrpc/ssp/credential"
	"github.com/oiweiwei/go-msrpc/ssp/gssapi"
	mskrb5 "github.com/oiweiwei/go-msrpc/ssp/krb5"

	msdcerpc "github.com/oiweiwei/go-msrpc/dcerpc"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/dcerpc"
	"github.com/seed05845750/bkrp/internal/gss"
	"github.com/seed05845750/bkrp/internal/gss/krb5"
	"github.com/seed05845750/bkrp/internal/gss/spnego"
	"github.com/seed05845750/bkrp/internal/smb2"
	"github.com/seed05845750/bkrp/internal/smbclient"
	"github.com/seed05845750/bkrp/interop/peers"
)

// TestKerberosImpacket has impacket log on with the tickets of kinit.
func TestKerberosImpacket(t *testing.T) {
	if err := peers.MissingImpacket(t.Context()); err != nil {
		peers.Unavailable(t, err)
	}
	dc, m := member(t)
	// impacket 0.10 asks for a service's ticket in a way that Samba 4.17 does
	// not take, so they are there already.
	cache, err := dc.Kinit(t.Context(), peers.Alice, "cifs/"+krb5Host, "host/"+krb5Host)
	if err != nil {
		t.Fatal(err)
	}
	smbPort, logged := krb5Server(t, dc, m, smb2.Config{})
	negotiated, bare, rpcLogged := krb5Acceptors(t, m.Keytab)
	rpcPort := serveRPC(t, &dcerpc.Server{
		Interfaces: []dcerpc.Interface{backuprkeyEchoFor(dtyp.MustParseSID(sidOf(t, dc, peers.Alice)))},
		Acceptors:  map[dcerpc.AuthType]gss.Acceptor{dcerpc.AuthSPNEGO: negotiated, dcerpc.AuthKerberos: bare},
	}, dcerpc.Transport{PipeName: `\PIPE\protected_storage`})
	script, err := filepath.Abs("testdata/krb5_impacket.py")
	if err != nil {
		t.Fatal(err)
	}
	sizes := []string{"1", "15", "16", "17", "64", "4280", "10000"}
	out, err := dc.Exec(t.Context(), append([]string{"env", "KRB5CCNAME=" + cache, "/usr/bin/python3", script,
		krb5Host, smbPort, rpcPort, dc.Addr, peers.Alice, dc.Realm()}, sizes...)...)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"smb 0x202 ok", "smb 0x210 ok", "smb 0x300 ok", "smb 0x311 ok"}
	for _, n := range sizes {
		want = append(want, "rpc "+n+" ok")
	}
	for _, line := range want {
		if !strings.Contains(out.Stdout, line+"\n") {
			t.Errorf("no %q", line)
		}
	}
	if t.Failed() {
		t.Logf("%v\n%s%s", out, logged, rpcLogged)
	}
}

// TestKerberosSMBClient has our client's end log on to Samba's SMB server.
func TestKerberosSMBClient(t *testing.T) {
	dc := DC(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	source := krb5.PasswordTickets(peers.Alice+"@"+dc.Realm(), func() string { return dc.Password(peers.Alice) }, dc.Krb5Conf())
	session, err := smbclient.Dial(ctx, smbclient.Config{
		Address: dc.Addr + ":445", Host: dc.Host, Initiator: krb5.NewInitiator(source), Mechanism: spnego.Kerberos(),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	pipe, err := session.OpenPipe("samr")
	if err != nil {
		t.Fatal(err)
	}
	if err := pipe.Close(); err != nil {
		t.Error(err)
	}
}

// TestKerberosGoMSRPC has go-msrpc's client log on with a password's tickets,
// by SPNEGO and bare.
func TestKerberosGoMSRPC(t *testing.T) {
	dc, m := member(t)
	negotiated, bare, logged := krb5Acceptors(t, m.Keytab)
	port := serveRPC(t, &dcerpc.Server{
		Interfaces: []dcerpc.Interface{backuprkeyEchoFor(dtyp.MustParseSID(sidOf(t, dc, peers.Alice)))},
		Acceptors:  map[dcerpc.AuthType]gss.Acceptor{dcerpc.AuthSPNEGO: negotiated, dcerpc.AuthKerberos: bare},
	}, dcerpc.Transport{PipeName: `\PIPE\protected_storage`})
	conf, err := mskrb5.LoadKRB5Conf(dc.Krb5Conf())
	if err != nil {
		t.Fatal(err)
	}
	for name, provider := range map[string]msdcerpc.Option{
		"SPNEGO": msdcerpc.WithSecurtyProvider(msdcerpc.AuthTypeGSSNegotiate), "Kerberos": msdcerpc.WithSecurtyProvider(msdcerpc.AuthTypeKerberos),
	} {
		t.Run(name, func(t *testing.T) {
			cfg := mskrb5.NewConfig()
			cfg.KRB5Config = mskrb5.ParsedLibDefaults(conf)
			ctx := gssapi.NewSecurityContext(t.Context(),
				gssapi.WithCredential(credential.NewFromPassword(peers.Alice, dc.Password(peers.Alice), credential.Domain(dc.Realm()))),
				gssapi.WithMechanismFactory(ssp.SPNEGO), gssapi.WithMechanismFactory(ssp.KRB5, cfg))
			callByGoMSRPC(ctx, t, port, provider, msdcerpc.WithSeal(), msdcerpc.WithTargetName("host/"+krb5Host))
			if t.Failed() {
				t.Log(logged)
			}
		})
	}
}

// TestKerberosWithoutPAC has the domain's KDC leave the PAC out of the tickets
// for our server, as one that knows of none does.
func TestKerberosWithoutPAC(t *testing.T) {
	dc := DC(t)
	m, err := dc.Member(t.Context(), "srv2.bkrp.test")
	if err != nil {
		t.Fatal(err)
	}
	if err := dc.WithoutPAC(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	source := krb5.PasswordTickets(peers.Alice+"@"+dc.Realm(), func() string { return dc.Password(peers.Alice) }, dc.Krb5Conf())
	sid := dtyp.MustParseSID("S-1-5-21-1-2-3-1103")
	for name, tt := range map[string]struct {
		sids map[string]dtyp.SID
		err  error
	}{
		"refused":             {nil, gss.ErrRefused},
		"somebody else named": {map[string]dtyp.SID{"bob@" + dc.Realm(): sid}, gss.ErrRefused},
		"principal_sids":      {map[string]dtyp.SID{"alice@" + dc.Realm(): sid}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			logged := &lockedBuffer{}
			a, err := krb5.NewAcceptor(krb5.Config{
				Keytab: m.Keytab, PrincipalSIDs: tt.sids, Log: slog.New(slog.NewTextHandler(logged, nil)),
			})
			if err != nil {
				t.Fatal(err)
			}
			token, _, err := krb5.NewInitiator(source).Initiate(gss.InitiateOptions{Target: "cifs/srv2.bkrp.test"}).Step(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			_, sc, err := a.Accept(gss.AcceptOptions{}).Step(t.Context(), token)
			switch {
			case !errors.Is(err, tt.err):
				t.Errorf("%v\n%s", err, logged)
			case err != nil && !strings.Contains(logged.String(), "the ticket has no PAC"):
				t.Errorf("log: %s", logged)
			case err == nil && sc.Identity().SID != sid:
				t.Errorf("identity %v", sc.Identity())
			}
		})
	}
}

// TestKerberosCredentials has the client's sources say what is wrong.
func TestKerberosCredentials(t *testing.T) {
	dc, _ := member(t)
	ctx, conf := t.Context(), dc.Krb5Conf()
	password := func(p string) func() string { return func() string { return p } }
	damaged := filepath.Join(t.TempDir(), "damaged")
	if err := os.WriteFile(damaged, []byte{5, 4, 0, 12, 0}, 0o600); err != nil {
		t.Fatal(err)
	}
	over, cancel := context.WithCancelCause(ctx)
	cancel(context.DeadlineExceeded)
	for name, tt := range map[string]struct {
		ctx    context.Context
		source krb5.TicketSource
		err    error
		text   string
	}{
		"wrong password":  {ctx, krb5.PasswordTickets(peers.Alice, password("wrong"), conf), gss.ErrLogon, ""},
		"no such user":    {ctx, krb5.PasswordTickets("nobody", password("x"), conf), gss.ErrLogon, ""},
		"no cache":        {ctx, krb5.CCacheTickets("FILE:/nonexistent", conf), krb5.ErrNoTicket, "run kinit"},
		"another cache":   {ctx, krb5.CCacheTickets("KEYRING:persistent:0", conf), krb5.ErrNoTicket, "KEYRING"},
		"damaged cache":   {ctx, krb5.CCacheTickets(damaged, conf), nil, "damaged"},
		"damaged keytab":  {ctx, krb5.KeytabTickets(damaged, peers.Alice, conf), nil, "reading the keytab"},
		"no krb5.conf":    {ctx, krb5.PasswordTickets(peers.Alice, password("x"), "/nonexistent"), nil, "/nonexistent"},
		"context is over": {over, krb5.PasswordTickets(peers.Alice, password("x"), conf), context.DeadlineExceeded, ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := tt.source(tt.ctx, "cifs/"+krb5Host)
			if err == nil || tt.err != nil && !errors.Is(err, tt.err) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestKerberosRC4Service has an account of the domain with an RC4 key alone:
// it is served where the configuration says so, with an AES session key.
func TestKerberosRC4Service(t *testing.T) {
	dc := DC(t)
	const spn = "cifs/srv3.bkrp.test"
	m, err := dc.Member(t.Context(), "srv3.bkrp.test")
	if err != nil {
		t.Fatal(err)
	}
	if err := dc.Enctypes(t.Context(), m, peers.RC4|peers.AESSessionKeys, spn); err != nil {
		t.Fatal(err)
	}
	source := krb5.PasswordTickets(peers.Alice+"@"+dc.Realm(), func() string { return dc.Password(peers.Alice) }, dc.Krb5Conf())
	for _, allowed := range []bool{false, true} {
		logged := &lockedBuffer{}
		a, err := krb5.NewAcceptor(krb5.Config{Keytab: m.Keytab, AllowRC4: allowed, Log: slog.New(slog.NewTextHandler(logged, nil))})
		if err != nil {
			t.Fatal(err)
		}
		x := krb5.NewInitiator(source).Initiate(gss.InitiateOptions{Target: spn, Flags: gss.Confidentiality})
		token, _, err := x.Step(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		out, sc, err := a.Accept(gss.AcceptOptions{}).Step(t.Context(), token)
		if !allowed {
			if !errors.Is(err, gss.ErrRefused) || !strings.Contains(logged.String(), "rc4-hmac is not allowed") {
				t.Errorf("not allowed: %v\n%s", err, logged)
			}
			continue
		}
		if err != nil || sc.Identity().SID.String() != sidOf(t, dc, peers.Alice) {
			t.Fatalf("allowed: %v\n%s", err, logged)
		}
		if _, sc, err = x.Step(t.Context(), out); err != nil || sc == nil {
			t.Errorf("our client: %v", err)
		}
	}
}
