package doctor

import (
	"crypto/rsa"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/seed05845750/bkrp"
)

// TestJudgeCertificate has what bkrp does not issue; faults_test.go has the rest.
func TestJudgeCertificate(t *testing.T) {
	pair, err := bkrp.GenerateKeyPair("bkrp.example", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		change func(c *bkrp.Certificate)
		want   string
	}{
		"as it is": {func(*bkrp.Certificate) {}, ""},
		"W-2.2.1-02 key": {func(c *bkrp.Certificate) {
			c.PublicKey = &rsa.PublicKey{N: new(big.Int).SetBit(c.PublicKey.N, 3071, 1), E: c.PublicKey.E}
		}, "3072 bits"},
		"W-2.2.1-07 version":                  {func(c *bkrp.Certificate) { c.Version = 0 }, "version 1, not 3"},
		"W-2.2.1-08 serial":                   {func(c *bkrp.Certificate) { c.Serial = []byte{1} }, "serial number"},
		"W-2.2.1-11 no issuerUniqueID":        {func(c *bkrp.Certificate) { c.IssuerUniqueID = nil }, "issuerUniqueID"},
		"W-2.2.1-12 issuer":                   {func(c *bkrp.Certificate) { c.Issuer = "a CA" }, `issuer is "a CA"`},
		"W-2.2.1-12 algorithm that is no use": {func(c *bkrp.Certificate) { c.SignatureAlgorithm = []int{1, 2, 3} }, "not known"},
	} {
		t.Run(name, func(t *testing.T) {
			c := *pair.Certificate()
			tt.change(&c)
			var s Server
			judgeCertificate(&s, &c, "BKRP.Example", time.Now())
			found := false
			for _, f := range s.Findings {
				found = found || f.Level == Warning && f.Next != "" && strings.Contains(f.Found, tt.want)
			}
			if found != (tt.want != "") || s.Findings[0].Level != OK {
				t.Errorf("%+v", s.Findings)
			}
		})
	}
}
