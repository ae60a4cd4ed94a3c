package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/bkrpserver"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/keystore"
)

// newServeCommand is "bkrpd serve".
func newServeCommand(std stdio) *cobra.Command {
	var (
		file   string
		listen []string
	)
	cmd := &cobra.Command{
		Use:   "serve --config FILE [--listen ADDR]",
		Short: "serve the domain",
		Long: `Serve answers BackupKey calls over SMB until it gets SIGINT or SIGTERM; calls in
flight are then let end. It prints one line "listening on ADDR" for each address
when it answers there. The log, with the audit trail, goes to standard error, as JSON
with log.format = "json".

An address is HOST:PORT, where bkrpd serves SMB itself, or samba:DIR, where it
answers BackupKey for the Samba server whose ncalrpc dir is DIR, which serves SMB
and everything else. That needs root, and Samba's own service switched off; see
docs/samba.md.

A value on the command line goes before one in the environment (BKRPD_LISTEN for
listen, BKRPD_SMB_ENCRYPTION for smb.encryption), and that before the file.`,
		Example: `  bkrpd serve --config /var/lib/bkrpd/bkrpd.toml
  bkrpd serve --config /var/lib/bkrpd/bkrpd.toml --listen 127.0.0.1:0`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var flags []flagSetting
			if len(listen) > 0 {
				flags = append(flags, flagSetting{flag: "--listen", key: "listen", value: strings.Join(listen, ",")})
			}
			cfg, err := loadConfig(file, flags)
			if err != nil {
				return err
			}
			return serve(cmd.Context(), std, cfg)
		},
	}
	addConfigFlag(cmd, &file)
	cmd.Flags().StringSliceVar(&listen, "listen", nil, "address to serve on, HOST:PORT or samba:DIR, instead of those of the configuration")
	return cmd
}

// serve runs a daemon until a signal or ctx ends it.
func serve(ctx context.Context, std stdio, cfg *config) error {
	ctx, stopSignals := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stopSignals()
	log := newLogger(std.err, cfg)
	if err := guardMemory(cfg.Memory.Lock, log); err != nil {
		return err
	}
	d, err := startDaemon(ctx, cfg, log)
	if err != nil {
		return err
	}
	for _, addr := range d.addrs {
		fmt.Fprintf(std.out, "listening on %s\n", addr)
	}
	select {
	case <-ctx.Done():
		stopSignals() // a second signal ends the process at once
		log.Info("shutting down; calls in flight may end")
	case <-d.failed:
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Duration(cfg.ShutdownGrace))
	defer cancel()
	return d.stop(grace)
}

// daemon is a store, the server on it, and the control socket.
type daemon struct {
	addrs []string

	closeStore func() error
	server     *bkrpserver.Server
	control    *control
	failed     chan struct{} // closed when a listener fails

	serving sync.WaitGroup
	mu      sync.Mutex
	err     error // the first listener's that failed
}

// startDaemon opens the store and listens. When it returns, connections are
// accepted.
func startDaemon(ctx context.Context, cfg *config, log *slog.Logger) (*daemon, error) {
	o, err := serveOptions(cfg, log)
	if err != nil {
		return nil, err
	}
	store, closeStore, err := openStore(ctx, cfg, o)
	if err != nil {
		return nil, err
	}
	d := &daemon{closeStore: closeStore, failed: make(chan struct{})}
	if err := d.listen(ctx, cfg, store, log); err != nil {
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		return nil, errors.Join(err, d.stop(grace))
	}
	return d, nil
}

func (d *daemon) listen(ctx context.Context, cfg *config, store *keystore.Store, log *slog.Logger) (err error) {
	if d.server, err = bkrpserver.New(serverConfig(cfg, store, log)); err != nil {
		return err
	}
	if d.control, err = listenControl(cfg.Control, store, log); err != nil {
		return err
	}
	for _, addr := range cfg.Listen {
		if dir, ok := strings.CutPrefix(addr, sambaPrefix); ok {
			l, err := d.server.ListenSamba(dir)
			if err != nil {
				return err
			}
			d.addrs = append(d.addrs, l.String())
			d.serving.Go(func() { d.fail(l.Serve(context.WithoutCancel(ctx))) })
			continue
		}
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
		if err != nil {
			return fmt.Errorf("listening on %s: %w", addr, err)
		}
		d.addrs = append(d.addrs, l.Addr().String())
		// The server outlives ctx: stop lets calls in flight end.
		d.serving.Go(func() { d.fail(d.server.Serve(context.WithoutCancel(ctx), l)) })
	}
	return nil
}

