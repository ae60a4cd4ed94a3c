package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/seed05845750/bkrp/internal/cli"
	"github.com/seed05845750/bkrp/internal/doctor"
)

// doctorJSON is what --json prints: the report, and the worst of it in front.
type doctorJSON struct {
	Verdict doctor.Level `json:"verdict"`
	*doctor.Report
}

func printReport(w io.Writer, r *doctor.Report, asJSON bool) error {
	if asJSON {
		return cli.PrintJSON(w, doctorJSON{r.Worst(), r})
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, s := range r.Servers {
		fmt.Fprintf(t, "%s\n", heading(s))
		printFindings(t, s.Findings)
	}
	if r.Domain != "" {
		fmt.Fprintf(t, "%s\n", r.Domain)
		printFindings(t, r.Findings)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	return printNext(w, r)
}

// heading is the server's name and where it was reached.
func heading(s *doctor.Server) string {
	h := s.Name
	if s.Address != "" && s.Address != s.Name {
		h += " (" + s.Address + ")"
	}
	return h + ", " + s.Took.Round(10*time.Millisecond).String()
}

func printFindings(w io.Writer, findings []doctor.Finding) {
	for _, f := range findings {
		fmt.Fprintf(w, "  %s\t%v\t%s\n", f.Check, f.Level, oneLine(f.Found))
	}
	fmt.Fprintln(w)
}

// printNext lists what to do, the worst first.
func printNext(w io.Writer, r *doctor.Report) error {
	var b strings.Builder
	for _, level := range []doctor.Level{doctor.Broken, doctor.Warning, doctor.Note} {
		for s, f := range r.All {
			if f.Level != level || f.Next == "" {
				continue
			}
			where := r.Domain
			if s != nil {
				where = s.Name
			}
			fmt.Fprintf(&b, "  %v: %s, %s: %s\n", f.Level, where, f.Check, f.Next)
		}
	}
	if b.Len() == 0 {
		return nil
	}
	_, err := fmt.Fprintf(w, "What to do:\n%s", b.String())
	return err
}

// oneLine keeps what a server sent from breaking the table, or the terminal.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, strings.Join(strings.Fields(s), " "))
}
