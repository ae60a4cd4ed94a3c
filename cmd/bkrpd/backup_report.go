package main

import (
	"io"

	"github.com/seed05845750/bkrp/internal/backup"
	"github.com/seed05845750/bkrp/internal/cli"
)

// warn tells what is not in a backup, and what is wrong with what is.
func (r *backupResponse) warn(w io.Writer) {
	for _, name := range r.Manifest.Damaged {
		cli.Warnf(w, "%s is damaged in the store, and is not in the backup", backup.Shown(name))
	}
	for _, problem := range r.Problems {
		cli.Warnf(w, "%s", backup.Shown(problem))
	}
	for _, k := range r.Manifest.Keys {
		if k.InToken {
			cli.Warnf(w, "the private half of key %v is in a token, and not in the backup", k.GUID)
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
