package krb5

import (
	"fmt"
	"time"
)

// Error codes (RFC 4120 7.5.9) that an acceptor sends. What is a matter of
// policy, such as a PAC, is not told in more detail than errGeneric.
const (
	codeTicketExpired = 32
	codeTicketNotYet  = 33
	codeRepeat        = 34
	codeNotUs         = 35
	codeBadMatch      = 36
	codeSkew          = 37
	codeModified      = 41
	codeBadKeyVersion = 44
	codeGeneric       = 60
)

// 5.9.1 KRB_ERROR (RFC 4120), as far as it is of use here.
type krbError struct {
	stime   time.Time
	susec   int32
	code    int32
	realm   string
	service principal
}

func parseKrbError(b []byte) (*krbError, error) {
	r := open(b, application(typeError))
	e := &krbError{}
	r.bad = r.bad || r.int32(0) != protocolVersion || r.int32(1) != typeError
	if r.has(2) {
		r.time(2)
	}
	if r.has(3) {
		r.int32(3)
	}
	e.stime = r.time(4)
	e.susec = r.int32(5)
	e.code = r.int32(6)
	if r.has(7) {
		r.text(7)
	}
	if r.has(8) {
		r.principal(8)
	}
	e.realm = r.text(9)
	e.service = r.principal(10)
	if r.has(11) {
		r.explicit(11)
	}
	if r.has(12) {
		r.octets(12)
	}
	if !r.done() {
		return nil, malformed("KRB-ERROR")
	}
	return e, nil
}

func (e *krbError) marshal() ([]byte, error) {
	return build(application(typeError), func(w writer) {
		w.integer(0, protocolVersion)
		w.integer(1, typeError)
		w.time(4, e.stime)
		w.integer(5, int64(e.susec))
		w.integer(6, int64(e.code))
		w.text(9, e.realm)
		w.principal(10, e.service)
	})
}

// Error says what the server's code means, for the user of a client.
func (e *krbError) Error() string {
	switch e.code {
	case codeTicketExpired:
		return "krb5: the server says that the ticket has expired"
	case codeTicketNotYet:
		return "krb5: the server says that the ticket is not valid yet"
	case codeRepeat:
		return "krb5: the server has seen this request before"
	case codeSkew:
		return fmt.Sprintf("krb5: the clocks are too far apart, the server's says %v", e.stime.Format(time.RFC3339))
	case codeModified, codeBadKeyVersion, codeNotUs:
		return fmt.Sprintf("krb5: the server %v has no key for the ticket (code %d)", e.service, e.code)
	}
	return fmt.Sprintf("krb5: the server refuses the ticket with code %d", e.code)
}
