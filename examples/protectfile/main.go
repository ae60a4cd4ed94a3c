// Command protectfile shows what the BackupKey protocol is for, from end to end,
// as section 4 of [MS-BKRP] tells it: it encrypts a file under a fresh master key,
// keeps nothing of that key but a copy wrapped for its owner, and gets it back
// from the domain when the owner asks for it, however often their password was
// reset in between.
//
//	protectfile seal --server dc1.example.com -U 'EXAMPLE\alice' notes.txt < password
//	protectfile open --server dc1.example.com -U 'EXAMPLE\alice' notes.txt < password
//
// The first writes notes.txt.sealed and notes.txt.mkf and leaves notes.txt alone;
// the second writes what was in notes.txt to standard output. The first line of
// standard input is the password. notes.txt.mkf is a DPAPI master key file without
// the part that a password opens, so that bkrp inspect and bkrp dpapi recover know
// it; notes.txt.sealed is a format of this program.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"github.com/seed05845750/bkrp/bkrpclient"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run carries out one command line and returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if err := do(ctx, args, stdin, stdout, stderr); err != nil {
		fmt.Fprintf(stderr, "protectfile: %v\n", err)
		return 1
	}
	return 0
}

func do(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	if len(args) == 0 || args[0] != "seal" && args[0] != "open" {
		return errors.New(`usage: protectfile seal|open --server HOST[:PORT] -U DOMAIN\NAME FILE`)
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	flags.SetOutput(stderr)
	server := flags.String("server", "", "a BackupKey server, `HOST[:PORT]`")
	user := flags.String("U", "", `whose file it is, DOMAIN\NAME`)
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	domain, name, ok := strings.Cut(*user, `\`)
	if *server == "" || !ok || flags.NArg() != 1 {
		return fmt.Errorf("%s takes --server, -U and a file", args[0])
	}
	password, err := readPassword(stdin)
	if err != nil {
		return err
	}
	client, err := bkrpclient.Dial(ctx, bkrpclient.Config{
		Server:     *server,
		Credential: bkrpclient.Credential{Domain: domain, User: name, Password: password},
	})
	if err != nil {
		return err
	}
	defer client.Close()
	if args[0] == "seal" {
		return seal(ctx, client, flags.Arg(0))
	}
	return open(ctx, client, flags.Arg(0), stdout)
}

// readPassword takes the first line.
func readPassword(in io.Reader) (bkrpclient.Password, error) {
	const most = 4096
	line, err := bufio.NewReader(io.LimitReader(in, most)).ReadString('\n')
	if err != nil && err != io.EOF {
		return "", fmt.Errorf("reading the password: %w", err)
	}
	if line = strings.TrimRight(line, "\r\n"); line == "" {
		return "", errors.New("the first line of standard input is to be the password")
	}
	return bkrpclient.Password(line), nil
}
