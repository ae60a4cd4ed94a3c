package spnego

import (
	"encoding/asn1"
	"errors"
	"testing"

	"github.com/seed05845750/bkrp/internal/gss"
)

// longIdentifier is an identifier of size octets, one for each of its numbers
// but the first two.
func longIdentifier(size int) asn1.ObjectIdentifier {
	oid := asn1.ObjectIdentifier{1, 3}
	for range size - 1 {
		oid = append(oid, 127)
	}
	return oid
}

// TestLongList has somebody who has not logged on send a list of mechanisms as
// long as a token may be. A list is kept until the logon ends, for its checksum,
// and the reason of a refusal, which quotes it, goes into the log.
func TestLongList(t *testing.T) {
	// Around the longest list: its own header and that of the identifier.
	longest := maxList - len(mustList(t, kerberosNames[:1])) - 2 - 4
	for name, x := range map[string]struct {
		oids []asn1.ObjectIdentifier
		kept int
		want error
	}{
		"with a mechanism that there is":    {[]asn1.ObjectIdentifier{kerberosNames[0], longIdentifier(60000)}, 0, gss.ErrToken},
		"without a mechanism that there is": {[]asn1.ObjectIdentifier{longIdentifier(60000)}, 0, gss.ErrToken},
		"the longest":                       {[]asn1.ObjectIdentifier{kerberosNames[0], longIdentifier(longest)}, maxList, nil},
		"an octet longer":                   {[]asn1.ObjectIdentifier{kerberosNames[0], longIdentifier(longest + 1)}, 0, gss.ErrToken},
	} {
		t.Run(name, func(t *testing.T) {
			e := newAcceptor(t, ticketServer(ticket{password: "k", dce: true})).Accept(gss.AcceptOptions{})
			first := negTokenInit{mechTypes: x.oids, mechToken: []byte("ticket k")}
			_, _, err := e.Step(t.Context(), mustMarshal(t, first.marshal))
			if !errors.Is(err, x.want) {
				t.Errorf("error %.200v, want %v", err, x.want)
			}
			if err != nil && len(err.Error()) > 200 {
				t.Errorf("a reason of %d octets", len(err.Error()))
			}
			if kept := len(e.(*acceptExchange).list); kept != x.kept {
				t.Errorf("%d octets are kept, want %d", kept, x.kept)
			}
		})
	}
}

func mustList(t *testing.T, oids []asn1.ObjectIdentifier) []byte {
	t.Helper()
	return mustMarshal(t, func() ([]byte, error) { return marshalMechList(oids) })
}
