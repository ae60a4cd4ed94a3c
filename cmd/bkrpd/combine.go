package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/seed05845750/bkrp/internal/backup"
	"github.com/seed05845750/bkrp/internal/split"
)

// newCombineCommand is "bkrpd combine".
func newCombineCommand(std stdio) *cobra.Command {
	var o openOptions
	cmd := &cobra.Command{
		Use:   "combine FILE [--share-file FILE...]",
		Short: "print the age identity that the shares of a backup make",
		Long: `Combine makes of enough shares the age identity that opens a backup, and prints it
to standard output: with it, the age tool decrypts the file where bkrpd cannot be had.
Neither drill nor restore needs it. Whoever has it can open the backup alone; shares
are typed or in files as for drill.`,
		Example: `  bkrpd combine bkrpd.backup >identity.txt
  bkrpd combine bkrpd.backup --share-file share-1.txt --share-file share-3.txt >identity.txt`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return combineIdentity(std, &o, args[0])
		},
	}
	cmd.Flags().StringArrayVar(&o.ShareFiles, "share-file", nil, "file with a share or more; may be given again (default: shares are asked for)")
	return cmd
}

// combineIdentity proves that the shares open a backup, and prints what they
// make.
func combineIdentity(std stdio, o *openOptions, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("combine: %w", err)
	}
	defer f.Close()
	var identity string
	b, err := backup.Open(f, backup.SharesIdentity(func(v *split.Verifier) ([]byte, error) {
		secret, err := o.combine(std, v)
		if err == nil {
			identity = backup.Identity(secret)
		}
		return secret, err
	}))
	if err != nil {
		return fmt.Errorf("combine: %s: %w", path, err)
	}
	b.Clear()
	_, err = fmt.Fprintln(std.out, identity)
	return err
}
