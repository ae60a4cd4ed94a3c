package krb5

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/oiweiwei/gokrb5.fork/v9/client"
	"github.com/oiweiwei/gokrb5.fork/v9/config"
	"github.com/oiweiwei/gokrb5.fork/v9/credentials"
	ktfile "github.com/oiweiwei/gokrb5.fork/v9/keytab"
	"github.com/oiweiwei/gokrb5.fork/v9/types"

	"github.com/seed05845750/bkrp/internal/gss"
)

// ErrNoTicket is a credential cache that is not there or has nothing of use.
var ErrNoTicket = errors.New("krb5: no credentials in the cache, run kinit")

// CCacheTickets gets tickets with the credentials that kinit left in a cache:
// "FILE:/path" or a path. The file is read for each ticket. conf is the path
// of a krb5.conf.
func CCacheTickets(name, conf string) TicketSource {
	return func(ctx context.Context, spn string) (*ServiceTicket, error) {
		path, err := ccachePath(name)
		if err != nil {
			return nil, err
		}
		var cache *credentials.CCache
		err = guard(func() (err error) {
			cache, err = credentials.LoadCCache(path)
			return err
		})
		if errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("%w (%s)", ErrNoTicket, path)
		}
		if err != nil {
			return nil, fmt.Errorf("reading the credential cache %s: %w", path, err)
		}
		if t, err := cachedTicket(cache, spn); t != nil || err != nil {
			return t, err
		}
		return fetch(ctx, conf, spn, func(cfg *config.Config, s ...func(*client.Settings)) (*client.Client, error) {
			return client.NewFromCCache(cache, cfg, s...)
		})
	}
}

// KeytabTickets gets tickets with the keys that the keytab file has for
// principal, "alice@REALM" or "alice" in the default realm.
func KeytabTickets(path, principal, conf string) TicketSource {
	return func(ctx context.Context, spn string) (*ServiceTicket, error) {
		var keys *ktfile.Keytab
		err := guard(func() (err error) {
			keys, err = ktfile.Load(path)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("reading the keytab %s: %w", path, err)
		}
		return fetch(ctx, conf, spn, func(cfg *config.Config, s ...func(*client.Settings)) (*client.Client, error) {
			name, realm := cutPrincipal(principal, cfg)
			return logIn(client.NewWithKeytab(name, realm, keys, cfg, s...))
		})
	}
}

// PasswordTickets gets tickets with the password of principal.
func PasswordTickets(principal string, password func() string, conf string) TicketSource {
	return func(ctx context.Context, spn string) (*ServiceTicket, error) {
		return fetch(ctx, conf, spn, func(cfg *config.Config, s ...func(*client.Settings)) (*client.Client, error) {
			name, realm := cutPrincipal(principal, cfg)
			return logIn(client.NewWithPassword(name, realm, password(), cfg, s...))
		})
	}
}

// DefaultCCache is the credential cache of this process: what KRB5CCNAME
// names, or the file that MIT's kinit makes.
func DefaultCCache() string {
	if name := os.Getenv("KRB5CCNAME"); name != "" {
		return name
	}
	return fmt.Sprintf("FILE:/tmp/krb5cc_%d", os.Getuid())
}

// DefaultConf is the krb5.conf of this process: the first that KRB5_CONFIG
// names, or the system's.
func DefaultConf() string {
	if path, _, _ := strings.Cut(os.Getenv("KRB5_CONFIG"), ":"); path != "" {
		return path
	}
	return "/etc/krb5.conf"
}

// ccachePath is the path of a cache of the kind FILE, the only one supported.
func ccachePath(name string) (string, error) {
	kind, rest, ok := strings.Cut(name, ":")
	switch {
	case !ok || strings.Contains(kind, "/"):
		return name, nil
	case kind == "FILE":
		return rest, nil
	}
	return "", fmt.Errorf("krb5: credential caches of the kind %s cannot be read, only FILE: %w", kind, ErrNoTicket)
}

// cutPrincipal splits a principal into its name and realm.
func cutPrincipal(principal string, cfg *config.Config) (name, realm string) {
	if at := strings.LastIndexByte(principal, '@'); at >= 0 {
		return principal[:at], principal[at+1:]
	}
	return principal, cfg.LibDefaults.DefaultRealm
}

// cachedTicket is the service's ticket in the cache, nil if there is none that
// lasts. It is an error if the cache is stale altogether.
func cachedTicket(cache *credentials.CCache, spn string) (*ServiceTicket, error) {
	want, _ := types.ParseSPNString(spn)
	now, lasts := time.Now(), false
	for _, c := range cache.GetEntries() {
		if !c.EndTime.After(now) {
			continue
		}
		lasts = true
		if c.Server.PrincipalName.Equal(want) && len(c.Ticket) > 0 {
			return &ServiceTicket{
				Ticket: c.Ticket, SessionKey: Key{EncType(c.Key.KeyType), c.Key.KeyValue},
				Client: c.Client.PrincipalName.NameString, Realm: c.Client.Realm, End: c.EndTime,
			}, nil
		}
	}
	if !lasts {
		if len(cache.GetEntries()) == 0 {
			return nil, ErrNoTicket
		}
		return nil, fmt.Errorf("krb5: the tickets in the cache have expired, run kinit: %w", gss.ErrExpired)
	}
	return nil, nil
}

// guard turns a panic of the library's into an error: its parsers trust the
// lengths in files, which another program may be writing just now.
func guard(f func() error) (err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("krb5: the file is damaged")
		}
	}()
	return f()
}

