package interop

import (
	"encoding/binary"
	"strconv"
	"strings"
	"testing"

	msdcerpc "github.com/oiweiwei/go-msrpc/dcerpc"
	backupkey "github.com/oiweiwei/go-msrpc/msrpc/bkrp/backupkey/v1"
	msdtyp "github.com/oiweiwei/go-msrpc/msrpc/dtyp"
	mssmb2 "github.com/oiweiwei/go-msrpc/smb2"
	"github.com/oiweiwei/go-msrpc/ssp"
	"github.com/oiweiwei/go-msrpc/ssp/credential"
	"github.com/oiweiwei/go-msrpc/ssp/gssapi"
	mskrb5 "github.com/oiweiwei/go-msrpc/ssp/krb5"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/interop/peers"
)

// TestMemberClients has clients that have never heard of our server find it as
// a member of the domain, and take the four actions: impacket by Kerberos,
// go-msrpc by Kerberos and by NTLM. For NTLM our accounts have the names,
// passwords and SIDs of the domain's.
func TestMemberClients(t *testing.T) {
	needImpacket(t)
	dc, _ := member(t)
	alice := sidOf(t, dc, peers.Alice)
	passwords := map[string]string{}
	for _, user := range []string{peers.Administrator, peers.Alice, peers.Bob} {
		passwords[user] = dc.Password(user)
	}
	s, dc := startMember(t, options{
		settings: map[string]string{"auth.ntlm": `"local"`}, firstSID: dtyp.MustParseSID(alice), passwords: passwords,
	})
	t.Run("impacket Kerberos", func(t *testing.T) {
		g := s.target()
		g.sid = func(user string) string { return sidOf(t, dc, user) }
		g.login = func(user string) peers.Credentials { return peers.Credentials{Domain: dc.Realm(), User: user} }
		g.tickets = func(user string) *impacketTickets { return impacketTicketsOf(t, dc, user, krb5Host) }
		g.fourActions(t, ndr)
	})
	for _, m := range msrpcLogons {
		t.Run("go-msrpc "+m.name, func(t *testing.T) {
			fourActions(t, goMSRPC{s.host, s.port, krb5Host, dc, m}.calls)
		})
	}
	s.stop()
	audited := map[string]int{}
	for line := range strings.Lines(s.log.String()) {
		for _, mechanism := range []string{"krb5", "ntlm"} {
			if strings.Contains(line, "msg=audit") && strings.Contains(line, " sid="+alice+" ") && strings.Contains(line, "mechanism="+mechanism) {
				audited[mechanism]++
			}
		}
	}
	// fourActions has alice call 15 times: RETRIEVE, three BACKUP, nine secrets
	// to open and two empty ones.
	if audited["krb5"] != 3*15 || audited["ntlm"] != 2*15 {
		t.Errorf("alice's calls by mechanism: %v\n%s", audited, s.log)
	}
}

// TestMSRPCSamba shows that go-msrpc gets its answers from Samba's own service
// in the same way. Only by NTLM: Samba 4.17 takes neither the logon to SMB of this
// client by Kerberos, nor the third leg of impacket's bind.
func TestMSRPCSamba(t *testing.T) {
	dc := DC(t)
	for _, m := range msrpcLogons {
		if m.kerberos() {
			continue
		}
		t.Run(m.name, func(t *testing.T) {
			fourActions(t, goMSRPC{dc.Addr, "445", dc.Host, dc, m}.calls)
		})
	}
}

// impacketTicketsOf gets a user's tickets for a server. impacket 0.10 asks for
// them in a way that Samba 4.17 does not take.
func impacketTicketsOf(t *testing.T, dc *peers.Domain, user, host string) *impacketTickets {
	t.Helper()
	cache, err := dc.Kinit(t.Context(), user, "cifs/"+host, "host/"+host)
	if err != nil {
		t.Fatal(err)
	}
	return &impacketTickets{Name: host, KDC: dc.Addr, CCache: cache}
}

// msrpcLogon is a way to log on with go-msrpc: to SMB by one mechanism, and with
// it in a sealed bind of one type.
type msrpcLogon struct {
	name string
	smb  gssapi.MechanismFactory
	rpc  msdcerpc.AuthType
}

func (l msrpcLogon) kerberos() bool { return l.smb == gssapi.MechanismFactory(ssp.KRB5) }

var msrpcLogons = []msrpcLogon{
	{"Kerberos by SPNEGO", ssp.KRB5, msdcerpc.AuthTypeGSSNegotiate},
	{"Kerberos", ssp.KRB5, msdcerpc.AuthTypeKerberos},
	{"NTLM by SPNEGO", ssp.NTLM, msdcerpc.AuthTypeGSSNegotiate},
	{"NTLM", ssp.NTLM, msdcerpc.AuthTypeWinNT},
}

