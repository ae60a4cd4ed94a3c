package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/bkrpclient"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/cli"
)

// newDemoCommand is "bkrpd demo".
func newDemoCommand(std stdio) *cobra.Command {
	return &cobra.Command{
		Use:   "demo",
		Short: "run the whole service once, in a throw-away directory on a loopback port",
		Long: `Demo makes a domain with two users in a temporary directory, serves it on a free
loopback port, and then goes through the protocol as a client would, over SMB:
it fetches the domain key, wraps a secret in each of the three ways, has each
opened for its owner and refused to the other user, restarts the server on the
same store, and opens all of them again. It exits 0 only if all of that held,
and leaves nothing behind. What it prints is for people.`,
		Example: `  bkrpd demo`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runDemo(cmd.Context(), std)
		},
	}
}

// demo is one run of the demonstration.
type demo struct {
	std       stdio
	cfg       *config
	daemon    *daemon
	passwords map[string]bkrpclient.Password
	step      int
}

func runDemo(ctx context.Context, std stdio) (err error) {
	// Interrupted, it still stops the server and removes the directory.
	ctx, stopSignals := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stopSignals()
	dir, err := os.MkdirTemp("", "bkrpd-demo-")
	if err != nil {
		return err
	}
	defer func() {
		if e := os.RemoveAll(dir); err == nil {
			err = e
		}
	}()
	d := &demo{std: std, passwords: make(map[string]bkrpclient.Password)}
	if err := d.init(ctx, filepath.Join(dir, "domain")); err != nil {
		return err
	}
	if err := d.start(ctx); err != nil {
		return err
	}
	defer func() {
		if e := d.stop(); err == nil {
			err = e
		}
	}()
	began := time.Now()
	if err := d.run(ctx); err != nil {
		return err
	}
	fmt.Fprintf(std.out, "\nAll of it held, in %s.\n", roundTime(time.Since(began)))
	return nil
}

// init makes the domain and its two users.
func (d *demo) init(ctx context.Context, dir string) error {
	d.head("A throw-away domain in %s", dir)
	made, err := initDomain(ctx, initOptions{Dir: dir, Domain: "bkrp.example", NetBIOS: "BKRP"})
	if err != nil {
		return err
	}
	if d.cfg, err = loadConfig(made.Config, nil); err != nil {
		return err
	}
	d.cfg.Listen = []string{"127.0.0.1:0"}
	quiet := stdio{in: d.std.in, out: d.std.out, err: io.Discard} // without the audit trail, as the daemon is
	for _, name := range []string{"alice", "bob"} {
		d.passwords[name] = bkrpclient.Password(rand.Text())
		resp, err := ask(ctx, quiet, d.cfg, &adminRequest{Verb: verbUserAdd, Name: name, Password: []byte(d.passwords[name])})
		if err != nil {
			return err
		}
		d.say("user %-5s  %s", name, resp.Users[0].SID)
	}
	return nil
}

