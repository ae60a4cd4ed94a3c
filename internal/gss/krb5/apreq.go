package krb5

import (
	"time"

	"golang.org/x/crypto/cryptobyte"
)

// Message types (RFC 4120 7.5.7), which are their application tags too.
const (
	typeAPReq = 14
	typeAPRep = 15
	typeError = 30
)

// Bits of APOptions (RFC 4120 5.5.1).
const (
	optionUseSessionKey  = 1 << (31 - 1)
	optionMutualRequired = 1 << (31 - 2)
)

// 5.5.1 KRB_AP_REQ (RFC 4120).
type apReq struct {
	options       uint32
	ticket        ticket
	authenticator encrypted
}

func parseAPReq(b []byte) (*apReq, error) {
	r := open(b, application(typeAPReq))
	q := &apReq{}
	r.bad = r.bad || r.int32(0) != protocolVersion || r.int32(1) != typeAPReq
	q.options = r.flags(2)
	q.ticket = r.ticket(3)
	q.authenticator = r.encrypted(4)
	if !r.done() {
		return nil, malformed("AP-REQ")
	}
	return q, nil
}

// marshalAPReq writes an AP-REQ around a ticket as the KDC gave it.
func marshalAPReq(options uint32, ticket []byte, authenticator encrypted) ([]byte, error) {
	return build(application(typeAPReq), func(w writer) {
		w.integer(0, protocolVersion)
		w.integer(1, typeAPReq)
		w.flags(2, options)
		w.explicit(3, func(b *cryptobyte.Builder) { b.AddBytes(ticket) })
		w.encrypted(4, authenticator)
	})
}

// 5.5.1 Authenticator (RFC 4120): what the client says, under the session key
// of the ticket.
type authenticator struct {
	realm    string
	client   principal
	checksum *checksum // nil for none
	cusec    int32
	ctime    time.Time
	subkey   *Key // nil for none
	seq      uint32
}

// checksum is Checksum (RFC 4120 5.2.9).
type checksum struct {
	kind int32
	sum  []byte
}

func parseAuthenticator(b []byte) (*authenticator, error) {
	r := open(b, application(2))
	a := &authenticator{}
	r.bad = r.bad || r.int32(0) != protocolVersion
	a.realm = r.text(1)
	a.client = r.principal(2)
	if r.has(3) {
		seq := r.sequence(3)
		a.checksum = &checksum{kind: seq.int32(0), sum: seq.octets(1)}
		r.end(seq)
	}
	a.cusec = r.int32(4)
	r.bad = r.bad || a.cusec < 0 || a.cusec > 999999
	a.ctime = r.time(5)
	if r.has(6) {
		k := r.key(6)
		a.subkey = &k
	}
	if r.has(7) {
		a.seq = r.uint32(7)
	}
	if r.has(8) {
		// Hints of the client's, which the KDC does not vouch for.
		r.explicit(8)
	}
	if !r.done() {
		return nil, malformed("authenticator")
	}
	return a, nil
}

func (a *authenticator) marshal() ([]byte, error) {
	return build(application(2), func(w writer) {
		w.integer(0, protocolVersion)
		w.text(1, a.realm)
		w.principal(2, a.client)
		if a.checksum != nil {
			w.sequence(3, func(w writer) {
				w.integer(0, int64(a.checksum.kind))
				w.octets(1, a.checksum.sum)
			})
		}
		w.integer(4, int64(a.cusec))
		w.time(5, a.ctime)
		if a.subkey != nil {
			w.key(6, *a.subkey)
		}
		w.integer(7, int64(a.seq))
	})
}
