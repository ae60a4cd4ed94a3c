package krb5

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/gss"
	"github.com/seed05845750/bkrp/internal/gss/pac"
)

// A PAC without LOGON_INFO, as MIT's KDC makes them, names nobody: then the
// configuration does, if the PAC is in order.
func TestPACWithoutLogonInfo(t *testing.T) {
	sids := map[string]dtyp.SID{"alice@BKRP.TEST": dtyp.MustParseSID("S-1-5-21-1-2-3-4")}
	for name, tt := range map[string]struct {
		sids   map[string]dtyp.SID
		change func(t *testing.T, f *forgery)
		err    error
	}{
		"configured":     {sids: sids},
		"not configured": {err: errNoLogonInfo},
		"another key's":  {sids: sids, change: func(t *testing.T, f *forgery) { f.signer = drawKey(t, f.signer.Type) }, err: pac.ErrSignature},
		"of another client": {sids: sids, err: pac.ErrClient, change: func(t *testing.T, f *forgery) {
			_, content := f.buffer(t, 0xA)
			content[10]++
		}},
	} {
		t.Run(name, func(t *testing.T) {
			f := forge(t)
			entry, _ := f.buffer(t, 1)
			binary.LittleEndian.PutUint32(entry, 0x7FFF) // a kind that nobody knows
			f.sign = true
			if tt.change != nil {
				tt.change(t, f)
			}
			_, sc, _, err := f.try(t, Config{PrincipalSIDs: tt.sids}, 0)
			if tt.err != nil {
				if !errors.Is(err, tt.err) || !errors.Is(err, gss.ErrRefused) {
					t.Errorf("error %v, want %v", err, tt.err)
				}
				return
			}
			if err != nil || sc.Identity().SID != sids["alice@BKRP.TEST"] || sc.Identity().Groups != nil {
				t.Errorf("context %v, error %v", sc, err)
			}
		})
	}
}
