package doctest

import (
	"strings"
)

// Script says how the commands of a document are run where they cannot be typed
// just as they stand.
type Script struct {
	Shell *Shell
	// Replace are pairs: what stands in a command, and what takes its place in the
	// test. Each has to be of use.
	Replace []string
	// Steps are the commands with which there is more to do than to run them, by
	// their text in the document, or by its beginning up to a "…". Each has to be
	// there.
	Steps map[string]Step
}

// Step is a command of a document in a test.
type Step struct {
	// Exempt is why the command is not run, and what is done in its place.
	Exempt string
	// Before is called ahead of the command.
	Before func()
	// Stdin is what the command reads.
	Stdin string
	// Instead runs the command, with everything replaced, in the shell's place.
	Instead func(command string)
	// Code is the exit code it has to have.
	Code int
	// After looks at what came of it.
	After func(r Result)
}

// Follow runs, in their order, the commands in all blocks that are not accounted
// for. Each has to succeed.
func (d *Document) Follow(s Script) {
	d.t.Helper()
	used := make(map[string]bool)
	for _, c := range d.commands() {
		name, step := s.step(c.Text)
		if used[name] && name != "" {
			d.t.Fatalf("%s, line %d: the step for %q is for one command only", d.Name, c.Line, name)
		}
		used[name] = true
		text := c.Text
		for i := 0; i < len(s.Replace); i += 2 {
			if old := s.Replace[i]; strings.Contains(text, old) {
				used["replace "+old] = true
				text = strings.ReplaceAll(text, old, s.Replace[i+1])
			}
		}
		if step.Before != nil {
			step.Before()
		}
		switch {
		case step.Exempt != "":
			continue
		case step.Instead != nil:
			step.Instead(text)
			continue
		}
		r := s.Shell.Run(text, step.Stdin)
		if r.Code != step.Code {
			d.t.Fatalf("%s, line %d: %s\nexit code %d, want %d\n%s%s", d.Name, c.Line, text, r.Code, step.Code, r.Stdout, r.Stderr)
		}
		if step.After != nil {
			step.After(r)
		}
	}
	for name := range s.Steps {
		if !used[name] {
			d.t.Errorf("%s: there is no command %q", d.Name, name)
		}
	}
	for i := 0; i < len(s.Replace); i += 2 {
		if !used["replace "+s.Replace[i]] {
			d.t.Errorf("%s: no command has %q", d.Name, s.Replace[i])
		}
	}
}

// step finds what is to be done with a command.
func (s *Script) step(command string) (name string, step Step) {
	for name, step := range s.Steps {
		begin, open := strings.CutSuffix(name, "…")
		if command == name || open && strings.HasPrefix(command, begin) {
			return name, step
		}
	}
	return "", Step{}
}
