package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/cli"
)

// newUserCommand is "bkrpd user".
func newUserCommand(std stdio) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "user",
		Short: "manage the accounts that may log on",
		Long: `User manages the local accounts, which the store keeps sealed: a name, a SID, and
the hash by which NTLM proves the password. It works on a running daemon and on
a store that no daemon has open.

An account that is removed or disabled is refused from its next call on; a new
password counts from the next log-on. Each change is on the audit trail.`,
		Example: `  bkrpd user add alice --config /var/lib/bkrpd/bkrpd.toml
  bkrpd user list --config /var/lib/bkrpd/bkrpd.toml`,
		Args: cobra.NoArgs, // or cobra takes a mistyped command for a plea for help
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cmd.Help()
		},
	}
	cmd.AddCommand(
		newUserPasswordCommand(std, verbUserAdd, "add NAME", "add an account; prints its name and SID",
			`  bkrpd user add alice --config /var/lib/bkrpd/bkrpd.toml`),
		newUserPasswordCommand(std, verbUserPasswd, "passwd NAME", "change an account's password",
			`  bkrpd user passwd alice --config /var/lib/bkrpd/bkrpd.toml`),
		newUserRemoveCommand(std),
		newUserListCommand(std),
	)
	return cmd
}

func newUserPasswordCommand(std stdio, verb adminVerb, use, short, example string) *cobra.Command {
	var (
		file   string
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:     use + " --config FILE",
		Short:   short,
		Long:    strings.ToUpper(short[:1]) + short[1:] + ".\nThe password is asked for on a terminal; otherwise it is the first line of standard input.",
		Example: example,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := loadConfig(file, nil)
			if err != nil {
				return err
			}
			password, err := readNewPassword(std, args[0])
			if err != nil {
				return err
			}
			defer clear(password)
			return changeUser(cmd.Context(), std, cfg, &adminRequest{Verb: verb, Name: args[0], Password: password}, asJSON)
		},
	}
	addConfigFlag(cmd, &file)
	cli.AddJSONFlag(cmd, &asJSON)
	return cmd
}

func newUserRemoveCommand(std stdio) *cobra.Command {
	var (
		file   string
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "remove NAME --config FILE",
		Short: "remove an account; its SID is not given out again",
		Long: `Remove takes an account away; it is refused from its next call on. Its SID is not
given out again, so that nobody else gets what was wrapped for it.`,
		Example: `  bkrpd user remove alice --config /var/lib/bkrpd/bkrpd.toml`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := loadConfig(file, nil)
			if err != nil {
				return err
			}
			return changeUser(cmd.Context(), std, cfg, &adminRequest{Verb: verbUserRemove, Name: args[0]}, asJSON)
		},
	}
	addConfigFlag(cmd, &file)
	cli.AddJSONFlag(cmd, &asJSON)
	return cmd
}

func newUserListCommand(std stdio) *cobra.Command {
	var (
		file   string
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "list --config FILE",
		Short: "print the name and the SID of each account",
		Long: `List prints the name and the SID of each account, a line for each, with a tab
between the two in a pipe or a file.`,
		Example: `  bkrpd user list --config /var/lib/bkrpd/bkrpd.toml
  bkrpd user list --json --config /var/lib/bkrpd/bkrpd.toml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(file, nil)
			if err != nil {
				return err
			}
			users, err := askUsers(cmd.Context(), std, cfg, &adminRequest{Verb: verbUserList})
			if err != nil {
				return err
			}
			if asJSON {
				return cli.PrintJSON(std.out, map[string]any{"users": append([]adminUser{}, users...)})
			}
			return printUsers(std.out, users)
		},
	}
	addConfigFlag(cmd, &file)
	cli.AddJSONFlag(cmd, &asJSON)
	return cmd
}

// askUsers has the request done and returns the accounts that came back.
func askUsers(ctx context.Context, std stdio, cfg *config, req *adminRequest) ([]adminUser, error) {
	resp, err := ask(ctx, std, cfg, req)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", req.Verb, err)
	}
	return resp.Users, nil
}

// changeUser has one account changed, and prints which it is as far as that came
// back: a new one with its SID. JSON always has its name.
func changeUser(ctx context.Context, std stdio, cfg *config, req *adminRequest, asJSON bool) error {
	users, err := askUsers(ctx, std, cfg, req)
	if err != nil {
		return err
	}
	if !asJSON {
		return printUsers(std.out, users)
	}
	changed := struct {
		Name string   `json:"name"`
		SID  dtyp.SID `json:"sid,omitzero"`
	}{Name: req.Name}
	for _, u := range users {
		changed.Name, changed.SID = u.Name, u.SID
	}
	return cli.PrintJSON(std.out, changed)
}

func printUsers(out io.Writer, users []adminUser) error {
	t := cli.NewTable()
	for _, u := range users {
		t.Row(cli.Bold.Cell(u.Name), u.SID)
	}
	return t.Print(out)
}

// maxPassword bounds a password, in octets.
const maxPassword = 1024

// readNewPassword asks twice on a terminal, and takes the first line of
// standard input otherwise. A password never stands on the command line.
func readNewPassword(std stdio, name string) ([]byte, error) {
	f, ok := std.in.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return readPasswordLine(std.in)
	}
	first, err := cli.ReadPassword(std.err, f, "Password for "+name+": ")
	if err != nil {
		return nil, err
	}
	second, err := cli.ReadPassword(std.err, f, "Again: ")
	if err != nil {
		clear(first)
		return nil, err
	}
	defer clear(second)
	if !bytes.Equal(first, second) {
		clear(first)
		return nil, errors.New("the two passwords are not the same")
	}
	return first, nil
}

func readPasswordLine(in io.Reader) ([]byte, error) {
	line, err := bufio.NewReader(io.LimitReader(in, maxPassword+2)).ReadBytes('\n')
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("reading the password: %w", err)
	}
	line = bytes.TrimRight(line, "\r\n")
	if len(line) == 0 {
		return nil, errors.New("no password: give it as one line on standard input, or run this on a terminal")
	}
	if len(line) > maxPassword {
		return nil, fmt.Errorf("the password is longer than %d octets", maxPassword)
	}
	return line, nil
}
