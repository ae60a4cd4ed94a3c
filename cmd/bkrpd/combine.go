package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"github.com/seed05845750/bkrp/internal/backup"
	"github.com/seed05845750/bkrp/internal/cli"
	"github.com/seed05845750/bkrp/internal/split"
)

// newCombineCommand is "bkrpd combine".
func newCombineCommand(std stdio) *cobra.Command {
	var (
		o      openOptions
		out    string
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "combine FILE [--share-file FILE...] [-o FILE]",
		Short: "print the age identity that the shares of a backup make",
		Long: `Combine makes of enough shares the age identity that opens a backup, and prints it
to standard output, or writes it to a new file of mode 0600: with it, the age tool
decrypts the backup where bkrpd cannot be had. Neither drill nor restore needs it.
Whoever has it can open the backup alone; shares are typed or in files as for drill.
The identity is a secret: --json, which tells the recipient, goes with a file for it.`,
		Example: `  bkrpd combine bkrpd.backup -o identity.txt
  bkrpd combine bkrpd.backup --share-file share-1.txt --share-file share-3.txt -o identity.txt`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if toFile := out != "" && out != "-"; asJSON && !toFile {
				return cli.Usagef("--json: the identity goes to standard output; name a file for it by -o")
			}
			return combineIdentity(std, &o, args[0], out, asJSON)
		},
	}
	cmd.Flags().StringArrayVar(&o.ShareFiles, "share-file", nil, "file with a share or more; may be given again (default: shares are asked for)")
	cmd.Flags().StringVarP(&out, "out", "o", "", "the file to make, mode 0600 (default: standard output)")
	cli.AddJSONFlag(cmd, &asJSON)
	return cmd
}

// combinedEntry is what was made of shares, as --json prints it.
type combinedEntry struct {
	File      string `json:"file"` // the backup
	Out       string `json:"out"`
	Split     string `json:"split"`     // names the split that the shares are of
	Recipient string `json:"recipient"` // of the identity
}

// combineIdentity proves that the shares open a backup, and writes what they
// make to out, or prints it where that is "" or "-".
func combineIdentity(std stdio, o *openOptions, path, out string, asJSON bool) error {
	toFile := out != "" && out != "-"
	if toFile { // before anybody types shares
		if _, err := os.Lstat(out); err == nil {
			return fmt.Errorf("combine: %s: %w", out, fs.ErrExist)
		}
	}
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("combine: %w", err)
	}
	defer f.Close()
	var identity string
	made := combinedEntry{File: path, Out: out}
	b, err := backup.Open(f, backup.SharesIdentity(func(v *split.Verifier) ([]byte, error) {
		secret, err := o.combine(std, v)
		if err == nil {
			identity, made.Split = backup.Identity(secret), v.ID()
		}
		return secret, err
	}))
	if err != nil {
		return fmt.Errorf("combine: %s: %w", path, err)
	}
	b.Clear()
	if !toFile {
		_, err = fmt.Fprintln(std.out, identity)
		return err
	}
	text := []byte(identity + "\n")
	defer clear(text)
	if err := copyNew(out, text); err != nil {
		return fmt.Errorf("combine: %w", err)
	}
	if !asJSON {
		return nil
	}
	id, err := age.ParseX25519Identity(identity)
	if err != nil {
		return errors.New("combine: what the shares make is no age identity") // age's error may quote it
	}
	made.Recipient = id.Recipient().String()
	return cli.PrintJSON(std.out, made)
}
