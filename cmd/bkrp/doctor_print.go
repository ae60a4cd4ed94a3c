package main

import (
	"fmt"
	"io"
	"time"

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
	if !cli.IsTerminal(w) {
		return printRecords(w, r)
	}
	for _, s := range r.Servers {
		if err := printFindings(w, heading(s), s.Findings); err != nil {
			return err
		}
	}
	if r.Domain != "" {
		if err := printFindings(w, r.Domain, r.Findings); err != nil {
			return err
		}
	}
	return printNext(w, r)
}

// levelStyles is how the word for a level looks.
var levelStyles = map[doctor.Level]cli.Style{
	doctor.OK: cli.Green, doctor.Note: cli.Cyan, doctor.Warning: cli.Yellow, doctor.Broken: cli.Red,
}

// printRecords prints a record for each finding, in the order of the report.
func printRecords(w io.Writer, r *doctor.Report) error {
	t := cli.NewTable("WHERE", "ADDRESS", "CHECK", "LEVEL", "FOUND", "NEXT")
	record := func(where, address string, f doctor.Finding) {
		t.Row(where, address, f.Check, levelStyles[f.Level].Cell(f.Level), f.Found, f.Next)
	}
	for _, s := range r.Servers {
		for _, f := range s.Findings {
			record(s.Name, s.Address, f)
		}
	}
	for _, f := range r.Findings {
		record(r.Domain, "", f)
	}
	return t.Print(w)
}

// heading is the server's name and where it was reached.
func heading(s *doctor.Server) string {
	h := s.Name
	if s.Address != "" && s.Address != s.Name {
		h += " (" + s.Address + ")"
	}
	return h + ", " + s.Took.Round(10*time.Millisecond).String()
}

func printFindings(w io.Writer, heading string, findings []doctor.Finding) error {
	fmt.Fprintln(w, cli.Paint(w, cli.Bold, heading))
	t := cli.Table{Indent: "  "}
	for _, f := range findings {
		t.Row(f.Check, levelStyles[f.Level].Cell(f.Level), f.Found)
	}
	err := t.Print(w)
	fmt.Fprintln(w)
	return err
}

// printNext lists what to do, the worst first.
func printNext(w io.Writer, r *doctor.Report) error {
	t, any := cli.Table{Indent: "  "}, false
	for _, level := range []doctor.Level{doctor.Broken, doctor.Warning, doctor.Note} {
		for s, f := range r.All {
			if f.Level != level || f.Next == "" {
				continue
			}
			where := r.Domain
			if s != nil {
				where = s.Name
			}
			t.Row(levelStyles[level].Cell(level), where+", "+f.Check+": "+f.Next)
			any = true
		}
	}
	if !any {
		return nil
	}
	fmt.Fprintln(w, cli.Paint(w, cli.Bold, "What to do:"))
	return t.Print(w)
}
