package main

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/seed05845750/bkrp/internal/cli"
	"github.com/seed05845750/bkrp/internal/cli/clitest"
)

func TestHelp(t *testing.T) {
	clitest.Test(t, func(stdin io.Reader, stdout, stderr io.Writer) *cobra.Command {
		return newRootCommand(stdio{stdin, stdout, stderr})
	}, map[string]string{
		"demo":  "it is for people",
		"serve": "it prints addresses, and its log is JSON by log.format",
	})
}

// The exit codes mean what they mean for bkrp; bkrpd calls no server as a user,
// and so has no use for the others.
func TestExitCodes(t *testing.T) {
	dir := t.TempDir() + "/new"
	for _, test := range []struct {
		code int
		args []string
	}{
		{cli.ExitOK, []string{"init", "--dir", dir, "--domain", "bkrp.test"}},
		{cli.ExitError, []string{"init", "--dir", dir, "--domain", "bkrp.test"}}, // it is there
		{cli.ExitUsage, []string{"init"}},
		{cli.ExitUsage, []string{"no-such-command"}},
	} {
		var out, stderr bytes.Buffer
		if code := run(t.Context(), test.args, stdio{strings.NewReader(""), &out, &stderr}); code != test.code {
			t.Errorf("%q: exit code %d, want %d: %s", test.args, code, test.code, &stderr)
		}
	}
}
