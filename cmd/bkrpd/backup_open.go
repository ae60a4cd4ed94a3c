package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"filippo.io/age"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/seed05845750/bkrp/internal/backup"
	"github.com/seed05845750/bkrp/internal/cli"
	"github.com/seed05845750/bkrp/internal/split"
)

// openOptions say what opens a backup.
type openOptions struct {
	Identities []string
	ShareFiles []string
}

func (o *openOptions) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&o.Identities, "identity", nil, "file of age identities that open the backup; may be given again")
	cmd.Flags().StringArrayVar(&o.ShareFiles, "share-file", nil, "file with a share or more; may be given again (default: shares are asked for)")
}

const openHelp = `What opens the backup is an age identity (--identity), or enough of the shares that
"bkrpd backup --split" made: in files (--share-file), or else typed at a terminal, or
on standard input. A share that is damaged or not of this backup is named.`

// identities are those of the command line.
func (o *openOptions) identities(std stdio) ([]age.Identity, error) {
	if len(o.Identities) > 0 && len(o.ShareFiles) > 0 {
		return nil, cli.Usagef("--identity, --share-file: either of them opens a backup; choose one")
	}
	if len(o.Identities) == 0 {
		return []age.Identity{backup.SharesIdentity(func(v *split.Verifier) ([]byte, error) { return o.combine(std, v) })}, nil
	}
	var all []age.Identity
	for _, path := range o.Identities {
		b, open, err := readFile(path, 1<<20)
		if err != nil {
			return nil, fmt.Errorf("--identity: %w", err)
		}
		ids, err := parseIdentities(b)
		clear(b)
		if err != nil {
			// age's error may quote the identity.
			return nil, fmt.Errorf("--identity: %s is no file of age identities, as age-keygen makes it", path)
		}
		if open {
			cli.Warnf(std.err, "others may read %s; chmod 600 it", path)
		}
		all = append(all, ids...)
	}
	return all, nil
}

// open opens a backup. The caller clears it.
func (o *openOptions) open(std stdio, path string) (*backup.Backup, error) {
	ids, err := o.identities(std)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := backup.Open(f, ids...)
	if errors.Is(err, backup.ErrNoShares) {
		return nil, fmt.Errorf("%s: %w (--identity)", path, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return b, nil
}

// combine brings the secret of a split from wherever its shares are.
func (o *openOptions) combine(std stdio, v *split.Verifier) ([]byte, error) {
	if len(o.ShareFiles) > 0 {
		return o.combineFiles(std, v)
	}
	if f, ok := std.in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return combineTyped(std, f, v)
	}
	text, err := io.ReadAll(io.LimitReader(std.in, split.MaxTextSize+1))
	defer clear(text)
	if err != nil {
		return nil, fmt.Errorf("reading the shares: %w", err)
	}
	return combineTexts(std, v, []string{string(text)}, nil)
}

func (o *openOptions) combineFiles(std stdio, v *split.Verifier) ([]byte, error) {
	texts := make([]string, len(o.ShareFiles))
	for i, path := range o.ShareFiles {
		b, open, err := readFile(path, split.MaxTextSize)
		if err != nil {
			return nil, fmt.Errorf("--share-file: %w", err)
		}
		if open {
			cli.Warnf(std.err, "others may read %s; chmod 600 it", path)
		}
		texts[i] = string(bytes.TrimSpace(b))
		clear(b)
	}
	return combineTexts(std, v, texts, o.ShareFiles)
}

// combineTexts combines the shares in some texts, which are in files if names are
// given. Shares that are not good are named: in the error where too few are left,
// and as warnings otherwise.
func combineTexts(std stdio, v *split.Verifier, texts, names []string) ([]byte, error) {
	shares, bad := split.ParseShares(texts...)
	defer clearShares(shares)
	secret, unfit, err := v.Combine(shares)
	from := origins(texts, names)
	var reasons []error
	for _, e := range append(bad, unfit...) {
		reasons = append(reasons, fmt.Errorf("%s%w", from[e.Position], e))
	}
	if err != nil {
		return nil, notEnough(v, len(shares)-len(unfit), err, reasons)
	}
	for _, reason := range reasons {
		cli.Warnf(std.err, "%v", reason)
	}
	return secret, nil
}

// origins says for the position of each share in which file it is.
func origins(texts, names []string) map[int]string {
	from := make(map[int]string)
	for i, name := range names {
		shares, bad := split.ParseShares(texts[i])
		clearShares(shares)
		for range len(shares) + len(bad) {
			from[len(from)+1] = name + ": "
		}
	}
	return from
}

func clearShares(shares []*split.Share) {
	for _, s := range shares {
		s.Clear()
	}
}

// notEnough says how many shares are missing, and what is wrong with the others.
func notEnough(v *split.Verifier, good int, err error, bad []error) error {
	if !errors.Is(err, split.ErrTooFew) {
		return err
	}
	first := fmt.Errorf("%w: %d, and %d of the %d of split %s are needed", split.ErrTooFew, good, v.K(), v.N(), v.ID())
	return errors.Join(append([]error{first}, bad...)...)
}

// combineTyped asks for shares until there are enough.
func combineTyped(std stdio, tty *os.File, v *split.Verifier) ([]byte, error) {
	fmt.Fprintf(std.err, "%d of the %d shares of split %s open this backup. What is typed is not shown.\n", v.K(), v.N(), v.ID())
	var good []*split.Share
	defer func() { clearShares(good) }()
	for {
		line, err := cli.ReadPassword(std.err, tty, fmt.Sprintf("Share %d of %d: ", len(good)+1, v.K()))
		if err != nil {
			return nil, err
		}
		shares, wrong := split.ParseShares(string(line))
		clear(line)
		for _, e := range wrong {
			fmt.Fprintf(std.err, "%v\n", e.Err)
		}
		secret, unfit, err := v.Combine(append(good, shares...))
		for _, e := range unfit {
			fmt.Fprintf(std.err, "share %d: %v\n", e.Index, e.Err)
		}
		if err == nil {
			return secret, nil
		}
		if !errors.Is(err, split.ErrTooFew) {
			return nil, err
		}
		for _, s := range shares {
			if fits(s, good, unfit) {
				good = append(good, s)
			}
		}
	}
}

// fits says whether a share is good and not one that was typed before.
func fits(s *split.Share, good []*split.Share, unfit []*split.ShareError) bool {
	for _, e := range unfit {
		if e.Index == s.Index() {
			return false
		}
	}
	for _, g := range good {
		if g.Index() == s.Index() {
			return false
		}
	}
	return true
}
