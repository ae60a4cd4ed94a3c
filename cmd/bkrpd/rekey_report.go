package main

import (
	"io"

	"github.com/seed05845750/bkrp/internal/cli"
)

// rekeyReport is how far a rekey has come, as --json prints it.
type rekeyReport struct {
	// UnderWay says that two keys open the store, until the rekey is finished or
	// abandoned.
	UnderWay bool       `json:"underWay"`
	KEKs     []kekState `json:"keks"`
	// Moved is how many values the command sealed anew.
	Moved int `json:"moved"`
	// Set is what seal.kek is to be, of a rekey that the command began.
	Set string `json:"set,omitempty"`
}

// kekState is a key that opens the store.
type kekState struct {
	KEK string `json:"kek"`
	// Role is roleOnly, or during a rekey roleOld or roleNew.
	Role string `json:"role"`
	// Configured says that seal.kek is this key.
	Configured bool `json:"configured"`
}

const (
	roleOnly = "only"
	roleOld  = "old"
	roleNew  = "new"
)

// report is e for people and programs.
func (e *kekEntry) report(moved int) *rekeyReport {
	r := &rekeyReport{UnderWay: len(e.KEKs) > 1, Moved: moved}
	for i, kek := range e.KEKs {
		role := roleOnly
		if r.UnderWay {
			role = []string{roleOld, roleNew}[min(i, 1)]
		}
		r.KEKs = append(r.KEKs, kekState{kek, role, i == e.Configured})
	}
	return r
}

func (r *rekeyReport) print(w io.Writer) error {
	t := cli.NewTable()
	for _, k := range r.KEKs {
		what, style := k.Role, cli.Plain
		if what == roleOnly {
			what = "opens the store"
		}
		if k.Configured {
			what += ", in the configuration"
			style = cli.Bold
		}
		t.StyledRow(style, k.KEK, what)
	}
	return t.Print(w)
}
