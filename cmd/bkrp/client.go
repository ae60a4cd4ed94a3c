package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed05845750/bkrp/bkrpclient"
	"github.com/seed05845750/bkrp/internal/cli"
)

// passwordFileEnv names a file whose first line is the password.
const passwordFileEnv = "BKRP_PASSWORD_FILE"

// clientFlags say which server or domain to use, and as whom; every command that
// talks to a server has them.
type clientFlags struct {
	server  string
	user    string
	pipe    string
	ndr64   bool
	timeout time.Duration

	kerberos, requireMutual bool
	keytab                  string

	domain domainFlags
}

// register adds the flags. Those that say where and as whom are required, unless
// the command has one of the flags named by instead, which is defined before, and
// does its work without a server.
func (f *clientFlags) register(cmd *cobra.Command, instead ...string) {
	cmd.Flags().StringVar(&f.server, "server", "", "the server, HOST or HOST:PORT (port 445 if none is given)")
	cmd.Flags().StringVarP(&f.user, "user", "U", "", `who calls, DOMAIN\NAME or NAME@DOMAIN; not needed with --kerberos`)
	cmd.Flags().BoolVarP(&f.kerberos, "kerberos", "k", false, "log on by the Kerberos tickets of kinit; with -U and BKRP_PASSWORD_FILE, by NTLM when there are none")
	cmd.Flags().StringVar(&f.keytab, "keytab", "", "log on by Kerberos with the keys that this keytab has for -U NAME@REALM")
	cmd.Flags().BoolVar(&f.requireMutual, "require-mutual", false, "refuse servers that do not prove who they are, and with --domain that they are domain controllers; leaves Kerberos alone")
	cmd.Flags().StringVar(&f.pipe, "pipe", "", "the only pipe to try, protected_storage or ntsvcs (default: both, in this order)")
	cmd.Flags().BoolVar(&f.ndr64, "ndr64", false, "use the 64-bit transfer syntax")
	cmd.Flags().DurationVar(&f.timeout, "timeout", bkrpclient.DefaultTimeout, "the longest a log-on or a call may take")
	f.domain.register(cmd)
	instead = append([]string{"domain"}, instead...)
	cmd.MarkFlagsOneRequired(append([]string{"server"}, instead...)...)
	cmd.MarkFlagsOneRequired(append([]string{"user", "kerberos"}, instead[1:]...)...)
	cmd.MarkFlagsMutuallyExclusive(append([]string{"server"}, instead...)...)
	for _, flag := range domainOnly {
		cmd.MarkFlagsMutuallyExclusive("server", flag)
	}
}

// dial logs on to a server, or gets ready to log on to those of a domain. The
// password never stands on the command line: it comes from
// the file that BKRP_PASSWORD_FILE names, or from a prompt on the terminal.
func (f *clientFlags) dial(ctx context.Context) (caller, error) {
	cfg, err := f.config()
	if err != nil {
		return nil, err
	}
	if f.domain.name != "" {
		return f.domain.open(cfg)
	}
	c, err := bkrpclient.Dial(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// config is that of a client as the flags have it. Its Server, where there is one,
// can be one.
func (f *clientFlags) config() (cfg bkrpclient.Config, err error) {
	switch {
	case f.server == "" && f.domain.name == "":
		return cfg, cli.Usagef("--server: it is empty")
	case f.timeout <= 0:
		return cfg, cli.Usagef("--timeout %v: it is to be more than 0s", f.timeout)
	}
	cfg = bkrpclient.Config{
		Server:        f.server,
		RequireMutual: f.requireMutual,
		NDR64:         f.ndr64,
		Timeout:       f.timeout,
	}
	if f.pipe != "" {
		cfg.Pipes = []string{f.pipe}
	}
	if cfg.Credential, err = f.credential(); err != nil || f.domain.name != "" {
		return cfg, err
	}
	return cfg, checkServer(&cfg)
}

func checkServer(cfg *bkrpclient.Config) error {
	if err := cfg.Check(); err != nil {
		return cli.UsageError{Err: err}
	}
	return nil
}

// credential is who calls: by Kerberos, by a password, or by either.
func (f *clientFlags) credential() (c bkrpclient.Credential, err error) {
	switch {
	case f.keytab != "":
		if !strings.Contains(f.user, "@") {
			return c, cli.Usagef("--keytab: it goes with -U NAME@REALM")
		}
		c.Kerberos = &bkrpclient.Kerberos{Keytab: f.keytab, Principal: f.user}
		return c, nil
	case f.kerberos:
		c.Kerberos = new(bkrpclient.Kerberos)
		if f.user == "" || os.Getenv(passwordFileEnv) == "" {
			return c, nil
		}
	case f.requireMutual:
		return c, cli.Usagef("--require-mutual: only Kerberos has that; give --kerberos or --keytab")
	}
	if c.Domain, c.User, err = splitUser(f.user); err != nil {
		return c, err
	}
	c.Password, err = readPassword(f.user)
	return c, err
}

// splitUser reads DOMAIN\NAME and NAME@DOMAIN.
func splitUser(s string) (domain, user string, err error) {
	if d, u, ok := strings.Cut(s, `\`); ok && d != "" && u != "" {
		return d, u, nil
	}
	if i := strings.LastIndexByte(s, '@'); i > 0 && i < len(s)-1 {
		return s[i+1:], s[:i], nil
	}
	return "", "", cli.Usagef(`user %q: give it as DOMAIN\NAME or NAME@DOMAIN`, s)
}

func readPassword(user string) (bkrpclient.Password, error) {
	if name := os.Getenv(passwordFileEnv); name != "" {
		return passwordFromFile(name)
	}
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return "", cli.UsageError{Err: errors.New("no terminal to ask for the password on: set " + passwordFileEnv + " to a file that holds it")}
	}
	defer tty.Close()
	p, err := cli.ReadPassword(tty, tty, "Password for "+user+": ")
	if err != nil {
		return "", err
	}
	defer clear(p)
	return bkrpclient.Password(p), nil
}

// maxPassword bounds the first line of a password file, in octets.
const maxPassword = 4096

func passwordFromFile(name string) (bkrpclient.Password, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", fmt.Errorf("reading the password (%s): %w", passwordFileEnv, err)
	}
	defer f.Close()
	line, err := bufio.NewReader(io.LimitReader(f, maxPassword+2)).ReadString('\n')
	if err != nil && err != io.EOF {
		return "", fmt.Errorf("reading the password (%s): %w", passwordFileEnv, err)
	}
	line = strings.TrimRight(line, "\r\n")
	if len(line) == 0 || len(line) > maxPassword {
		return "", fmt.Errorf("reading the password (%s): the first line of %s has to have 1 to %d octets", passwordFileEnv, name, maxPassword)
	}
	return bkrpclient.Password(line), nil
}
