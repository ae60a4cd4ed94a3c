package interop

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/seed05845750/bkrp/interop/peers"
)

const (
	statusInvalidAccess    = 0xC
	statusInvalidParameter = 0x57
)

// octets stand in JSON as hexadecimal digits.
type octets []byte

func (o octets) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(o)), nil }

func (o *octets) UnmarshalText(text []byte) (err error) {
	*o, err = hex.DecodeString(string(text))
	return err
}

// impacketJob is what testdata/impacket_bkrp.py reads.
type impacketJob struct {
	Host     string           `json:"host"`
	Port     json.Number      `json:"port"`
	Domain   string           `json:"domain"`
	User     string           `json:"user"`
	Password string           `json:"password"`
	Kerberos *impacketTickets `json:"kerberos,omitempty"`
	NDR64    bool             `json:"ndr64"`
	SID      string           `json:"sid"`
	Wrap     []octets         `json:"wrap"`
	Calls    []call           `json:"calls"`
}

// impacketTickets are what impacket logs on with in the place of a password.
type impacketTickets struct {
	Name   string `json:"name"` // of the server, in its service principal names
	KDC    string `json:"kdc"`
	CCache string `json:"ccache"`
}

// call is one call of BackuprKey.
type call struct {
	Action string `json:"action"`
	Data   octets `json:"data"`
}

// answers are what the script writes: those to the calls, and secrets that it
// wrapped itself with the certificate it was given.
type answers struct {
	Certificate octets          `json:"certificate"`
	Wrapped     []wrappedSecret `json:"wrapped"`
	Results     []answer        `json:"results"`
}

type wrappedSecret struct {
	Version int    `json:"version"`
	Blob    octets `json:"blob"`
}

type answer struct {
	Status uint32 `json:"status"`
	Data   octets `json:"data"`
}

// caller is a client of BackuprKey: it logs a user on, wraps each secret for
// him in ClientWrap 2 and 3, and makes the calls.
type caller func(t *testing.T, user string, wrap []octets, calls ...call) answers

// target is a server with users that impacket is held against.
type target struct {
	host, port string
	login      func(user string) peers.Credentials
	sid        func(user string) string
	tickets    func(user string) *impacketTickets // nil for NTLM
}

func (s *server) target() target {
	return target{host: s.host, port: s.port, login: s.credentials, sid: func(user string) string { return s.sids[user] }}
}

func sambaTarget(t *testing.T, dc *peers.Domain) target {
	return target{host: dc.Addr, port: "445", login: dc.Credentials, sid: func(user string) string {
		sid, err := dc.SID(t.Context(), user)
		if err != nil {
			t.Fatal(err)
		}
		return sid
	}}
}

// syntax is the transfer syntax in which impacket speaks. It authenticates
// its bind by NTLM without SPNEGO in either (auth type 10), and by Kerberos with
// it (auth type 9).
type syntax string

const (
	ndr   syntax = "NDR"
	ndr64 syntax = "NDR64"
)

func (g target) impacket(t *testing.T, user string, f syntax, wrap []octets, calls ...call) answers {
	t.Helper()
	who := g.login(user)
	job := impacketJob{Host: g.host, Port: json.Number(g.port), Domain: who.Domain, User: who.User, Password: who.Password,
		NDR64: f == ndr64, SID: g.sid(user), Wrap: wrap, Calls: calls}
	if g.tickets != nil {
		job.Password, job.Kerberos = "", g.tickets(user)
	}
	var result answers
	if err := peers.Impacket(t.Context(), "testdata/impacket_bkrp.py", job, &result); err != nil {
		t.Fatal(err)
	}
	if len(result.Results) != len(calls) || len(result.Wrapped) != 2*len(wrap) {
		t.Fatalf("%d results of %d calls, %d blobs of %d secrets", len(result.Results), len(calls), len(result.Wrapped), len(wrap))
	}
	return result
}

func needImpacket(t *testing.T) {
	t.Helper()
	if err := peers.MissingImpacket(t.Context()); err != nil {
		peers.Unavailable(t, err)
	}
}

func TestImpacketSamba(t *testing.T) {
	needImpacket(t)
	g := sambaTarget(t, DC(t))
	// Samba has no NDR64, and answers crossovers with 0x57.
	g.fourActions(t, ndr)
}

