package krb5

import (
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// protocolVersion is pvno, tkt-vno and authenticator-vno.
const protocolVersion = 5

// 5.3 Ticket (RFC 4120).
type ticket struct {
	realm   string
	service principal
	sealed  encrypted
}

// cutTicket reads the ticket in field n.
func (r *reader) ticket(n uint8) (t ticket) {
	inner := r.explicit(n)
	var seq, body cryptobyte.String
	if !inner.ReadASN1(&seq, application(1)) || !inner.Empty() || !seq.ReadASN1(&body, cbasn1.SEQUENCE) || !seq.Empty() {
		r.bad = true
	}
	in := &reader{s: body, bad: r.bad}
	in.bad = in.bad || in.int32(0) != protocolVersion
	t.realm = in.text(1)
	t.service = in.principal(2)
	t.sealed = in.encrypted(3)
	r.end(in)
	return t
}

// Bits of TicketFlags (RFC 4120 5.3, RFC 4120 8; bit 0 is the highest).
const (
	ticketInvalid          = 1 << (31 - 7)
	ticketTransitedChecked = 1 << (31 - 12)
)

// 5.3 EncTicketPart (RFC 4120): what the KDC says of the client, under the
// key of the service.
type ticketPart struct {
	flags    uint32
	key      Key
	realm    string
	client   principal
	authTime time.Time
	start    time.Time // authTime if the ticket has none
	end      time.Time
	// authData is what the ticket is restricted to and, in Windows' domains,
	// the PAC.
	authData []authData
}

// authData is one element of AuthorizationData (RFC 4120 5.2.6).
type authData struct {
	kind int32
	data []byte
}

// Kinds of authorization data.
const (
	adIfRelevant = 1   // RFC 4120 5.2.6.1
	adWin2kPAC   = 128 // [MS-KILE] 2.2, [MS-PAC]
	// maxAuthData bounds the elements of one list.
	maxAuthData = 64
)

func parseTicketPart(b []byte) (*ticketPart, error) {
	r := open(b, application(3))
	t := &ticketPart{}
	t.flags = r.flags(0)
	t.key = r.key(1)
	t.realm = r.text(2)
	t.client = r.principal(3)
	transited := r.sequence(4)
	transited.int32(0)
	transited.octets(1)
	r.end(transited)
	t.authTime = r.time(5)
	t.start = t.authTime
	if r.has(6) {
		t.start = r.time(6)
	}
	t.end = r.time(7)
	if r.has(8) {
		r.time(8)
	}
	if r.has(9) {
		// caddr: the addresses the ticket is for. Domain controllers put none
		// in, and what is connected through a translator has another one.
		r.explicit(9)
	}
	if r.has(10) {
		inner := r.explicit(10)
		var ok bool
		t.authData, ok = parseAuthData(inner)
		r.bad = r.bad || !ok
	}
	if !r.done() {
		return nil, malformed("ticket")
	}
	return t, nil
}

// parseAuthData reads AuthorizationData, which fills b.
func parseAuthData(b []byte) (list []authData, ok bool) {
	s := cryptobyte.String(b)
	var seq cryptobyte.String
	if !s.ReadASN1(&seq, cbasn1.SEQUENCE) || !s.Empty() {
		return nil, false
	}
	for !seq.Empty() {
		var element cryptobyte.String
		if len(list) == maxAuthData || !seq.ReadASN1(&element, cbasn1.SEQUENCE) {
			return nil, false
		}
		r := &reader{s: element}
		a := authData{kind: r.int32(0), data: r.octets(1)}
		if !r.done() {
			return nil, false
		}
		list = append(list, a)
	}
	return list, true
}

// findPAC looks for the PAC, in AD-IF-RELEVANT as [MS-KILE] 3.3.5.6.3 has it
// or beside it. pac is nil if there is none. Restrictions outside of
// AD-IF-RELEVANT that are not understood are the end of the logon (RFC 4120
// 5.2.6); unknown is the kind of the first such.
func findPAC(list []authData) (pac []byte, unknown int32, err error) {
	for _, a := range list {
		switch a.kind {
		case adWin2kPAC:
			if pac == nil {
				pac = a.data
			}
		case adIfRelevant:
			inner, ok := parseAuthData(a.data)
			if !ok {
				return nil, 0, malformed("authorization data")
			}
			for _, b := range inner {
				if b.kind == adWin2kPAC && pac == nil {
					pac = b.data
				}
			}
		default:
			if unknown == 0 {
				unknown = a.kind
			}
		}
	}
	return pac, unknown, nil
}