// logIn gets the ticket-granting ticket.
func logIn(c *client.Client) (*client.Client, error) {
	if err := c.Login(); err != nil {
		c.Destroy()
		return nil, err
	}
	return c, nil
}

// fetch gets a ticket from the KDC through a client of the library, which is
// ended before it returns: it would renew its tickets in the background.
func fetch(ctx context.Context, conf, spn string, open func(*config.Config, ...func(*client.Settings)) (*client.Client, error)) (*ServiceTicket, error) {
	cfg, err := config.Load(conf)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", conf, err)
	}
	dialer := &kdcDialer{ctx: ctx}
	defer dialer.close()
	var t *ServiceTicket
	err = guard(func() error {
		c, err := open(cfg, client.DisablePAFXFAST(true), client.Dialer(dialer))
		if err != nil {
			return err
		}
		defer c.Destroy()
		ticket, key, err := c.GetServiceTicket(spn)
		if err != nil {
			return err
		}
		der, err := ticket.Marshal()
		if err != nil {
			return err
		}
		t = &ServiceTicket{
			Ticket: der, SessionKey: Key{EncType(key.KeyType), key.KeyValue},
			Client: c.Credentials.CName().NameString, Realm: c.Credentials.Realm(),
		}
		return nil
	})
	if err != nil {
		return nil, kdcError(ctx, err)
	}
	return t, nil
}

// kdcError says of an error of the library's whether it is a refused logon.
func kdcError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	// The library makes text of the KDC's answers, with the names of the codes
	// in RFC 4120 7.5.9.
	for _, code := range []string{
		"KDC_ERR_PREAUTH_FAILED", "KDC_ERR_C_PRINCIPAL_UNKNOWN", "KDC_ERR_CLIENT_REVOKED", "KDC_ERR_KEY_EXPIRED",
	} {
		if strings.Contains(err.Error(), code) {
			return fmt.Errorf("krb5: the KDC answers %s: %w", code, gss.ErrLogon)
		}
	}
	return err
}

// kdcDialer connects to the KDC for one ticket. Its connections end with the
// context, which the library does not know.
type kdcDialer struct {
	ctx  context.Context
	stop []func() bool
}

// Dial implements client.KDCDialer.
func (d *kdcDialer) Dial(network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(d.ctx, network, address)
	if err != nil {
		return nil, err
	}
	d.stop = append(d.stop, context.AfterFunc(d.ctx, func() { conn.Close() }))
	return conn, nil
}

func (d *kdcDialer) close() {
	for _, stop := range d.stop {
		stop()
	}
}