func TestImpacket(t *testing.T) {
	needImpacket(t)
	g := startBkrpd(t, options{}).target()
	for _, f := range []syntax{ndr, ndr64} {
		t.Run(string(f), func(t *testing.T) {
			g.fourActions(t, f)
			t.Run("crossover S-3.1.4.1.4", func(t *testing.T) { g.crossover(t, f) })
		})
	}
}

func (g target) fourActions(t *testing.T, f syntax) {
	fourActions(t, func(t *testing.T, user string, wrap []octets, calls ...call) answers {
		t.Helper()
		return g.impacket(t, user, f, wrap, calls...)
	})
}

// fourActions wraps secrets in every way as alice and opens them as alice
// and as bob. No secret begins with a zero octet.
func fourActions(t *testing.T, as caller) {
	t.Helper()
	secrets := []octets{[]byte("s"), bytes.Repeat([]byte{0xA5, 1}, 32), bytes.Repeat([]byte{7}, 181)}
	var backups []call
	for _, s := range secrets {
		backups = append(backups, call{"BACKUP", s})
	}
	wrapped := as(t, peers.Alice, secrets, backups...)
	if len(wrapped.Certificate) < 512 {
		t.Errorf("RETRIEVE gave %d octets, too few for a certificate", len(wrapped.Certificate))
	}
	type opening struct {
		name   string
		call   call
		prefix octets
		secret octets
	}
	var openings []opening
	for i, w := range wrapped.Wrapped {
		// 2.2.3: four zero octets stand before the secret.
		openings = append(openings, opening{fmt.Sprintf("ClientWrap %d of %d octets", w.Version, len(secrets[i/2])),
			call{"RESTORE", w.Blob}, make(octets, 4), secrets[i/2]})
	}
	for i, r := range wrapped.Results {
		if r.Status != 0 {
			t.Fatalf("BACKUP of %d octets: status %#x", len(secrets[i]), r.Status)
		}
		openings = append(openings, opening{fmt.Sprintf("ServerWrap of %d octets", len(secrets[i])),
			call{"RESTORE_WIN2K", r.Data}, nil, secrets[i]})
	}
	var calls []call
	for _, o := range openings {
		calls = append(calls, o.call)
	}
	alice := as(t, peers.Alice, nil, calls...).Results
	bob := as(t, peers.Bob, nil, calls...).Results
	for i, o := range openings {
		want := append(o.prefix, o.secret...)
		if alice[i].Status != 0 || !bytes.Equal(alice[i].Data, want) {
			t.Errorf("%s, its owner: status %#x, %d octets, want 0 and the secret in %d", o.name, alice[i].Status, len(alice[i].Data), len(want))
		}
		if bob[i].Status != statusInvalidAccess || len(bob[i].Data) != 0 {
			t.Errorf("%s, another user: status %#x and %d octets, want %#x and none", o.name, bob[i].Status, len(bob[i].Data), statusInvalidAccess)
		}
	}
	refused := as(t, peers.Alice, nil, call{"RESTORE", nil}, call{"RESTORE_WIN2K", nil}).Results
	for i, r := range refused {
		if r.Status != statusInvalidParameter || len(r.Data) != 0 {
			t.Errorf("empty input %d: status %#x and %d octets, want %#x and none", i, r.Status, len(r.Data), statusInvalidParameter)
		}
	}
}

// crossover sends each kind of blob to the action of the other.
func (g target) crossover(t *testing.T, f syntax) {
	secret := octets("opened by the other action")
	wrapped := g.impacket(t, peers.Alice, f, []octets{secret}, call{"BACKUP", secret})
	server, client := wrapped.Results[0].Data, wrapped.Wrapped[0].Blob
	for _, user := range []string{peers.Alice, peers.Bob} {
		results := g.impacket(t, user, f, nil, call{"RESTORE", server}, call{"RESTORE_WIN2K", client}).Results
		for i, r := range results {
			switch {
			case user == peers.Bob && (r.Status == 0 || len(r.Data) != 0):
				t.Errorf("crossover %d, another user: status %#x and %d octets", i, r.Status, len(r.Data))
			case user == peers.Alice && (r.Status != 0 || len(r.Data) < len(secret)):
				t.Errorf("crossover %d, its owner: status %#x and %d octets", i, r.Status, len(r.Data))
			}
		}
	}
}
