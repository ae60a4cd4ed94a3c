// Command bkrpd serves BackupKey to a domain and administers its keys and
// accounts.
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/seed05845750/bkrp/internal/cli"
)

func main() { os.Exit(process()) }

// process is run for this process, which any command may read keys into.
func process() int {
	if err := forbidCore(); err != nil {
		fmt.Fprintf(os.Stderr, "bkrpd: %v\n", err)
		return cli.ExitError
	}
	return run(context.Background(), os.Args[1:], stdio{os.Stdin, os.Stdout, os.Stderr})
}

// stdio is what a command reads and prints to.
type stdio struct {
	in       io.Reader
	out, err io.Writer
}

// text is where text for people goes beside what came of a command: to standard
// output, unless that is JSON.
func (s stdio) text(asJSON bool) io.Writer {
	if asJSON {
		return s.err
	}
	return s.out
}

// run executes one command line and returns its exit code.
func run(ctx context.Context, args []string, std stdio) int {
	return cli.Run(ctx, newRootCommand(std), args, cli.Failures{})
}

func newRootCommand(std stdio) *cobra.Command {
	root := &cobra.Command{
		Use:   "bkrpd",
		Short: "a BackupKey server",
		Long: `bkrpd serves the BackupKey remote protocol: whoever it knows can have a secret
wrapped, and only the owner of a wrapped secret gets it back.

Commands that report or change something take --json: programs get one object on
standard output, and what is for people goes to standard error.

"bkrpd help exit-codes" says how programs see what came of a command, "bkrpd help
output" what is printed on a terminal and what elsewhere, and "bkrpd help completion"
how a shell completes a command.`,
		Example: `  bkrpd demo
  bkrpd init --dir /var/lib/bkrpd --domain example.com
  bkrpd serve --config /var/lib/bkrpd/bkrpd.toml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cmd.Help()
		},
	}
	out, errs := cli.Streams(std.out, std.err)
	std.out, std.err = out, errs
	root.SetIn(std.in)
	root.SetOut(std.out)
	root.SetErr(std.err)
	root.AddCommand(newDemoCommand(std), newInitCommand(std), newServeCommand(std), newUserCommand(std), newKeysCommand(std), newRekeyCommand(std),
		newBackupCommand(std), newRestoreCommand(std), newDrillCommand(std), newCombineCommand(std))
	cli.Prepare(root, "8")
	return root
}

// addConfigFlag adds the flag that names the configuration file.
func addConfigFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVar(file, "config", "", "the configuration file that bkrpd init made")
	cmd.MarkFlagRequired("config")
}

// newLogger is the log that the configuration asks for.
func newLogger(w io.Writer, cfg *config) *slog.Logger {
	var level slog.Level
	// The configuration's check has seen that it is one of slog's names.
	_ = level.UnmarshalText([]byte(cfg.Log.Level))
	o := &slog.HandlerOptions{Level: level}
	if cfg.Log.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// auditHandler lets the audit trail through at whatever level the rest of the
// log is kept.
type auditHandler struct{ slog.Handler }

// Enabled is true.
func (auditHandler) Enabled(context.Context, slog.Level) bool { return true }
