package krb5

import (
	"bytes"
	"context"
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/seed05845750/bkrp/internal/gss"
)

// forgery is a ticket and an AP-REQ as a KDC and a client with the keys of the
// transcripts' domain could make them. Tests change it before it is sealed.
type forgery struct {
	now     time.Time
	keytab  []byte
	service keytabEntry // whose key seals the ticket
	kvno    uint32
	options uint32

	ticket ticket
	part   ticketPart
	pac    []byte // nil for none
	auth   authenticator
	sign   bool // sign the PAC anew
	signer Key  // with this key

	authKey Key // seals the authenticator
}

// forge takes the ticket of a recorded logon as its model.
func forge(t testing.TB) *forgery {
	t.Helper()
	tr := transcripts(t)["samba-smb-1.json"]
	req, part, entry := tr.open(t)
	raw, _, err := findPAC(part.authData)
	if err != nil || raw == nil {
		t.Fatalf("PAC of the transcript: %v", err)
	}
	f := &forgery{
		now: tr.Now, keytab: tr.Keytab, service: *entry, kvno: entry.kvno, signer: entry.key,
		options: optionMutualRequired, ticket: req.ticket, part: *part, pac: bytes.Clone(raw), authKey: part.key,
	}
	subkey, err := newKey(part.key.Type)
	if err != nil {
		t.Fatal(err)
	}
	f.auth = authenticator{
		realm: part.realm, client: part.client, ctime: tr.Now.Truncate(time.Second), seq: newSequence(), subkey: &subkey,
		checksum: marshalChannel(gss.Mutual | gss.Integrity | gss.Confidentiality | gss.Sequence),
	}
	return f
}

// buffer finds a buffer of the PAC: its entry in the table and its content.
func (f *forgery) buffer(t testing.TB, kind uint32) (entry, content []byte) {
	t.Helper()
	for i := range int(binary.LittleEndian.Uint32(f.pac)) {
		entry := f.pac[8+16*i:][:16]
		if binary.LittleEndian.Uint32(entry) == kind {
			offset, size := binary.LittleEndian.Uint64(entry[8:]), binary.LittleEndian.Uint32(entry[4:])
			return entry, f.pac[offset:][:size]
		}
	}
	t.Fatalf("no buffer of type %d", kind)
	return nil, nil
}

// resign signs the PAC as the domain's KDC would.
func (f *forgery) resign(t testing.TB) {
	t.Helper()
	_, server := f.buffer(t, 6)
	_, kdc := f.buffer(t, 7)
	theirs := bytes.Clone(kdc)
	binary.LittleEndian.PutUint32(server, uint32(f.signer.checksumType()))
	clear(server[4:])
	clear(kdc[4:])
	sum, err := f.signer.checksum(usagePAC, f.pac)
	if err != nil {
		t.Fatal(err)
	}
	copy(server[4:], sum)
	copy(kdc, theirs)
}

// seal makes the token.
func (f *forgery) seal(t testing.TB, framed bool) []byte {
	t.Helper()
	if f.sign {
		f.resign(t)
	}
	if f.pac != nil {
		f.part.authData = []authData{{adIfRelevant, marshalAuthData([]authData{{adWin2kPAC, f.pac}})}}
	}
	sealed := encrypted{etype: f.service.key.Type, kvno: f.kvno, hasKvno: f.kvno != 0}
	sealed.cipher = mustSeal(t, f.service.key, usageTicket, marshalTicketPart(t, &f.part))
	f.ticket.sealed = sealed
	auth, err := f.auth.marshal()
	if err != nil {
		t.Fatal(err)
	}
	message, err := marshalAPReq(f.options, marshalTicket(t, &f.ticket), encrypted{
		etype: f.authKey.Type, cipher: mustSeal(t, f.authKey, usageAuthenticator, auth),
	})
	if err != nil {
		t.Fatal(err)
	}
	if !framed {
		return message
	}
	token, err := frame(tokenAPReq, message)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func mustSeal(t testing.TB, k Key, usage uint32, plain []byte) []byte {
	t.Helper()
	b, err := k.encrypt(usage, plain)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// source is a TicketSource of tickets forged anew.
func (f *forgery) source(t testing.TB) TicketSource {
	t.Helper()
	if f.sign {
		f.resign(t)
	}
	f.part.authData = []authData{{adIfRelevant, marshalAuthData([]authData{{adWin2kPAC, f.pac}})}}
	return func(context.Context, string) (*ServiceTicket, error) {
		k := f.ticket
		k.sealed = encrypted{etype: f.service.key.Type, kvno: f.kvno, hasKvno: f.kvno != 0}
		k.sealed.cipher = mustSeal(t, f.service.key, usageTicket, marshalTicketPart(t, &f.part))
		return &ServiceTicket{
			Ticket: marshalTicket(t, &k), SessionKey: f.part.key, Client: f.part.client.parts, Realm: f.part.realm, End: f.part.end,
		}, nil
	}
}

func marshalTicket(t testing.TB, k *ticket) []byte {
	t.Helper()
	b, err := build(application(1), func(w writer) {
		w.integer(0, protocolVersion)
		w.text(1, k.realm)
		w.principal(2, k.service)
		w.encrypted(3, k.sealed)
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func marshalTicketPart(t testing.TB, p *ticketPart) []byte {
	t.Helper()
	b, err := build(application(3), func(w writer) {
		w.flags(0, p.flags)
		w.key(1, p.key)
		w.text(2, p.realm)
		w.principal(3, p.client)
		w.sequence(4, func(w writer) {
			w.integer(0, 1)
			w.octets(1, nil)
		})
		w.time(5, p.authTime)
		w.time(6, p.start)
		w.time(7, p.end)
		if p.authData != nil {
			w.explicit(10, func(b *cryptobyte.Builder) { b.AddBytes(marshalAuthData(p.authData)) })
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func marshalAuthData(list []authData) []byte {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, a := range list {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				w := writer{b}
				w.integer(0, int64(a.kind))
				w.octets(1, a.data)
			})
		}
	})
	return b.BytesOrPanic()
}

// marshalKeytab is the inverse of parseKeytab.
func marshalKeytab(entries []keytabEntry) []byte {
	out := []byte{5, 2}
	for _, e := range entries {
		r := binary.BigEndian.AppendUint16(nil, uint16(len(e.service.parts)))
		for _, s := range slices.Concat([]string{e.realm}, e.service.parts) {
			r = append(binary.BigEndian.AppendUint16(r, uint16(len(s))), s...)
		}
		r = binary.BigEndian.AppendUint32(r, uint32(e.service.kind))
		r = binary.BigEndian.AppendUint32(r, 0)
		r = append(r, byte(e.kvno))
		r = binary.BigEndian.AppendUint16(r, uint16(e.key.Type))
		r = append(binary.BigEndian.AppendUint16(r, uint16(len(e.key.Value))), e.key.Value...)
		if e.wide {
			r = binary.BigEndian.AppendUint32(r, e.kvno)
		}
		out = append(binary.BigEndian.AppendUint32(out, uint32(len(r))), r...)
	}
	return out
}
