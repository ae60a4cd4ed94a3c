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
	var file string
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
			return runUser(cmd.Context(), std, cfg, &adminRequest{Verb: verb, Name: args[0], Password: password})
		},
	}
	addConfigFlag(cmd, &file)
	return cmd
}

func newUserRemoveCommand(std stdio) *cobra.Command {
	var file string
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
			return runUser(cmd.Context(), std, cfg, &adminRequest{Verb: verbUserRemove, Name: args[0]})
		},
	}
	addConfigFlag(cmd, &file)
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
			req := &adminRequest{Verb: verbUserList}
			if !asJSON {
				return runUser(cmd.Context(), std, cfg, req)
			}
			resp, err := ask(cmd.Context(), std, cfg, req)
			if err != nil {
				return fmt.Errorf("%s: %w", req.Verb, err)
			}
			return printJSON(std.out, map[string]any{"users": append([]adminUser{}, resp.Users...)})
		},
	}
	addConfigFlag(cmd, &file)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// runUser has the request done and prints the accounts that came back.
func runUser(ctx context.Context, std stdio, cfg *config, req *adminRequest) error {
	resp, err := ask(ctx, std, cfg, req)
	if err != nil {
		return fmt.Errorf("%s: %w", req.Verb, err)
	}
	t := cli.NewTable()
	for _, u := range resp.Users {
		t.Row(cli.Bold.Cell(u.Name), u.SID)
	}
	return t.Print(std.out)
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
