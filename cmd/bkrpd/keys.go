package main

import "github.com/spf13/cobra"

// newKeysCommand is "bkrpd keys".
func newKeysCommand(std stdio) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "manage the keys of the domain",
		Long: `Keys shows and changes the keys by which secrets are wrapped: lists them and their
use, puts new ones in their place, takes old ones out of use, and brings keys from
and to other servers. It works on a running daemon and on a store that no daemon
has open.`,
		Example: `  bkrpd keys list --config /var/lib/bkrpd/bkrpd.toml`,
		Args:    cobra.NoArgs, // or cobra takes a mistyped command for a plea for help
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cmd.Help()
		},
	}
	cmd.AddCommand(newKeysImportCommand(std), newKeysExportCommand(std))
	addLifeCommands(std, cmd)
	return cmd
}
