package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed05845750/bkrp/internal/cli"
)

// rekeyPoll is how often it is tried again to finish a rekey.
const rekeyPoll = time.Second

// rekeyOptions say which step is done; one of them does.
type rekeyOptions struct {
	to                      kekURI
	create                  bool
	finish, abandon, status bool
	wait                    time.Duration
	asJSON                  bool
}

// newRekeyCommand is "bkrpd rekey".
func newRekeyCommand(std stdio) *cobra.Command {
	var (
		o  rekeyOptions
		to string
	)
	cmd := lifeCommand(&cobra.Command{
		Use:   "rekey --to URI | --finish | --abandon | --status --config FILE",
		Short: "replace the key-encryption key of the store",
		Long: `Rekey has another key-encryption key seal the store, while it is in use, in three
steps. Each may be interrupted at any point, and done again:

  1. bkrpd rekey --to URI has both keys open the store, and seals every value
     anew. URI is file:PATH, passphrase-file:PATH or kms:URI, as in seal.kek.
  2. Set seal.kek to URI in the configuration of every server. None needs to be
     started again.
  3. bkrpd rekey --finish has the new key alone open the store. It is refused
     while a server that lives is configured with the old one.

Until the last step bkrpd rekey --abandon gives the change up; seal.kek has to be
the old key again. What is in the store is never unreadable in between. Keep the
old key for as long as there are copies of the store that it opens; what bkrpd
backup writes does not need it.`,
		Example: `  bkrpd rekey --to file:/etc/bkrpd/kek-2027.bin --create --config /var/lib/bkrpd/bkrpd.toml
  bkrpd rekey --finish --config /var/lib/bkrpd/bkrpd.toml`,
		Args: cobra.NoArgs,
	}, func(ctx context.Context, cfg *config, _ []string) error {
		if to != "" {
			if err := o.to.UnmarshalText([]byte(to)); err != nil {
				return cli.Usagef("--to: %w", err)
			}
			if path := o.to.path(); path != nil {
				abs, err := filepath.Abs(*path) // the daemon has another directory
				if err != nil {
					return fmt.Errorf("--to: %w", err)
				}
				*path = abs
			}
		}
		if o.create && (to == "" || o.to.Scheme == kekPassphraseFile) {
			return cli.Usagef("--create: only a key file, or a key in a token, can be made, by --to file:PATH or --to kms:URI")
		}
		s := newSession(std, cfg)
		return errors.Join(runRekey(ctx, s, &o), s.close())
	})
	cmd.Flags().StringVar(&to, "to", "", "begin: the new key, file:PATH, passphrase-file:PATH or kms:URI")
	cmd.Flags().BoolVar(&o.create, "create", false, "make the new key, if it is not there")
	cmd.Flags().BoolVar(&o.finish, "finish", false, "have the key that seal.kek names now alone open the store")
	cmd.Flags().BoolVar(&o.abandon, "abandon", false, "give the change up and keep the old key")
	cmd.Flags().BoolVar(&o.status, "status", false, "print which keys open the store")
	cmd.Flags().DurationVar(&o.wait, "wait", 30*time.Second, "how long --finish and --abandon wait for the servers")
	cli.AddJSONFlag(cmd, &o.asJSON)
	cmd.MarkFlagsOneRequired("to", "finish", "abandon", "status")
	cmd.MarkFlagsMutuallyExclusive("to", "finish", "abandon", "status")
	return cmd
}

func runRekey(ctx context.Context, s *session, o *rekeyOptions) error {
	switch {
	case o.finish:
		return endRekeying(ctx, s, verbRekeyFinish, o)
	case o.abandon:
		return endRekeying(ctx, s, verbRekeyAbandon, o)
	case o.status:
		return printRekey(ctx, s, o.asJSON)
	}
	return beginRekeying(ctx, s, o)
}

// askRekey has one step done.
func askRekey(ctx context.Context, s *session, verb adminVerb, req *lifeRequest) (*kekEntry, error) {
	resp, err := s.ask(ctx, &adminRequest{Verb: verb, Life: req})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", verb, err)
	}
	for i, kek := range resp.Life.KEK.KEKs {
		resp.Life.KEK.KEKs[i] = cli.OneLine(kek) // as the store has it
	}
	return resp.Life.KEK, nil
}

func beginRekeying(ctx context.Context, s *session, o *rekeyOptions) error {
	e, err := askRekey(ctx, s, verbRekeyBegin, &lifeRequest{KEK: o.to.String(), Create: o.create})
	if err != nil {
		return err
	}
	moved, err := moveValues(ctx, s)
	if err != nil {
		return err
	}
	if !o.asJSON {
		fmt.Fprintf(s.std.out, "the store opens by %s (old) and by %s (new)\nvalues sealed anew: %d\n", e.KEKs[0], e.KEKs[len(e.KEKs)-1], moved)
	} else {
		r := e.report(moved)
		r.Set = o.to.String()
		if err := cli.PrintJSON(s.std.out, r); err != nil {
			return err
		}
	}
	fmt.Fprintf(s.std.text(o.asJSON), `next:
  1. set kek = "%s" under [seal] in the configuration of every server
  2. bkrpd rekey --finish
to give it up instead: bkrpd rekey --abandon
`, o.to)
	return nil
}

// moveValues moves all values to the newest data key.
func moveValues(ctx context.Context, s *session) (moved int, err error) {
	var shown atomic.Int64
	defer cli.ShowProgress(s.std.err, func(elapsed time.Duration) string {
		return fmt.Sprintf("sealing values anew: %d, %v", shown.Load(), cli.Elapsed(elapsed))
	})()
	for {
		e, err := askRekey(ctx, s, verbRekeyReseal, nil)
		if err != nil {
			return moved, err
		}
		moved += e.Moved
		shown.Store(int64(moved))
		if !e.Left {
			return moved, nil
		}
	}
}

// endRekeying finishes or abandons a rekey, and tries again for a while where
// servers have to hear of it first.
func endRekeying(ctx context.Context, s *session, verb adminVerb, o *rekeyOptions) error {
	moved, err := moveValues(ctx, s)
	if err != nil {
		return err
	}
	deadline := time.NewTimer(o.wait)
	defer deadline.Stop()
	said := ""
	for {
		e, err := askRekey(ctx, s, verb, nil)
		if err == nil && o.asJSON {
			return cli.PrintJSON(s.std.out, e.report(moved))
		}
		if err == nil {
			fmt.Fprintf(s.std.out, "the store opens by %s alone\n", e.KEKs[0])
			return nil
		}
		var r *refusal
		if !errors.As(err, &r) || !r.again {
			return err
		}
		if r.text != said {
			said = r.text
			fmt.Fprintf(s.std.err, "waiting: %s\n", cli.OneLine(said))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-deadline.C:
			return err
		case <-time.After(rekeyPoll):
		}
	}
}

func printRekey(ctx context.Context, s *session, asJSON bool) error {
	e, err := askRekey(ctx, s, verbRekeyStatus, nil)
	if err != nil {
		return err
	}
	r := e.report(0)
	if asJSON {
		err = cli.PrintJSON(s.std.out, r)
	} else {
		err = r.print(s.std.out)
	}
	if e.Configured < 0 {
		cli.Warnf(s.std.err, "seal.kek of the configuration opens the store no more: the server could not start again")
	}
	return err
}
