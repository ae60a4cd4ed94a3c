package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/seed05845750/bkrp/internal/cli"
	"github.com/seed05845750/bkrp/keystore"
)

func newKeysRetireCommand(std stdio) *cobra.Command {
	return newStateCommand(std, keystore.KeyRetired, &cobra.Command{
		Use:   "retire GUID --config FILE",
		Short: "have a key unwrap only, with an alarm at each use",
		Long: `Retire is for a key that nobody should need any more. It goes on unwrapping, so
that nothing is lost; but whenever it does, the server logs "alarm: a retired key
was used" with the caller's SID (for each key once a minute at most), and the
audit trail says state=retired. The current key is refused: rotate first.

To undo it: bkrpd keys activate.`,
		Example: "  bkrpd keys retire 3c9d5a5e-8a1c-4f5b-9c58-0f8a3a1c7d11 --config /var/lib/bkrpd/bkrpd.toml",
	})
}

func newKeysLockCommand(std stdio) *cobra.Command {
	return newStateCommand(std, keystore.KeyLocked, &cobra.Command{
		Use:   "lock GUID --config FILE",
		Short: "keep a key and refuse its use",
		Long: `Lock has every server answer as if the key were not there. It stays in the store,
and nothing but bkrpd keys activate is needed to have it back; what was wrapped
under it cannot be unwrapped in the meantime. The current key is refused: rotate
first.`,
		Example: "  bkrpd keys lock 3c9d5a5e-8a1c-4f5b-9c58-0f8a3a1c7d11 --config /var/lib/bkrpd/bkrpd.toml",
	})
}

func newKeysActivateCommand(std stdio) *cobra.Command {
	return newStateCommand(std, keystore.KeyActive, &cobra.Command{
		Use:     "activate GUID --config FILE",
		Short:   "undo retire and lock",
		Long:    "Activate has a key that was retired or locked unwrap again, without an alarm.\nIt does not become the current one.",
		Example: "  bkrpd keys activate 3c9d5a5e-8a1c-4f5b-9c58-0f8a3a1c7d11 --config /var/lib/bkrpd/bkrpd.toml",
	})
}

// newStateCommand completes a command that gives a key a state.
func newStateCommand(std stdio, state keystore.KeyState, cmd *cobra.Command) *cobra.Command {
	cmd.Args = cobra.ExactArgs(1)
	asJSON := false
	lifeCommand(cmd, func(ctx context.Context, cfg *config, args []string) error {
		guid, err := parseGUID(args[0])
		if err != nil {
			return err
		}
		resp, err := ask(ctx, std, cfg, &adminRequest{Verb: verbKeysState, Life: &lifeRequest{GUID: guid, State: state}})
		if err != nil {
			return fmt.Errorf("keys %s: %w", cmd.Name(), err)
		}
		k := &resp.Life.Keys[0]
		if !asJSON {
			fmt.Fprintf(std.out, "%v is %v\n", guid, k.State)
		} else if err := cli.PrintJSON(std.out, k); err != nil {
			return err
		}
		if state != keystore.KeyActive && k.Unwraps > 0 {
			fmt.Fprintf(std.err, "it has unwrapped %s a day; it was used last at %s UTC, by %s in all\n",
				rateText(k.PerDay), timeText(k.LastUsed, minutes, ""), k.callersPhrase())
		}
		k.warn(std.err)
		resp.Life.warn(std.err)
		return nil
	})
	cli.AddJSONFlag(cmd, &asJSON)
	return cmd
}
