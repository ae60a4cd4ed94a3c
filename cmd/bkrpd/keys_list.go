package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/cli"
	"github.com/seed05845750/bkrp/keystore"
)

// addLifeCommands adds the commands about the life of keys.
func addLifeCommands(std stdio, cmd *cobra.Command) {
	cmd.AddCommand(
		newKeysListCommand(std), newKeysShowCommand(std), newKeysWhoCommand(std), newKeysReplicasCommand(std),
		newKeysRotateCommand(std), newKeysRollbackCommand(std),
		newKeysRetireCommand(std), newKeysLockCommand(std), newKeysActivateCommand(std),
	)
}

// lifeCommand completes a command that asks the store about one key, or about
// all.
func lifeCommand(cmd *cobra.Command, run func(ctx context.Context, cfg *config, args []string) error) *cobra.Command {
	var file string
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		cfg, err := loadConfig(file, nil)
		if err != nil {
			return err
		}
		return run(cmd.Context(), cfg, args)
	}
	addConfigFlag(cmd, &file)
	return cmd
}

// askLife has one request about the life of keys done.
func askLife(ctx context.Context, std stdio, cfg *config, verb adminVerb, req *lifeRequest) (*lifeResponse, error) {
	resp, err := ask(ctx, std, cfg, &adminRequest{Verb: verb, Life: req})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", verb, err)
	}
	resp.Life.warn(std.err)
	return resp.Life, nil
}

// warn tells that the numbers of use are not the latest.
func (r *lifeResponse) warn(w io.Writer) {
	if r != nil && r.Behind != "" {
		cli.Warnf(w, "the numbers are from before: %s", r.Behind)
	}
}

// parseGUID reads the GUID of a command line.
func parseGUID(text string) (dtyp.GUID, error) {
	guid, err := dtyp.ParseGUID(text)
	if err != nil {
		return guid, cli.Usagef("%s: it must be the GUID of a key, as keys list prints it", text)
	}
	return guid, nil
}

func newKeysListCommand(std stdio) *cobra.Command {
	asJSON := false
	cmd := lifeCommand(&cobra.Command{
		Use:   "list --config FILE",
		Short: "print the keys, and how much each is used",
		Long: `List prints a line for each key: its kind, its state, whether it is the current
one of its kind, when it was made, when it was used last, how many secrets were
unwrapped with it a day (in the last 30 days), and how many callers used it.

Every server writes its counts down every ten seconds; what it has not written
down yet is not in the numbers of the others. Times are in UTC.`,
		Example: `  bkrpd keys list --config /var/lib/bkrpd/bkrpd.toml
  bkrpd keys list --config /var/lib/bkrpd/bkrpd.toml | awk -F '\t' '$3 == "retired" { print $1 }'`,
		Args: cobra.NoArgs,
	}, func(ctx context.Context, cfg *config, _ []string) error {
		resp, err := askLife(ctx, std, cfg, verbKeysList, nil)
		if err != nil {
			return err
		}
		if asJSON {
			return cli.PrintJSON(std.out, map[string]any{"keys": append([]keyEntry{}, resp.Keys...)})
		}
		return printKeys(std, resp.Keys)
	})
	cli.AddJSONFlag(cmd, &asJSON)
	return cmd
}

func printKeys(std stdio, keys []keyEntry) error {
	if len(keys) == 0 {
		fmt.Fprintln(std.err, "the store has no keys yet; the first call that needs one makes it")
		return nil
	}
	t := cli.NewTable("GUID", "KIND", "STATE", "CURRENT", "CREATED", "LAST USED", "UNWRAPS/DAY", "CALLERS")
	for _, k := range keys {
		current := "-"
		if k.Current {
			current = "yes"
		}
		t.StyledRow(k.style(), k.GUID, orWord(k.Kind, "damaged"), k.State, current,
			timeText(k.Created, time.DateOnly, "unknown"), timeText(k.LastUsed, minutes, "never"), rateText(k.PerDay), k.callersText())
	}
	if err := t.Print(std.out); err != nil {
		return err
	}
	for _, k := range keys {
		k.warn(std.err)
	}
	return nil
}

