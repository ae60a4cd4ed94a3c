package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/cli"
	"github.com/seed05845750/bkrp/keystore"
)

// rotatePoll is how often it is looked for which servers have the new key.
const rotatePoll = 500 * time.Millisecond

// Phases of a rotation, for --phase.
const (
	phaseCreate = "create"
	phasePrefer = "prefer"
)

// parseKind reads the kind of key of a command line.
func parseKind(text string) (keystore.KeyKind, error) {
	switch text {
	case "client":
		return keystore.ClientWrap, nil
	case "server":
		return keystore.ServerWrap, nil
	}
	return 0, cli.Usagef("%s: it must be client (the RSA key that clients wrap under) or server (the key that the server wraps under)", text)
}

func newKeysRotateCommand(std stdio) *cobra.Command {
	var (
		phase  string
		wait   time.Duration
		asJSON bool
	)
	cmd := lifeCommand(&cobra.Command{
		Use:   "rotate client|server --config FILE",
		Short: "make a new key and have it used from now on",
		Long: `Rotate replaces the current key of a kind, in two phases. First it creates the new
key and waits until every server that lives has it, so that none will be asked to
unwrap with a key that it does not know. Then it makes the new key the preferred
one: from then on secrets are wrapped under it, and clients that fetch the key get
it. The old key stays and goes on unwrapping.

A server that does not get the key in time is named, and nothing changes for the
clients; run the command again to go on waiting. Until the next rotation,
bkrpd keys rollback goes back to the old key.`,
		Example: `  bkrpd keys rotate client --config /var/lib/bkrpd/bkrpd.toml
  bkrpd keys rotate client --phase create --config /var/lib/bkrpd/bkrpd.toml
  bkrpd keys rotate client --phase prefer --config /var/lib/bkrpd/bkrpd.toml`,
		Args: cobra.ExactArgs(1),
	}, func(ctx context.Context, cfg *config, args []string) error {
		kind, err := parseKind(args[0])
		if err != nil {
			return err
		}
		if phase != "" && phase != phaseCreate && phase != phasePrefer {
			return cli.Usagef("--phase %s: it must be create or prefer", phase)
		}
		s := newSession(std, cfg)
		r := rotation{session: s, kind: kind, name: args[0], wait: wait, asJSON: asJSON}
		return errors.Join(r.run(ctx, phase), s.close())
	})
	cmd.Flags().StringVar(&phase, "phase", "", "do one phase only: create or prefer")
	cmd.Flags().DurationVar(&wait, "wait", 2*time.Minute, "how long to wait for the servers")
	cli.AddJSONFlag(cmd, &asJSON)
	return cmd
}

// rotation is a rotation that a command does.
type rotation struct {
	session *session
	kind    keystore.KeyKind
	name    string // of kind, on the command line
	wait    time.Duration
	asJSON  bool
}

// rotatedEntry is what came of a rotation or of its end, as --json prints it.
type rotatedEntry struct {
	*rotationEntry
	// Current is the key that secrets are wrapped under now.
	Current dtyp.GUID `json:"current,omitzero"`
}

func (r *rotation) ask(ctx context.Context, verb adminVerb, resume bool) (*rotationEntry, error) {
	resp, err := r.session.ask(ctx, &adminRequest{Verb: verb, Life: &lifeRequest{Kind: &r.kind, Resume: resume}})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", verb, err)
	}
	return resp.Life.Rotation, nil
}

func (r *rotation) run(ctx context.Context, phase string) error {
	std, resumed := r.session.std, false
	if phase != phasePrefer {
		e, err := r.ask(ctx, verbKeysCreate, phase == "")
		if err != nil {
			return err
		}
		what := "created"
		if e.Resumed {
			what, resumed = "going on with", true
		}
		fmt.Fprintf(std.text(r.asJSON), "%s %v key %v\n", what, e.Kind, e.Next)
		if err := r.await(ctx, e); err != nil {
			return err
		}
		if phase == phaseCreate {
			if r.asJSON {
				return cli.PrintJSON(std.out, rotatedEntry{e, e.Previous})
			}
			fmt.Fprintf(std.out, "every live server has it; key %v is still current\nnext: bkrpd keys rotate %s --phase prefer\n", e.Previous, r.name)
			return nil
		}
	}
	e, err := r.ask(ctx, verbKeysPrefer, false)
	if err != nil {
		return err
	}
	if e.Resumed = resumed; r.asJSON {
		return cli.PrintJSON(std.out, rotatedEntry{e, e.Next})
	}
	fmt.Fprintf(std.out, "%v key %v is now current\n", e.Kind, e.Next)
	if !e.Previous.IsZero() {
		fmt.Fprintf(std.out, "key %v was before, and goes on unwrapping\n", e.Previous)
	}
	return nil
}

// await waits until every live server serves the new key.
func (r *rotation) await(ctx context.Context, e *rotationEntry) error {
	ticker := time.NewTicker(rotatePoll)
	defer ticker.Stop()
	deadline := time.NewTimer(r.wait)
	defer deadline.Stop()
	var said []string
	for {
		now, err := r.ask(ctx, verbKeysRotation, false)
		if err != nil {
			return err
		}
		if now.Next != e.Next || now.Phase != keystore.RotationCreated {
			return fmt.Errorf("keys rotate: somebody else has ended this rotation or begun another: it is %s, to key %v", now.Phase, now.Next)
		}
		if len(now.Lacking) == 0 {
			return nil
		}
		if !slices.Equal(said, now.Lacking) {
			said = now.Lacking
			fmt.Fprintf(r.session.std.err, "waiting for %s\n", cli.OneLine(strings.Join(said, ", ")))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-deadline.C:
			return fmt.Errorf("keys rotate: %s did not get key %v within %v; it is created and not current: see to these servers and run the command again, or give it up by bkrpd keys rollback %s",
				strings.Join(said, ", "), e.Next, r.wait, r.name)
		case <-ticker.C:
		}
	}
}

func newKeysRollbackCommand(std stdio) *cobra.Command {
	asJSON := false
	cmd := lifeCommand(&cobra.Command{
		Use:   "rollback client|server --config FILE",
		Short: "go back to the key from before the last rotation",
		Long: `Rollback makes the key from before the last rotation the current one again, at
once, whatever phase the rotation is in. The new key stays, and unwraps what was
wrapped under it in the meantime.`,
		Example: "  bkrpd keys rollback client --config /var/lib/bkrpd/bkrpd.toml",
		Args:    cobra.ExactArgs(1),
	}, func(ctx context.Context, cfg *config, args []string) error {
		kind, err := parseKind(args[0])
		if err != nil {
			return err
		}
		resp, err := askLife(ctx, std, cfg, verbKeysRollback, &lifeRequest{Kind: &kind})
		if err != nil {
			return err
		}
		e := resp.Rotation
		if asJSON {
			return cli.PrintJSON(std.out, rotatedEntry{e, e.Previous})
		}
		fmt.Fprintf(std.out, "%v key %v is current again\nkey %v stays, and unwraps what was wrapped under it\n", e.Kind, e.Previous, e.Next)
		return nil
	})
	cli.AddJSONFlag(cmd, &asJSON)
	return cmd
}
