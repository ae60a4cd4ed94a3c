package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// judge is a program with one command, whose texts have in them what a formatter
// would take for its own.
func judge() *cobra.Command {
	root := &cobra.Command{Use: "court", Short: "a program", Long: "Court is a program.", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return nil }}
	cmd := &cobra.Command{
		Use:     "judge 'X'",
		Short:   "judge a case",
		Long:    ".SH is no heading.\n'so nor this: C:\\new\n\n  as  it\n  .stands\n\nAnd on.",
		Example: "  court judge ~/case",
		RunE:    func(*cobra.Command, []string) error { return nil },
	}
	cmd.Flags().StringP("name", "n", "a-b", "the `NAME` of it")
	cmd.Flags().Bool("secret", false, "not to be seen")
	cmd.Flags().MarkHidden("secret")
	SetExitCodes(cmd, ExitCode{7, "guilty"}, ExitCode{0, "innocent"})
	root.AddCommand(cmd)
	Prepare(root, "6")
	return root
}

func TestManPage(t *testing.T) {
	dir := t.TempDir()
	var stderr bytes.Buffer
	root := judge()
	root.SetErr(&stderr)
	if code := Run(t.Context(), root, []string{"man", dir}, Failures{}); code != ExitOK {
		t.Fatalf("exit code %d: %s", code, &stderr)
	}
	page, err := os.ReadFile(filepath.Join(dir, "court-judge.6"))
	if err != nil {
		t.Fatal(err)
	}
	const want = `.TH "COURT\-JUDGE" "6" "" "court" "court manual"
.SH "NAME"
court\-judge \- judge a case
.SH "SYNOPSIS"
.B "court judge \(aqX\(aq [flags]"
.SH "DESCRIPTION"
\&.SH is no heading.
\(aqso nor this: C:\enew
.PP
.PP
.RS "2"
.nf
as  it
\&.stands
.fi
.RE
.PP
And on.
.SH "OPTIONS"
.TP
\fB\-\-color\fR \fIWHEN\fR
print colours: auto (on a terminal), always or never (default auto)
.TP
\fB\-h, \-\-help\fR
help for judge
.TP
\fB\-n, \-\-name\fR \fINAME\fR
the NAME of it (default a\-b)
.SH "EXIT STATUS"
.TP
0
innocent
.TP
7
guilty
.SH "EXAMPLES"
.PP
.RS "2"
.nf
court judge \(ti/case
.fi
.RE
.SH "SEE ALSO"
.BR court (6)
`
	if string(page) != want {
		t.Errorf("the page is\n%s\nwant\n%s", page, want)
	}
	if _, err := os.Stat(filepath.Join(dir, "court-man.6")); err == nil {
		t.Error("a page of a hidden command")
	}
}

// A command with codes of its own is in the topic of exit codes.
func TestOwnExitCodes(t *testing.T) {
	var out, stderr bytes.Buffer
	root := judge()
	root.SetOut(&out)
	root.SetErr(&stderr)
	if code := Run(t.Context(), root, []string{"help", "exit-codes"}, Failures{}); code != ExitOK {
		t.Fatalf("exit code %d: %s", code, &stderr)
	}
	if want := "\"court judge\" has codes of its own:\n\n  0  innocent\n  7  guilty\n"; !strings.Contains(out.String(), want) {
		t.Errorf("%q is missing:\n%s", want, &out)
	}
}