// style is how the key looks in a table: the current one stands out, and what is not
// to be used any more stands back.
func (k *keyEntry) style() cli.Style {
	switch {
	case k.Kind == "":
		return cli.Red
	case k.State == keystore.KeyLocked:
		return cli.Yellow
	case k.State == keystore.KeyRetired:
		return cli.Dim
	case k.Current:
		return cli.Bold
	}
	return cli.Plain
}

const minutes = "2006-01-02 15:04"

func orWord(s, word string) string {
	if s == "" {
		return word
	}
	return s
}

// timeText is a time in UTC, or word for the zero one.
func timeText(t time.Time, layout, word string) string {
	if t.IsZero() {
		return word
	}
	return t.UTC().Format(layout)
}

// rateText never says 0 where there was something.
func rateText(r float64) string {
	switch {
	case r == 0:
		return "0"
	case r < 0.1:
		return "<0.1"
	case r < 10:
		return fmt.Sprintf("%.1f", r)
	}
	return fmt.Sprintf("%.0f", r)
}

func (k *keyEntry) callersText() string {
	if k.More {
		return fmt.Sprintf("%d or more", k.Callers)
	}
	return fmt.Sprint(k.Callers)
}

// callersPhrase is callersText within a sentence.
func (k *keyEntry) callersPhrase() string {
	if k.More {
		return k.callersText() + " callers"
	}
	return count(k.Callers, "caller", "callers")
}

// warn tells what is damaged.
func (k *keyEntry) warn(w io.Writer) {
	if k.Error != "" {
		cli.Warnf(w, "key %v: %s", k.GUID, k.Error)
	}
	for _, name := range k.Damaged {
		cli.Warnf(w, "%s is damaged: key %v was used more often than is said here", name, k.GUID)
	}
	if k.Lost {
		cli.Warnf(w, "a record of the use of key %v was lost: it was used more often than is said here", k.GUID)
	}
}

func newKeysShowCommand(std stdio) *cobra.Command {
	asJSON := false
	cmd := lifeCommand(&cobra.Command{
		Use:   "show GUID --config FILE",
		Short: "print all that is known about a key",
		Long: `Show prints what keys list says of a key, and besides how often it was used in
all, and how many secrets were unwrapped with it on each of the last 90 days.
The key itself is not printed; see keys export.`,
		Example: "  bkrpd keys show 3c9d5a5e-8a1c-4f5b-9c58-0f8a3a1c7d11 --config /var/lib/bkrpd/bkrpd.toml",
		Args:    cobra.ExactArgs(1),
	}, func(ctx context.Context, cfg *config, args []string) error {
		guid, err := parseGUID(args[0])
		if err != nil {
			return err
		}
		resp, err := askLife(ctx, std, cfg, verbKeysShow, &lifeRequest{GUID: guid})
		if err != nil {
			return err
		}
		if asJSON {
			return cli.PrintJSON(std.out, &resp.Keys[0])
		}
		return printKey(std, &resp.Keys[0])
	})
	cli.AddJSONFlag(cmd, &asJSON)
	return cmd
}

func printKey(std stdio, k *keyEntry) error {
	t := cli.NewTable()
	line := func(name, format string, args ...any) { t.Row(name, fmt.Sprintf(format, args...)) }
	t.StyledRow(cli.Bold, "key", k.GUID)
	t.Row("kind", orWord(k.Kind, "damaged"))
	t.Row("state", k.style().Cell(k.State))
	if !k.Since.IsZero() {
		line("since", "%s", timeText(k.Since, minutes, ""))
	}
	line("current", "%v", k.Current)
	line("created", "%s", timeText(k.Created, minutes, "unknown"))
	if k.Certificate != "" {
		line("certificate", "sha256 %s", k.Certificate)
	}
	line("counted since", "%s", timeText(k.CountedSince, minutes, "never used"))
	line("last used", "%s", timeText(k.LastUsed, minutes, "never"))
	line("wraps", "%d", k.Wraps)
	line("retrieves", "%d", k.Retrieves)
	line("unwraps", "%d", k.Unwraps)
	line("unwraps per day", "%s", rateText(k.PerDay))
	for _, d := range k.Days {
		line("on "+d.Day, "%d", d.Unwraps)
	}
	line("callers", "%s", k.callersText())
	if err := t.Print(std.out); err != nil {
		return err
	}
	k.warn(std.err)
	return nil
}
