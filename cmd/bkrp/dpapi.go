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
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newRecoverCommand(stdin, stdout, stderr))
	return cmd
}
