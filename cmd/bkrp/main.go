// Command bkrp is a BackupKey client: it wraps and unwraps secrets, and says
// what a file of the protocol is.
package main

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/seed05845750/bkrp/bkrpclient"
	"github.com/seed05845750/bkrp/internal/cli"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// Exit codes beside those of package cli; the help of the command lists them.
const (
	exitLogon   = 3
	exitRefused = 4
)

// run executes one command line and returns its exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	return cli.Run(ctx, newRootCommand(stdin, stdout, stderr), args, stderr, exitCode)
}

func exitCode(err error) int {
	var refused *bkrpclient.ServerError
	switch {
	case errors.Is(err, bkrpclient.ErrLogon), errors.Is(err, bkrpclient.ErrTicket):
		return exitLogon
	case errors.As(err, &refused):
		return exitRefused
	}
	return cli.ExitError
}

func newRootCommand(stdin io.Reader, stdout, stderr io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:   "bkrp",
		Short: "a BackupKey client",
		Long: `bkrp has a secret wrapped so that only its owner gets it back, from any BackupKey
server of the owner's domain: bkrpd, or a domain controller.

The password is asked for on the terminal, or is the first line of the file that
BKRP_PASSWORD_FILE names. It never stands on the command line. With --kerberos
the tickets that kinit got take its place.

Exit codes: 0 done, 1 an error, 2 a mistake in the command line, 3 the server
refused the log-on, 4 the server refused the call.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cmd.Help()
		},
	}
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.AddCommand(
		newCertCommand(stdout),
		newWrapCommand(stdin, stdout),
		newUnwrapCommand(stdin, stdout, stderr),
		newSIDCommand(stdout),
		newInspectCommand(stdin, stdout),
		newDPAPICommand(stdin, stdout, stderr),
		newBenchCommand(stdout, stderr),
	)
	return root
}
