package dclocator

import (
	"fmt"
	"net"
	"slices"
	"testing"
)

// TestTargets: D-21, what hostile or broken DNS can have a search do.
func TestTargets(t *testing.T) {
	srv := func(target string, port uint16) *net.SRV { return &net.SRV{Target: target, Port: port} }
	many := make([]*net.SRV, 10000)
	for i := range many {
		many[i] = srv(fmt.Sprintf("dc%d.bkrp.test.", i), 389)
	}
	for name, tt := range map[string]struct {
		records []*net.SRV
		want    []target
	}{
		"none":                     {nil, nil},
		"RFC 2782 no such service": {[]*net.SRV{srv(".", 0)}, nil},
		"twice, in their order":    {[]*net.SRV{srv("b.test.", 389), srv("a.test.", 389), srv("B.TEST.", 389)}, []target{{"b.test", 389}, {"a.test", 389}}},
		"at another port":          {[]*net.SRV{srv("a.test.", 389), srv("a.test.", 3890)}, []target{{"a.test", 389}, {"a.test", 3890}}},
		"no names":                 {[]*net.SRV{srv("", 1), srv("a..b.", 1), srv("\x1b[m.test.", 1), srv("a b.test.", 1), srv("../etc.", 1)}, nil},
		"those that failed":        {[]*net.SRV{srv("Dead.test.", 389), srv("dc1.test.", 389)}, []target{{"dc1.test", 389}}},
	} {
		s := &search{failed: map[string]bool{"dead.test": true}}
		if got := s.targets(tt.records); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
	got := (&search{failed: make(map[string]bool)}).targets(many)
	if len(got) != maxTargets || got[0].host != "dc0.bkrp.test" || got[maxTargets-1].host != fmt.Sprintf("dc%d.bkrp.test", maxTargets-1) {
		t.Errorf("%d targets", len(got))
	}
}