func (d *demo) start(ctx context.Context) (err error) {
	began := time.Now()
	d.daemon, err = startDaemon(ctx, d.cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	d.say("serving SMB on %s, %s after the start", d.daemon.addrs[0], roundTime(time.Since(began)))
	return nil
}

func (d *demo) stop() error {
	if d.daemon == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err := d.daemon.stop(ctx)
	d.daemon = nil
	return err
}

func (d *demo) dial(ctx context.Context, user string) (*bkrpclient.Client, error) {
	return bkrpclient.Dial(ctx, bkrpclient.Config{
		Server:     d.daemon.addrs[0],
		Credential: bkrpclient.Credential{Domain: d.cfg.Domain.NetBIOS, User: user, Password: d.passwords[user]},
	})
}

// wrapped is one secret of alice's as the demonstration keeps it.
type wrapped struct {
	name         string
	options      bkrpclient.WrapOptions
	secret, blob []byte
}

func (d *demo) run(ctx context.Context) error {
	alice, err := d.dial(ctx, "alice")
	if err != nil {
		return err
	}
	defer alice.Close()
	if err := d.retrieve(ctx, alice); err != nil {
		return err
	}
	ways := []*wrapped{
		{name: "ClientWrap, version 2 (3DES, SHA-1)", options: bkrpclient.WrapOptions{Mode: bkrpclient.ModeClient, Version: 2}, secret: make([]byte, 64)},
		{name: "ClientWrap, version 3 (AES-256, SHA-512)", options: bkrpclient.WrapOptions{Mode: bkrpclient.ModeClient, Version: 3}, secret: make([]byte, 64)},
		{name: "ServerWrap (RC4, HMAC-SHA1)", options: bkrpclient.WrapOptions{Mode: bkrpclient.ModeServer}, secret: make([]byte, 4096)},
	}
	bob, err := d.dial(ctx, "bob")
	if err != nil {
		return err
	}
	defer bob.Close()
	for _, w := range ways {
		if err := d.wrap(ctx, alice, bob, w); err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
	}
	alice.Close()
	bob.Close()
	return d.restart(ctx, ways)
}

func (d *demo) retrieve(ctx context.Context, c *bkrpclient.Client) error {
	d.head("alice fetches the domain key")
	began := time.Now()
	cert, err := c.RetrieveKey(ctx)
	if err != nil {
		return err
	}
	d.say("%d octets of certificate in %s (the key was made for this first call)", len(cert.Raw), roundTime(time.Since(began)))
	d.say("key        %s, RSA %d bits", cert.GUID, cert.PublicKey.N.BitLen())
	d.say("subject    %s", cert.Subject)
	d.say("valid      %s to %s", cert.NotBefore.UTC().Format(time.RFC3339), cert.NotAfter.UTC().Format(time.RFC3339))
	return nil
}

// wrap wraps a secret, has it opened for alice, and sees it refused to bob.
func (d *demo) wrap(ctx context.Context, alice, bob *bkrpclient.Client, w *wrapped) error {
	d.head("alice wraps: %s", w.name)
	rand.Read(w.secret)
	began := time.Now()
	var err error
	if w.blob, err = alice.Wrap(ctx, w.secret, w.options); err != nil {
		return err
	}
	key, err := wrappingKey(w.blob)
	if err != nil {
		return err
	}
	d.say("wrapped    %d octets into %d, key %s, %s", len(w.secret), len(w.blob), key, roundTime(time.Since(began)))
	if err := d.unwrap(ctx, alice, w); err != nil {
		return err
	}
	_, err = bob.Unwrap(ctx, w.blob)
	var refused *bkrpclient.ServerError
	if !errors.As(err, &refused) || refused.Status != bkrp.StatusInvalidAccess {
		return fmt.Errorf("bob should have been refused with %v and got: %v", bkrp.StatusInvalidAccess, err)
	}
	d.say("bob        refused: %s", refused.Status.String())
	return nil
}

func (d *demo) unwrap(ctx context.Context, c *bkrpclient.Client, w *wrapped) error {
	began := time.Now()
	got, err := c.Unwrap(ctx, w.blob)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, w.secret) {
		return errors.New("what came back is not the secret that was wrapped")
	}
	d.say("unwrapped  the same %d octets, %s", len(got), roundTime(time.Since(began)))
	return nil
}

func (d *demo) restart(ctx context.Context, ways []*wrapped) error {
	d.head("the server restarts on the same store")
	if err := d.stop(); err != nil {
		return err
	}
	if err := d.start(ctx); err != nil {
		return err
	}
	alice, err := d.dial(ctx, "alice")
	if err != nil {
		return err
	}
	defer alice.Close()
	for _, w := range ways {
		if err := d.unwrap(ctx, alice, w); err != nil {
			return fmt.Errorf("after the restart: %s: %w", w.name, err)
		}
	}
	return nil
}

// wrappingKey is the GUID of the key a blob is wrapped under.
func wrappingKey(blob []byte) (dtyp.GUID, error) {
	if w, err := bkrp.ParseServerWrapped(blob); err == nil {
		return w.KeyGUID, nil
	}
	w, err := bkrp.ParseClientWrapped(blob)
	if err != nil {
		return dtyp.GUID{}, err
	}
	return w.KeyGUID, nil
}

func (d *demo) head(format string, args ...any) {
	d.step++
	fmt.Fprintf(d.std.out, "\n%s\n", cli.Paint(d.std.out, cli.Bold, fmt.Sprintf("%d. %s", d.step, fmt.Sprintf(format, args...))))
}

func (d *demo) say(format string, args ...any) {
	fmt.Fprintf(d.std.out, "   "+format+"\n", args...)
}

func roundTime(t time.Duration) time.Duration { return t.Round(10 * time.Microsecond) }
