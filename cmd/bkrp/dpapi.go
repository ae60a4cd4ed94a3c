package main

import (
	"io"

	"github.com/spf13/cobra"
)

// newDPAPICommand is "bkrp dpapi".
func newDPAPICommand(stdin io.Reader, stdout, stderr io.Writer) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dpapi",
		Short: "recover the master keys of Windows users",
		Long: `Dpapi is about the master keys under which Windows keeps a user's secrets: each is
in a file, wrapped for the user's domain, so that it can be had without the user's
password.`,
		Example: `  bkrp dpapi recover --server dc1.example.com -U 'EXAMPLE\alice' MASTERKEYFILE`,
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newRecoverCommand(stdin, stdout, stderr))
	return cmd
}
