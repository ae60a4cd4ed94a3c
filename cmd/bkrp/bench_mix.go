package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/seed05845750/bkrp/internal/cli"
)

// benchAction is one of the protocol's four actions under load.
type benchAction int

const (
	benchWrap     benchAction = iota // ServerWrap: BACKUP
	benchUnwrap                      // ServerWrap: RESTORE_WIN2K
	benchRetrieve                    // the domain's public key: RETRIEVE
	benchRestore                     // ClientWrap: RESTORE
	benchActions                     // how many there are
)

var benchActionNames = [benchActions]string{"wrap", "unwrap", "retrieve", "restore"}

// String is the action's name in --mix.
func (a benchAction) String() string { return benchActionNames[a] }

// benchMix says how often each action is called beside the others.
type benchMix [benchActions]int

// maxWeight bounds each weight of a mix, and with it the length of its round.
const maxWeight = 1000

// parseMix reads "wrap=4,unwrap=4,retrieve=1"; a name alone counts once.
func parseMix(s string) (mix benchMix, err error) {
	for _, part := range strings.Split(s, ",") {
		name, weight, given := strings.Cut(strings.TrimSpace(part), "=")
		action := slices.Index(benchActionNames[:], name)
		if action < 0 {
			return mix, cli.Usagef("--mix %q: the actions are %s", s, strings.Join(benchActionNames[:], ", "))
		}
		n := 1
		if given {
			if n, err = strconv.Atoi(weight); err != nil || n < 0 || n > maxWeight {
				return mix, cli.Usagef("--mix %q: the weight of %s is to be 0 to %d", s, name, maxWeight)
			}
		}
		if mix[action] != 0 {
			return mix, cli.Usagef("--mix %q: %s is there twice", s, name)
		}
		mix[action] = n
	}
	if mix == (benchMix{}) {
		return mix, cli.Usagef("--mix %q: nothing is left to be called", s)
	}
	return mix, nil
}

// String is the mix as parseMix reads it.
func (m benchMix) String() string {
	var parts []string
	for a, n := range m {
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%v=%d", benchAction(a), n))
		}
	}
	return strings.Join(parts, ",")
}

// round is the order of calls that is repeated. It has each action as often as its
// weight says, spread as evenly as can be: no randomness, so that two servers
// and two runs get the same load.
func (m benchMix) round() []benchAction {
	total := 0
	for _, n := range m {
		total += n
	}
	var owed benchMix
	round := make([]benchAction, 0, total)
	for range total {
		next := 0
		for a := range owed {
			owed[a] += m[a]
			if owed[a] > owed[next] {
				next = a
			}
		}
		owed[next] -= total
		round = append(round, benchAction(next))
	}
	return round
}
