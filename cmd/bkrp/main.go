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

// run executes one command line and returns its exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	return cli.Run(ctx, newRootCommand(stdin, stdout, stderr), args, cli.Failures{Code: exitCode, Advice: advice})
}

func exitCode(err error) int {
	var refused *bkrpclient.ServerError
	var examined *verdictError
	switch {
	case errors.As(err, &examined):
		return examined.code
	case errors.Is(err, bkrpclient.ErrLogon), errors.Is(err, bkrpclient.ErrTicket):
		return cli.ExitLogon
	case errors.As(err, &refused):
		return cli.ExitRefused
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

Commands that report or change something take --json: programs get one object on
standard output, and what is for people goes to standard error.

"bkrp help exit-codes" says how programs see what came of a command, "bkrp help
output" what is printed on a terminal and what elsewhere, and "bkrp help completion"
how a shell completes a command.`,
		Example: `  bkrp wrap --server dc1.example.com -U 'EXAMPLE\alice' -i disk.key -o disk.wrapped
  bkrp unwrap --server dc1.example.com -U 'EXAMPLE\alice' -i disk.wrapped -o disk.key`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cmd.Help()
		},
	}
	out, errs := cli.Streams(stdout, stderr)
	stdout, stderr = out, errs
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
		newDoctorCommand(stdout, stderr),
	)
	cli.Prepare(root, "1")
	return root
}
