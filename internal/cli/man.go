package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// newManCommand is "man", which packagers run and users need not see.
func newManCommand(root *cobra.Command, section string) *cobra.Command {
	return &cobra.Command{
		Use:    "man DIR",
		Short:  "write the manual pages",
		Hidden: true,
		Long: `Man writes a manual page for the program and for each of its commands to a
directory, which it makes if it is not there. The pages have what --help has.`,
		Example: fmt.Sprintf("  %s man /usr/local/share/man/man%s", root.Name(), section),
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			return writePages(root, section, args[0])
		},
	}
}

// writePages writes the page of a command and those of the commands below it.
func writePages(cmd *cobra.Command, section, dir string) error {
	f, err := os.Create(filepath.Join(dir, pageName(cmd)+"."+section))
	if err != nil {
		return err
	}
	if err := errors.Join(writePage(f, cmd, section), f.Close()); err != nil {
		return err
	}
	for _, c := range shown(cmd) {
		if err := writePages(c, section, dir); err != nil {
			return err
		}
	}
	return nil
}

// shown are the commands and topics below cmd that are no secret.
func shown(cmd *cobra.Command) (list []*cobra.Command) {
	for _, c := range cmd.Commands() {
		if !c.Hidden {
			list = append(list, c)
		}
	}
	return list
}

func pageName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// writePage writes one page in the man macros of roff, which are those of man(7).
// It has no date, so that the same program writes the same pages.
func writePage(w io.Writer, cmd *cobra.Command, section string) error {
	r := &roff{w: bufio.NewWriter(w)}
	name := pageName(cmd)
	program := cmd.Root().Name()
	r.macro("TH", strings.ToUpper(name), section, "", program, program+" manual")
	r.macro("SH", "NAME")
	r.text(name + " - " + cmd.Short)
	if cmd.Runnable() {
		r.macro("SH", "SYNOPSIS")
		r.macro("B", cmd.UseLine())
	}
	r.macro("SH", "DESCRIPTION")
	r.paragraphs(cmd.Long)
	cmd.InitDefaultHelpFlag()
	if flags := cmd.Flags(); cmd.Runnable() && flags.HasAvailableFlags() {
		r.macro("SH", "OPTIONS")
		flags.VisitAll(r.flag)
	}
	if cmd.Runnable() {
		r.macro("SH", "EXIT STATUS")
		codes := ownExitCodes(cmd)
		if codes == nil {
			codes = ExitCodes()
		}
		for _, c := range codes {
			r.macro("TP")
			r.text(fmt.Sprint(c.Code))
			r.text(c.Meaning)
		}
	}
	if cmd.Example != "" {
		r.macro("SH", "EXAMPLES")
		r.literal(strings.Split(cmd.Example, "\n"))
	}
	r.seeAlso(cmd, section)
	return r.w.Flush()
}

// roff writes a page. Errors of the writer are kept by it until it is flushed.
type roff struct{ w *bufio.Writer }

// roffEscapes has what would be taken for a request to the formatter, or be made
// prettier than a shell understands.
var roffEscapes = strings.NewReplacer(`\`, `\e`, `-`, `\-`, `'`, `\(aq`, "`", `\(ga`, `^`, `\(ha`, `~`, `\(ti`, `"`, `\(dq`)

// macro writes a request with its arguments.
func (r *roff) macro(name string, args ...string) {
	r.w.WriteString("." + name)
	for _, a := range args {
		r.w.WriteString(` "` + roffEscapes.Replace(a) + `"`)
	}
	r.w.WriteByte('\n')
}

// text writes a line, which the formatter breaks as it sees fit.
func (r *roff) text(line string) {
	if strings.HasPrefix(line, ".") {
		r.w.WriteString(`\&`) // it is no request
	}
	r.w.WriteString(roffEscapes.Replace(line) + "\n")
}

// paragraphs writes text as it stands in a command's help: what is indented stays
// as it is, and empty lines are between paragraphs.
func (r *roff) paragraphs(text string) {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for len(lines) > 0 {
		n := 1
		switch {
		case lines[0] == "":
			r.macro("PP")
		case indented(lines[0]):
			for n < len(lines) && indented(lines[n]) {
				n++
			}
			r.literal(lines[:n])
		default:
			r.text(lines[0])
		}
		lines = lines[n:]
	}
}

func indented(line string) bool { return strings.HasPrefix(line, "  ") }

// literal writes lines that stay as they are.
func (r *roff) literal(lines []string) {
	r.macro("PP")
	r.macro("RS", "2")
	r.macro("nf")
	for _, l := range lines {
		r.text(strings.TrimPrefix(l, "  "))
	}
	r.macro("fi")
	r.macro("RE")
}

// flag writes one flag as --help does, with its default.
func (r *roff) flag(f *pflag.Flag) {
	if f.Hidden {
		return
	}
	r.macro("TP")
	value, usage := pflag.UnquoteUsage(f)
	name := "--" + f.Name
	if f.Shorthand != "" {
		name = "-" + f.Shorthand + ", " + name
	}
	r.w.WriteString(`\fB` + roffEscapes.Replace(name) + `\fR`)
	if value != "" {
		r.w.WriteString(` \fI` + roffEscapes.Replace(value) + `\fR`)
	}
	r.w.WriteByte('\n')
	switch f.DefValue {
	case "", "0", "false", "[]", "0s":
	default:
		usage += " (default " + f.DefValue + ")"
	}
	r.text(usage)
}

// seeAlso names the command above and those below.
func (r *roff) seeAlso(cmd *cobra.Command, section string) {
	var names []string
	if cmd.HasParent() {
		names = append(names, pageName(cmd.Parent()))
	}
	for _, c := range shown(cmd) {
		names = append(names, pageName(c))
	}
	r.macro("SH", "SEE ALSO")
	for i, n := range names {
		comma := ","
		if i == len(names)-1 {
			comma = ""
		}
		r.w.WriteString(".BR " + roffEscapes.Replace(n) + " (" + section + ")" + comma + "\n")
	}
}