// fail keeps the first error of a listener and has the daemon end.
func (d *daemon) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil && d.err == nil {
		d.err = err
		close(d.failed)
	}
}

// stop lets calls in flight end until ctx does, and closes everything.
func (d *daemon) stop(ctx context.Context) error {
	var errs []error
	if d.server != nil {
		errs = append(errs, d.server.Shutdown(ctx))
	}
	d.serving.Wait()
	if d.control != nil {
		errs = append(errs, d.control.close(ctx))
	}
	d.mu.Lock()
	errs = append(errs, d.err)
	d.mu.Unlock()
	return errors.Join(append(errs, d.closeStore())...)
}

// serverConfig is the server that a configuration describes.
func serverConfig(cfg *config, store *keystore.Store, log *slog.Logger) bkrpserver.Config {
	service := &bkrpserver.Service{
		Store:      store,
		Logger:     log,
		Audit:      bkrpserver.LogAuditor(slog.New(auditHandler{log.Handler()})),
		ServerWrap: subprotocols[cfg.ServerWrap],
		ClientWrap: subprotocols[cfg.ClientWrap],
		MaxInput:   int(cfg.MaxInput),
	}
	if cfg.ErrorCodes == "windows" {
		service.ErrorCodes = bkrpserver.WindowsCodes
	}
	if cfg.ServerWrapSrvKey == "leading64" {
		service.SrvKey = bkrp.SrvKeyLeading64
	}
	c := bkrpserver.Config{
		Service:        service,
		Pipes:          cfg.Pipes,
		MinDialect:     dialects[cfg.SMB.MinDialect],
		MaxDialect:     dialects[cfg.SMB.MaxDialect],
		Administrators: cfg.LSA.Administrators,
		RequireMIC:     cfg.Auth.NTLMMIC == "required",
		Kerberos:       kerberosConfig(&cfg.Auth),

		RequireSecretEncryption: cfg.LSA.SecretEncryption == "require",
		CanaryInterval:          time.Duration(cfg.CanaryInterval),

		Logger: log,
		Limits: bkrpserver.Limits{
			Connections:           cfg.SMB.MaxConnections,
			ConnectionsPerAddress: cfg.SMB.MaxConnectionsPerAddress,
			AuthTimeout:           time.Duration(cfg.SMB.AuthenticationTimeout),
			AuthBytes:             int(cfg.SMB.MaxUnauthenticatedBytes),
			Sessions:              cfg.SMB.MaxSessions,
			Opens:                 cfg.SMB.MaxOpens,
			OpensPerUser:          cfg.SMB.MaxOpensPerUser,
			Outstanding:           cfg.SMB.MaxOutstanding,
			IdleTimeout:           time.Duration(cfg.SMB.IdleTimeout),
			StallTimeout:          time.Duration(cfg.SMB.WriteTimeout),
		},
	}
	ntlmOf(&c, cfg)
	if cfg.SMB.Encryption == "require" {
		c.Encryption = bkrpserver.EncryptionRequire
	}
	return c
}

func kerberosConfig(a *authConfig) bkrpserver.Kerberos {
	sids := make(map[string]dtyp.SID, len(a.PrincipalSIDs))
	for _, p := range a.PrincipalSIDs {
		sids[p.Principal] = p.SID
	}
	return bkrpserver.Kerberos{
		Keytab:        a.Keytab,
		AllowRC4:      a.KerberosRC4 == "allowed",
		ClockSkew:     time.Duration(a.ClockSkew),
		PrincipalSIDs: sids,
	}
}

// subprotocols are how much of one is served by the names of the configuration.
// There is none for wrapping without unwrapping (G-1.3-02).
var subprotocols = map[string]bkrpserver.Subprotocol{
	"on":          bkrpserver.On,
	"unwrap-only": bkrpserver.UnwrapOnly,
	"off":         bkrpserver.Off,
}

// dialects are the SMB dialects by the names of the configuration.
var dialects = map[string]bkrpserver.Dialect{
	"2.0.2": bkrpserver.SMB202,
	"2.1":   bkrpserver.SMB210,
	"3.0":   bkrpserver.SMB300,
	"3.0.2": bkrpserver.SMB302,
	"3.1.1": bkrpserver.SMB311,
}
