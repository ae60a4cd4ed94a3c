package main

import (
	"fmt"
	"io"

	"github.com/seed05845750/bkrp/internal/backup"
)

// warn tells what is not in a backup, and what is wrong with what is.
func (r *backupResponse) warn(w io.Writer) {
	for _, name := range r.Manifest.Damaged {
		fmt.Fprintf(w, "warning: %s is damaged in the store, and is not in the backup\n", backup.Shown(name))
	}
	for _, problem := range r.Problems {
		fmt.Fprintf(w, "warning: %s\n", backup.Shown(problem))
	}
	for _, k := range r.Manifest.Keys {
		if k.InToken {
			fmt.Fprintf(w, "warning: the private half of key %v is in a token, and not in the backup\n", k.GUID)
		}
	}
}

// backupReport is what was backed up, and where to, as --json prints it.
type backupReport struct {
	Out string `json:"out"`
	backup.Manifest
	// Problems is what is wrong with entries that are not damaged as such.
	Problems []string      `json:"problems"`
	Shares   *sharesReport `json:"shares,omitempty"`
}

// sharesReport is where the shares of a split are.
type sharesReport struct {
	Split  string   `json:"split"`  // names it
	Needed int      `json:"needed"` // so many of them open the backup
	Files  []string `json:"files"`
}

func (r *backupResponse) report(p *backupPlan, shares []string) *backupReport {
	report := &backupReport{Out: p.output, Manifest: r.Manifest, Problems: append([]string{}, r.Problems...)}
	if p.verifier != nil {
		report.Shares = &sharesReport{Split: p.verifier.ID(), Needed: p.verifier.K(), Files: shares}
	}
	return report
}
