package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/seed05845750/bkrp/internal/cli"
)

// newSIDCommand is "bkrp sid".
func newSIDCommand(stdout io.Writer) *cobra.Command {
	var (
		flags  clientFlags
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "sid {--server HOST[:PORT] | --domain DNSNAME} -U DOMAIN\\NAME",
		Short: "print the SID by which the server knows the caller",
		Long: `Sid prints the security identifier by which the server knows the caller: what
"bkrp wrap" writes into a wrapped secret as its owner. It also shows whether a
log-on works.`,
		Example: `  bkrp sid --server dc1.example.com -U 'EXAMPLE\alice'`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := flags.dial(cmd.Context())
			if err != nil {
				return err
			}
			defer c.Close()
			sid, err := c.SID(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return cli.PrintJSON(stdout, map[string]string{"sid": sid.String()})
			}
			_, err = fmt.Fprintln(stdout, sid)
			return err
		},
	}
	flags.register(cmd)
	cli.AddJSONFlag(cmd, &asJSON)
	return cmd
}