// goMSRPC is go-msrpc's client of a server in the domain.
type goMSRPC struct {
	address, port string
	host          string // of its service principal names
	dc            *peers.Domain
	msrpcLogon
}

// calls is a [caller]. The client makes no ClientWrap itself; package bkrp does.
func (c goMSRPC) calls(t *testing.T, user string, wrap []octets, calls ...call) answers {
	t.Helper()
	port, err := strconv.Atoi(c.port)
	if err != nil {
		t.Fatal(err)
	}
	ctx := gssapi.NewSecurityContext(t.Context(), c.security(t, user)...)
	dialer := mssmb2.NewDialer(mssmb2.WithSecurity(append(c.security(t, user), gssapi.WithTargetName("cifs/"+c.host))...))
	conn, err := msdcerpc.Dial(ctx, c.address, msdcerpc.WithEndpoint(`ncacn_np:[protected_storage]`),
		msdcerpc.WithSMBPort(port), msdcerpc.WithSMBDialer(dialer))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	client, err := backupkey.NewBackupKeyClient(ctx, conn, msdcerpc.WithSecurtyProvider(c.rpc), msdcerpc.WithSeal(),
		msdcerpc.WithTargetName("host/"+c.host))
	if err != nil {
		t.Fatal(err)
	}
	do := func(action string, data []byte) answer {
		// The error says again what the status does, unless there is no answer.
		out, err := client.BackupKey(ctx, &backupkey.BackupKeyRequest{
			ActionAgent: msrpcActions[action], DataIn: data, DataInLength: uint32(len(data)),
		})
		if out == nil {
			t.Fatalf("%s as %s: %v", action, user, err)
		}
		return answer{out.Return, out.DataOut}
	}
	var a answers
	if len(wrap) > 0 {
		a.Certificate = do("RETRIEVE", nil).Data
		a.Wrapped = clientWrap(t, a.Certificate, sidOf(t, c.dc, user), wrap)
	}
	for _, call := range calls {
		a.Results = append(a.Results, do(call.Action, call.Data))
	}
	return a
}

// security are a user's credential, and what the client may use it with.
func (c goMSRPC) security(t *testing.T, user string) []gssapi.ContextOption {
	t.Helper()
	options := []gssapi.ContextOption{gssapi.WithMechanismFactory(c.smb)}
	domain := c.dc.NetBIOS()
	if c.kerberos() {
		conf, err := mskrb5.LoadKRB5Conf(c.dc.Krb5Conf())
		if err != nil {
			t.Fatal(err)
		}
		cfg := mskrb5.NewConfig()
		cfg.KRB5Config = mskrb5.ParsedLibDefaults(conf)
		domain, options[0] = c.dc.Realm(), gssapi.WithMechanismFactory(c.smb, cfg)
	}
	if c.rpc == msdcerpc.AuthTypeGSSNegotiate {
		options = append(options, gssapi.WithMechanismFactory(ssp.SPNEGO))
	}
	return append(options, gssapi.WithCredential(credential.NewFromPassword(user, c.dc.Password(user), credential.Domain(domain))))
}

// clientWrap wraps secrets with the certificate a client was given.
func clientWrap(t *testing.T, der []byte, sid string, secrets []octets) []wrappedSecret {
	t.Helper()
	certificate, err := bkrp.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	var wrapped []wrappedSecret
	for _, secret := range secrets {
		for _, version := range []int{2, 3} {
			blob, err := bkrp.WrapClient(certificate, dtyp.MustParseSID(sid), secret, uint32(version))
			if err != nil {
				t.Fatal(err)
			}
			wrapped = append(wrapped, wrappedSecret{version, blob})
		}
	}
	return wrapped
}

// msrpcActions are the values of pguidActionAgent of [MS-BKRP] 3.1.4.1, as the
// document prints them.
var msrpcActions = map[string]*msdtyp.GUID{
	"BACKUP":        msrpcGUID("7F752B10-178E-11D1-AB8F-00805F14DB40"),
	"RESTORE_WIN2K": msrpcGUID("7FE94D50-178E-11D1-AB8F-00805F14DB40"),
	"RETRIEVE":      msrpcGUID("018FF48A-EABA-40C6-8F6D-72370240E967"),
	"RESTORE":       msrpcGUID("47270C64-2FC7-499B-AC5B-0E37CDCE899A"),
}

func msrpcGUID(text string) *msdtyp.GUID {
	g := dtyp.MustParseGUID(text)
	return &msdtyp.GUID{
		Data1: binary.LittleEndian.Uint32(g[:]), Data2: binary.LittleEndian.Uint16(g[4:]),
		Data3: binary.LittleEndian.Uint16(g[6:]), Data4: g[8:],
	}
}
