package interop

import (
	"context"
	"encoding/asn1"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/dcerpc"
	"github.com/seed05845750/bkrp/internal/gss"
	"github.com/seed05845750/bkrp/internal/gss/krb5"
	"github.com/seed05845750/bkrp/internal/gss/spnego"
	"github.com/seed05845750/bkrp/internal/lsarpc"
	"github.com/seed05845750/bkrp/internal/smb2"
	"github.com/seed05845750/bkrp/interop/peers"
)

const krb5Host = "srv1.bkrp.test"

// krb5Member is the one account of our server in the domain of a test run.
var krb5Member struct {
	sync.Mutex
	member *peers.Member
	err    error
}

// member gives the domain and the account of our server in it.
func member(t *testing.T) (*peers.Domain, *peers.Member) {
	t.Helper()
	dc := DC(t)
	krb5Member.Lock()
	defer krb5Member.Unlock()
	if krb5Member.member == nil && krb5Member.err == nil {
		krb5Member.member, krb5Member.err = dc.Member(context.Background(), krb5Host)
	}
	if krb5Member.err != nil {
		t.Fatal(krb5Member.err)
	}
	return dc, krb5Member.member
}

// krb5Config is what sets the servers of these tests apart.
type krb5Config struct {
	keytab string
	rc4    bool
}

// krb5Acceptors are those of a member server, and what they log.
func krb5Acceptors(t *testing.T, keytab string) (*spnego.Acceptor, gss.Acceptor, *lockedBuffer) {
	t.Helper()
	return krb5AcceptorsOf(t, krb5Config{keytab: keytab})
}

