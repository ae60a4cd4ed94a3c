package spnego

import (
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/seed05845750/bkrp/internal/gss"
)

// The token is what a domain controller of Samba's put into its NEGOTIATE
// response.
func TestOffered(t *testing.T) {
	text, err := os.ReadFile("../testdata/samba-hint.hex")
	if err != nil {
		t.Fatal(err)
	}
	token, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	got, err := Offered(token)
	if err != nil || !slices.EqualFunc(got, []asn1.ObjectIdentifier{MSKerberos(), Kerberos(), NTLM()}, asn1.ObjectIdentifier.Equal) {
		t.Errorf("%v, %v", got, err)
	}
	for n := range token {
		if _, err := Offered(token[:n]); !errors.Is(err, gss.ErrToken) {
			t.Errorf("%d octets: %v", n, err)
		}
	}
}
