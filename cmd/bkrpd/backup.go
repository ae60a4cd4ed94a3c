package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/seed05845750/bkrp/internal/backup"
	"github.com/seed05845750/bkrp/internal/cli"
	"github.com/seed05845750/bkrp/internal/split"
)

// backupOptions say what a backup is encrypted to, and where it goes.
type backupOptions struct {
	exportOptions // Output, To, ToFiles
	Split         string
	SharesDir     string
	SkipDamaged   bool
}

// newBackupCommand is "bkrpd backup".
func newBackupCommand(std stdio) *cobra.Command {
	var (
		file string
		o    backupOptions
	)
	cmd := &cobra.Command{
		Use:   "backup -o FILE { --to RECIPIENT | --to-file FILE | --split K/N } --config FILE",
		Short: "write everything in the store to a file, encrypted",
		Long: `Backup writes everything in the store to a new file of mode 0600: every key with
its state, what is current, rotations, accounts, and the use of keys, as they were
at one moment. A running daemon goes on serving meanwhile. The key-encryption key is
not in it, nor is it needed to restore; private keys in a token are not in it either.

The file is always encrypted: to the age recipients given by --to and --to-file, any
one of whom opens it, or by --split K/N to a fresh key in N shares, any K of which
open it. The shares are printed once, to standard output or into files of mode 0600
in --shares-dir, and are nowhere else: give each to somebody else. Both ways can be
chosen together.

What was wrapped under the keys can be opened by whoever can open the file; each
backup stands in the audit trail. Try it with "bkrpd drill", and each time again.`,
		Example: `  bkrpd backup -o monday.bkrp --to age1... --config /var/lib/bkrpd/bkrpd.toml
  bkrpd backup -o monday.bkrp --split 3/5 --config /var/lib/bkrpd/bkrpd.toml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			plan, err := o.plan()
			if err != nil {
				return err
			}
			defer plan.clear()
			cfg, err := loadConfig(file, nil)
			if err != nil {
				return err
			}
			return runBackup(cmd.Context(), std, cfg, plan)
		},
	}
	addConfigFlag(cmd, &file)
	cmd.Flags().StringVarP(&o.Output, "output", "o", "", "the file to make")
	cmd.Flags().StringArrayVar(&o.To, "to", nil, "age recipient who can open the file; may be given again")
	cmd.Flags().StringArrayVar(&o.ToFiles, "to-file", nil, "file of age recipients, one a line; may be given again")
	cmd.Flags().StringVar(&o.Split, "split", "", "K/N: make N shares, any K of which open the file")
	cmd.Flags().StringVar(&o.SharesDir, "shares-dir", "", "directory for the shares, one file each (default: standard output)")
	cmd.Flags().BoolVar(&o.SkipDamaged, "skip-damaged", false, "write what is whole of a store that is damaged")
	cmd.MarkFlagRequired("output")
	return cmd
}

// backupPlan is what is asked for, and the shares that were made for it.
type backupPlan struct {
	output, sharesDir string
	request           backupRequest
	verifier          *split.Verifier
	shares            []*split.Share
}

func (p *backupPlan) clear() { clearShares(p.shares) }

// plan checks the command line, and makes the shares.
func (o *backupOptions) plan() (*backupPlan, error) {
	switch {
	case o.Output == "":
		return nil, cli.Usagef("--output: it is empty")
	case o.Output == "-":
		return nil, cli.Usagef("--output -: a backup goes to a file, and says so when it is on the disk")
	case o.Split == "" && len(o.To)+len(o.ToFiles) == 0:
		return nil, cli.Usagef("backup: say by --to, --to-file or --split who can open the file; it is never written in the clear")
	case o.Split == "" && o.SharesDir != "":
		return nil, cli.Usagef("--shares-dir: there are no shares without --split")
	}
	p := &backupPlan{output: o.Output, sharesDir: o.SharesDir}
	p.request.SkipDamaged = o.SkipDamaged
	recipients, err := o.recipients()
	if err != nil {
		return nil, err
	}
	for _, r := range recipients {
		text, ok := r.(fmt.Stringer)
		if !ok {
			return nil, fmt.Errorf("--to: a recipient of type %T is not supported", r)
		}
		p.request.To = append(p.request.To, text.String())
	}
	if o.Split == "" {
		return p, nil
	}
	k, n, err := parseSplit(o.Split)
	if err != nil {
		return nil, err
	}
	recipient, shares, v, err := backup.Split(k, n)
	if err != nil {
		return nil, err
	}
	p.verifier, p.shares = v, shares
	p.request.To = append(p.request.To, recipient)
	p.request.Verifier = v.AppendBinary(nil)
	return p, nil
}

// parseSplit reads K/N.
func parseSplit(text string) (k, n int, err error) {
	left, right, ok := strings.Cut(text, "/")
	k, errK := strconv.Atoi(left)
	n, errN := strconv.Atoi(right)
	if !ok || errK != nil || errN != nil || k < split.MinShares || n < k || n > split.MaxShares {
		return 0, 0, cli.Usagef("--split %s: it is K/N, as in 3/5, with %d <= K <= N <= %d", text, split.MinShares, split.MaxShares)
	}
	return k, n, nil
}

// runBackup has the backup made, writes it, and shows the shares.
func runBackup(ctx context.Context, std stdio, cfg *config, p *backupPlan) error {
	if _, err := os.Lstat(p.output); err == nil {
		return fmt.Errorf("%s: %w", p.output, fs.ErrExist)
	}
	resp, err := ask(ctx, std, cfg, &adminRequest{Verb: verbBackup, Backup: &p.request})
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	if resp.Backup == nil || len(resp.Backup.Sealed) == 0 {
		return errors.New("backup: the daemon sent none: is it an older version?")
	}
	report := std.out
	show := func() error { return nil }
	var made []string
	if p.verifier != nil && p.sharesDir == "" {
		report = std.err // nothing but shares goes where they go
		show = func() error { return printShares(std.out, p) }
	} else if p.verifier != nil {
		show = func() error {
			made, err = writeShares(p)
			return err
		}
	}
	if err := writeBackup(p.output, resp.Backup.Sealed, show); err != nil {
		return fmt.Errorf("backup: %w", errors.Join(err, removeAll(made))) // shares of nothing
	}
	m := &resp.Backup.Manifest
	for _, name := range m.Damaged {
		cli.Warnf(std.err, "%s is damaged in the store, and is not in the backup", backup.Shown(name))
	}
	for _, problem := range resp.Backup.Problems {
		cli.Warnf(std.err, "%s", backup.Shown(problem))
	}
	for _, k := range m.Keys {
		if k.InToken {
			cli.Warnf(std.err, "the private half of key %v is in a token, and not in the backup", k.GUID)
		}
	}
	fmt.Fprintf(report, "backed up %s to %s: %s\n", m.Domain.DNSName, p.output, countEntries(len(m.Keys), m.Accounts, m.Entries))
	if len(made) > 0 {
		fmt.Fprintf(report, "%d shares are in %s, any %d of which open it\n", len(made), p.sharesDir, p.verifier.K())
	}
	hint := ""
	if p.verifier == nil {
		hint = " --identity FILE"
	}
	fmt.Fprintf(report, "try it: bkrpd drill %s%s\n", p.output, hint)
	return nil
}

// shareText is a share as it is given to somebody.
func shareText(p *backupPlan, s *split.Share) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Share %d of %d of split %s. Any %d of them open the backup %s.\n", s.Index(), s.N(), s.SplitID(), s.K(), p.output)
	b.WriteString(s.Text() + "\n")
	return b.Bytes()
}
