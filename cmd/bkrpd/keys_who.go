package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/seed05845750/bkrp/internal/cli"
)

func newKeysWhoCommand(std stdio) *cobra.Command {
	asJSON := false
	cmd := lifeCommand(&cobra.Command{
		Use:   "who GUID --config FILE",
		Short: "print who used a key, and when last",
		Long: `Who prints the SID of everybody who had a secret wrapped or unwrapped with a key,
or fetched it, with the day (UTC) of the last time, and the name if it is an
account of the store. Whoever unwrapped lately may need the key again.`,
		Example: "  bkrpd keys who 3c9d5a5e-8a1c-4f5b-9c58-0f8a3a1c7d11 --config /var/lib/bkrpd/bkrpd.toml",
		Args:    cobra.ExactArgs(1),
	}, func(ctx context.Context, cfg *config, args []string) error {
		guid, err := parseGUID(args[0])
		if err != nil {
			return err
		}
		resp, err := askLife(ctx, std, cfg, verbKeysWho, &lifeRequest{GUID: guid})
		if err != nil {
			return err
		}
		if asJSON {
			return cli.PrintJSON(std.out, resp.Callers)
		}
		return printCallers(std, resp.Callers)
	})
	cli.AddJSONFlag(cmd, &asJSON)
	return cmd
}

func printCallers(std stdio, c *callersEntry) error {
	t := cli.NewTable("SID", "LAST USED", "ACCOUNT")
	for _, k := range c.List {
		t.Row(k.SID, k.LastDay, orWord(k.Account, "-"))
	}
	if err := t.Print(std.out); err != nil {
		return err
	}
	for _, name := range c.Damaged {
		cli.Warnf(std.err, "%s is damaged: there are callers who are not listed", name)
	}
	if c.Lost {
		cli.Warnf(std.err, "a record of callers was lost: there may be some who are not listed")
	}
	if c.More {
		cli.Warnf(std.err, "there were more callers than are remembered")
	}
	return nil
}

func newKeysReplicasCommand(std stdio) *cobra.Command {
	asJSON := false
	cmd := lifeCommand(&cobra.Command{
		Use:   "replicas --config FILE",
		Short: "print the servers that share the store",
		Long: `Replicas prints the servers that have the store in etcd open, since when, and
whether they have been heard of lately; and of the keys of rotations under way,
those that each serves. A store in a file has one server, which does not report.`,
		Example: "  bkrpd keys replicas --config /var/lib/bkrpd/bkrpd.toml",
		Args:    cobra.NoArgs,
	}, func(ctx context.Context, cfg *config, _ []string) error {
		resp, err := askLife(ctx, std, cfg, verbKeysReplicas, nil)
		if err != nil {
			return err
		}
		if asJSON {
			return cli.PrintJSON(std.out, map[string]any{"replicas": append([]replicaEntry{}, resp.Replicas...)})
		}
		if len(resp.Replicas) == 0 {
			fmt.Fprintln(std.err, "no server reports that it shares this store")
			return nil
		}
		t := cli.NewTable("NAME", "STARTED", "LIVE", "SERVES")
		for _, r := range resp.Replicas {
			live, serves := cli.Yellow.Cell("no"), "-"
			if r.Live {
				live = cli.Green.Cell("yes")
			}
			for i, guid := range r.Serves {
				if i == 0 {
					serves = guid.String()
				} else {
					serves += " " + guid.String()
				}
			}
			t.Row(r.Name, timeText(r.Started, minutes, "unknown"), live, serves)
		}
		return t.Print(std.out)
	})
	cli.AddJSONFlag(cmd, &asJSON)
	return cmd
}
