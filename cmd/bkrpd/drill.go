package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed05845750/bkrp/bkrpserver"
	"github.com/seed05845750/bkrp/internal/backup"
	"github.com/seed05845750/bkrp/internal/cli"
	"github.com/seed05845750/bkrp/keystore"
)

// newDrillCommand is "bkrpd drill".
func newDrillCommand(std stdio) *cobra.Command {
	var (
		o      openOptions
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "drill FILE { --identity FILE | --share-file FILE... }",
		Short: "prove that a backup can be restored and that its keys open secrets",
		Long: `Drill restores a backup into memory and proves it: a secret is wrapped under every
key and opened again, for its owner and for nobody else, as a call would; states,
pointers to current keys, rotations and accounts are read. Nothing is written to the
disk, and no store is touched. A key whose private half is in a token needs its token,
and is reported as such. The exit code is 0 if everything else works.

` + openHelp,
		Example: `  bkrpd drill monday.bkrp --identity me.key
  bkrpd drill monday.bkrp --share-file one.txt --share-file two.txt --share-file three.txt`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := o.open(std, args[0])
			if err != nil {
				return fmt.Errorf("drill: %w", err)
			}
			defer b.Clear()
			var tried atomic.Int64
			stop := showTrying(std, &tried, len(b.Manifest.Keys))
			r, err := drill(cmd.Context(), b, &tried)
			stop()
			if err != nil {
				return fmt.Errorf("drill: %w", err)
			}
			r.File = args[0]
			if asJSON {
				err = cli.PrintJSON(std.out, r)
			} else {
				err = r.print(std.out)
			}
			if err == nil && !r.OK {
				err = errors.New("drill: the backup is not whole; take another one of the store, and keep the one before")
			}
			return err
		},
	}
	o.addFlags(cmd)
	cli.AddJSONFlag(cmd, &asJSON)
	return cmd
}

// drillReport is what came of a drill.
type drillReport struct {
	File string `json:"file"`
	OK   bool   `json:"ok"`
	backup.Manifest
	Keys []drilledKey `json:"keys"`
	// Problems is what is wrong besides keys that do not open anything.
	Problems []string `json:"problems"`
}

// drilledKey is a key with what came of its canary.
type drilledKey struct {
	backup.Key
	// Result is resultOpens, resultToken, or what is wrong.
	Result string `json:"result"`
	OK     bool   `json:"ok"`
}

const (
	resultOpens = "opens"
	resultToken = "needs its token"
)

// showTrying shows how many of the keys have been tried.
func showTrying(std stdio, tried *atomic.Int64, keys int) (stop func()) {
	return cli.ShowProgress(std.err, func(elapsed time.Duration) string {
		return fmt.Sprintf("trying the keys: %d of %d, %v", tried.Load(), keys, cli.Elapsed(elapsed))
	})
}

// drill restores a backup into memory and tries everything, counting the keys.
func drill(ctx context.Context, b *backup.Backup, tried *atomic.Int64) (*drillReport, error) {
	backend, sealer := keystore.NewMemory(), keystore.NewThrowAwaySealer()
	defer backend.Close()
	if err := keystore.Restore(ctx, backend, sealer, b.Dump); err != nil {
		return nil, fmt.Errorf("restoring into memory: %w", err)
	}
	store, err := keystore.Open(ctx, backend, sealer, keystore.Options{})
	if err != nil {
		return nil, fmt.Errorf("opening what was restored: %w", err)
	}
	defer store.Close()
	r := &drillReport{OK: true, Manifest: b.Manifest, Keys: []drilledKey{}, Problems: []string{}}
	for _, problem := range b.Dump.Check() {
		r.Problems = append(r.Problems, problem.Error())
	}
	if accounts, err := store.Accounts(ctx); err != nil || len(accounts) != b.Manifest.Accounts {
		r.Problems = append(r.Problems, fmt.Sprintf("%d of %d accounts can log on", len(accounts), b.Manifest.Accounts))
	}
	for _, k := range b.Manifest.Keys {
		if k.State == keystore.KeyLocked && k.Kind != backup.KindDamaged {
			// In this store, which is thrown away; the report says what it was.
			if err := store.SetKeyState(ctx, k.GUID, keystore.KeyActive); err != nil {
				return nil, err
			}
		}
		r.Keys = append(r.Keys, tryKey(ctx, store, k))
		tried.Add(1)
	}
	r.OK = len(r.Problems) == 0
	for _, k := range r.Keys {
		r.OK = r.OK && k.OK
	}
	return r, nil
}

// tryKey wraps a secret under a key and opens it.
func tryKey(ctx context.Context, store *keystore.Store, k backup.Key) drilledKey {
	result := drilledKey{Key: k, Result: resultOpens, OK: true}
	var kind keystore.KeyKind
	if err := kind.UnmarshalText([]byte(k.Kind)); err != nil {
		result.Result, result.OK = "is damaged", false
		return result
	}
	service := &bkrpserver.Service{Store: store, Logger: slog.New(slog.DiscardHandler)}
	err := service.CheckKey(ctx, kind, k.GUID)
	switch {
	case err == nil:
	case k.InToken && errors.Is(err, keystore.ErrNoToken):
		result.Result = resultToken
	default:
		result.Result, result.OK = err.Error(), false
	}
	return result
}

// style is how the result looks.
func (k *drilledKey) style() cli.Style {
	switch {
	case !k.OK:
		return cli.Red
	case k.Result == resultToken:
		return cli.Yellow
	}
	return cli.Green
}

// print writes the report as a table.
func (r *drillReport) print(w io.Writer) error {
	m := &r.Manifest
	fmt.Fprintf(w, "%s store %v of %s (%v), taken %s by %s\n\n", cli.Paint(w, cli.Bold, r.File+":"), m.Store, m.Domain.DNSName, m.Domain.SID,
		m.Taken.Format("2006-01-02 15:04:05 MST"), m.Program)
	t := cli.NewTable("KEY", "KIND", "STATE", "CURRENT", "RESULT")
	for _, k := range r.Keys {
		current := ""
		if k.Current {
			current = "yes"
		}
		t.Row(k.GUID, k.Kind, k.State, current, k.style().Cell(k.Result))
	}
	if err := t.Print(w); err != nil {
		return err
	}
	for _, problem := range r.Problems {
		fmt.Fprintf(w, "%s %s\n", cli.Paint(w, cli.Red, "wrong:"), backup.Shown(problem))
	}
	opened, tokens := 0, 0
	for _, k := range r.Keys {
		switch k.Result {
		case resultOpens:
			opened++
		case resultToken:
			tokens++
		}
	}
	_, err := fmt.Fprintf(w, "\n%d of %s open what is wrapped under them, %d need their token; %s, %s, %s wrong\n",
		opened, count(len(r.Keys), "key", "keys"), tokens, count(m.Accounts, "account", "accounts"), count(m.Entries, "entry", "entries"),
		count(len(r.Problems)+len(r.Keys)-opened-tokens, "thing", "things"))
	return err
}
