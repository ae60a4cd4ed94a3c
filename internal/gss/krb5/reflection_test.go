package krb5

import (
	"errors"
	"testing"

	"github.com/seed05845750/bkrp/internal/gss"
)

// Our own AP-REP, which holds the number that the third leg has to give back,
// is no third leg, whatever stands around its ciphertext.
func TestThirdLegIsNotTheSecond(t *testing.T) {
	for name, change := range map[string]func(e *encrypted){
		"as it is":           func(*encrypted) {},
		"with a key version": func(e *encrypted) { e.kvno, e.hasKvno = 1, true },
	} {
		t.Run(name, func(t *testing.T) {
			f := forge(t)
			f.auth.checksum = marshalChannel(sealing | gss.DCEStyle | gss.Mutual)
			x := f.acceptor(t, Config{}).Accept(gss.AcceptOptions{DCEStyle: true})
			out, _, err := x.Step(t.Context(), f.seal(t, false))
			if err != nil {
				t.Fatal(err)
			}
			e, err := parseAPRep(out)
			if err != nil {
				t.Fatal(err)
			}
			change(&e)
			token, err := marshalAPRep(e)
			if err != nil {
				t.Fatal(err)
			}
			if _, sc, err := x.Step(t.Context(), token); !errors.Is(err, errThirdLeg) || sc != nil {
				t.Errorf("context %v, error %v", sc, err)
			}
		})
	}
}
