package main

import "github.com/spf13/cobra"

// newKeysCommand is "bkrpd keys".
func newKeysCommand(std stdio) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "manage the keys of the domain",
		Args:  cobra.NoArgs, // or cobra takes a mistyped command for a plea for help
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cmd.Help()
		},
	}
	cmd.AddCommand(newKeysImportCommand(std), newKeysExportCommand(std))
	addLifeCommands(std, cmd)
	return cmd
}
