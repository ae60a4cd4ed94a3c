package cli

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/spf13/cobra"
)

func TestErrorsDoNothingToTheTerminal(t *testing.T) {
	root := &cobra.Command{Use: "bkrp", RunE: func(*cobra.Command, []string) error {
		return errors.New("what a KDC says: \x1b[2J\r\u202e\none more\tline")
	}}
	var stderr bytes.Buffer
	root.SetErr(&stderr)
	if code := Run(context.Background(), root, nil, Failures{}); code != ExitError {
		t.Error(code)
	}
	if want := "bkrp: what a KDC says: ?[2J ?\none more line\n"; stderr.String() != want {
		t.Errorf("%q", stderr.String())
	}
}
