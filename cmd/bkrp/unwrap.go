package main

import (
	"io"

	"github.com/spf13/cobra"
)

// newUnwrapCommand is "bkrp unwrap".
func newUnwrapCommand(stdin io.Reader, stdout io.Writer) *cobra.Command {
	var (
		flags    clientFlags
		in, outF string
	)
	cmd := &cobra.Command{
		Use:   "unwrap --server HOST[:PORT] -U DOMAIN\\NAME [-i FILE] [-o FILE]",
		Short: "have a wrapped secret opened for its owner",
		Long: `Unwrap reads a wrapped secret of either kind and writes the secret. The server
opens it only for the user it belongs to.`,
		Example: `  bkrp unwrap --server dc1.example.com -U 'EXAMPLE\alice' -i disk.wrapped | cryptsetup open --key-file - /dev/sdb1 data`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			blob, err := readInput(in, stdin)
			if err != nil {
				return err
			}
			c, err := flags.dial(cmd.Context())
			if err != nil {
				return err
			}
			defer c.Close()
			secret, err := c.Unwrap(cmd.Context(), blob)
			if err != nil {
				return err
			}
			defer clear(secret)
			return writeOutput(outF, stdout, secret)
		},
	}
	flags.register(cmd)
	cmd.Flags().StringVarP(&in, "in", "i", "", "the file that holds the wrapped secret (default: standard input)")
	cmd.Flags().StringVarP(&outF, "out", "o", "", "the file to write the secret to, mode 0600 (default: standard output)")
	return cmd
}