func krb5AcceptorsOf(t *testing.T, cfg krb5Config) (*spnego.Acceptor, gss.Acceptor, *lockedBuffer) {
	t.Helper()
	logged := &lockedBuffer{}
	k, err := krb5.NewAcceptor(krb5.Config{Keytab: cfg.keytab, AllowRC4: cfg.rc4, Log: slog.New(slog.NewTextHandler(logged, nil))})
	if err != nil {
		t.Fatal(err)
	}
	k = recorded(t, cfg.keytab, k)
	s, err := spnego.NewAcceptor(spnego.Mechanism{
		OIDs: []asn1.ObjectIdentifier{spnego.MSKerberos(), spnego.Kerberos()}, Acceptor: k,
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, k, logged
}

// krb5Server runs the SMB server with an LSA of no secrets behind it, as a
// member of the domain. It gives its port.
func krb5Server(t *testing.T, dc *peers.Domain, m *peers.Member, cfg smb2.Config) (string, *lockedBuffer) {
	t.Helper()
	return krb5ServerOf(t, dc, krb5Config{keytab: m.Keytab}, cfg)
}

func krb5ServerOf(t *testing.T, dc *peers.Domain, k krb5Config, cfg smb2.Config) (string, *lockedBuffer) {
	t.Helper()
	negotiated, bare, logged := krb5AcceptorsOf(t, k)
	alice := dtyp.MustParseSID(sidOf(t, dc, peers.Alice))
	domain, _, _ := alice.Cut()
	account := lsarpc.Account{Name: peers.Alice, SID: alice}
	rpc := &dcerpc.Server{
		Interfaces: []dcerpc.Interface{lsarpc.New(lsarpc.Config{
			Domain: lsarpc.Domain{DNSName: "bkrp.test", NetBIOS: "BKRP", SID: domain},
			AccountByName: func(_ context.Context, name string) (lsarpc.Account, error) {
				if strings.EqualFold(name, peers.Alice) {
					return account, nil
				}
				return lsarpc.Account{}, lsarpc.ErrNoAccount
			},
			AccountBySID: func(_ context.Context, sid dtyp.SID) (lsarpc.Account, error) {
				if sid == alice {
					return account, nil
				}
				return lsarpc.Account{}, lsarpc.ErrNoAccount
			},
		})},
		Acceptors: map[dcerpc.AuthType]gss.Acceptor{dcerpc.AuthSPNEGO: negotiated, dcerpc.AuthKerberos: bare},
	}
	cfg.Pipes = map[string]smb2.PipeFunc{
		"echo": echoMessages,
		"lsarpc": func(ctx context.Context, p *smb2.Pipe) {
			err := rpc.ServeConn(ctx, p, dcerpc.Transport{Identity: p.Identity(), SessionKey: p.SessionKey(), Encrypted: p.Encrypted(), PipeName: `\PIPE\lsass`})
			if err != nil && ctx.Err() == nil {
				t.Logf("RPC: %v", err)
			}
		},
	}
	return runSMB(t, cfg, negotiated), logged
}

func sidOf(t *testing.T, dc *peers.Domain, user string) string {
	t.Helper()
	sid, err := dc.SID(t.Context(), user)
	if err != nil {
		t.Fatal(err)
	}
	return sid
}

// TestKerberosSambaClient has Samba's clients log on to SMB and to a sealed
// pipe with the tickets of the domain.
func TestKerberosSambaClient(t *testing.T) {
	peers.Need(t, "smbclient", "rpcclient")
	dc, m := member(t)
	port, logged := krb5Server(t, dc, m, smb2.Config{})
	alice := sidOf(t, dc, peers.Alice)
	user := peers.Alice + "@" + dc.Realm() + "%" + dc.Password(peers.Alice)
	for _, dialect := range []string{"SMB2_02", "SMB2_10", "SMB3_00", "SMB3_02", "SMB3_11"} {
		t.Run(dialect, func(t *testing.T) {
			out, err := dc.Exec(t.Context(), "smbclient", "-s", dc.Conf(), "//"+krb5Host+"/IPC$", "-p", port, "-U", user,
				"--use-kerberos=required", "-m", dialect, "-c", "open echo")
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(out.String(), "fnum 1") {
				t.Errorf("%v\n%s", out, logged)
			}
		})
	}
	for _, encryption := range []string{"AES-128-GCM", "AES-256-GCM", "AES-256-CCM"} {
		t.Run(encryption, func(t *testing.T) {
			out, err := dc.Exec(t.Context(), "smbclient", "-s", dc.Conf(), "//"+krb5Host+"/IPC$", "-p", port, "-U", user,
				"--use-kerberos=required", "--client-protection=encrypt", "--option=client smb3 encryption algorithms="+encryption, "-c", "open echo")
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(out.String(), "fnum 1") {
				t.Errorf("%v\n%s", out, logged)
			}
		})
	}
	for _, binding := range []string{"seal", "sign", "krb5,seal", "krb5,sign", "spnego,seal", "seal,bigendian"} {
		t.Run(binding, func(t *testing.T) {
			out, err := dc.Exec(t.Context(), "rpcclient", "-s", dc.Conf(), "-p", port, "-U", user, "--use-kerberos=required",
				"-c", "getusername;lookupnames alice", "ncacn_np:"+krb5Host+"["+binding+"]")
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(out.Stdout, "Account Name: alice") || !strings.Contains(out.Stdout, alice) {
				t.Errorf("%v\n%s", out, logged)
			}
		})
	}
	if !strings.Contains(logged.String(), "sid="+alice) {
		t.Errorf("no logon of %s in the log:\n%s", alice, logged)
	}
}

// TestKerberosClients has our client's end log on to Samba's server, with each
// source of tickets.
func TestKerberosClients(t *testing.T) {
	dc := DC(t)
	conf := dc.Krb5Conf()
	cache, err := dc.Kinit(t.Context(), peers.Administrator)
	if err != nil {
		t.Fatal(err)
	}
	keytab := exportKeytab(t, dc, peers.Administrator)
	for name, source := range map[string]krb5.TicketSource{
		"ccache":   krb5.CCacheTickets("FILE:"+cache, conf),
		"keytab":   krb5.KeytabTickets(keytab, peers.Administrator, conf),
		"password": krb5.PasswordTickets(peers.Administrator+"@"+dc.Realm(), func() string { return dc.Password(peers.Administrator) }, conf),
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			samr := dcerpc.SyntaxID{UUID: dtyp.MustParseGUID("12345778-1234-abcd-ef00-0123456789ac"), Major: 1}
			port := samrPort(ctx, t, dc, samr)
			bare := krb5.NewInitiator(source)
			negotiated := spnego.NewInitiator(spnego.InitiatorMechanism{
				OIDs: []asn1.ObjectIdentifier{spnego.MSKerberos(), spnego.Kerberos()}, Initiator: bare,
			})
			for authType, initiator := range map[dcerpc.AuthType]gss.Initiator{dcerpc.AuthKerberos: bare, dcerpc.AuthSPNEGO: negotiated} {
				for _, level := range []dcerpc.AuthLevel{dcerpc.LevelIntegrity, dcerpc.LevelPrivacy} {
					c := dialRPC(ctx, t, dc, port, dcerpc.ClientConfig{
						Interface: samr, Initiator: initiator, AuthType: authType, Level: level, Target: "host/" + dc.Host,
					})
					if err := c.Bind(ctx); err != nil {
						t.Fatalf("type %d, %v: %v", authType, level, err)
					}
					for range 3 {
						samrConnect2(ctx, t, c)
					}
				}
			}
		})
	}
}

// exportKeytab writes the keys of a user of the domain.
func exportKeytab(t *testing.T, dc *peers.Domain, user string) string {
	t.Helper()
	keytab := filepath.Join(t.TempDir(), user+".keytab")
	out, err := dc.Exec(t.Context(), "samba-tool", "domain", "exportkeytab", keytab, "--principal="+user, "-s", filepath.Join(filepath.Dir(dc.Krb5Conf()), "etc", "smb.conf"))
	if err != nil || out.Code != 0 {
		t.Fatal(err, out)
	}
	if _, err := os.Stat(keytab); err != nil {
		t.Fatal(err)
	}
	return keytab
}
