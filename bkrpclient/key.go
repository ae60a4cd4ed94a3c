package bkrpclient

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/seed05845750/bkrp"
)

// KeyCache keeps the public keys of domains (3.2.1). What Load gives is checked
// before it is used; still, whoever can write where it is kept decides who can
// read what is wrapped from then on.
//
// A name is the DNS name of a domain in lower case, and ends in "+mutual" for a
// key that was fetched from a server that had proved who it is, under
// Config.RequireMutual. It can stand in a file's name.
type KeyCache interface {
	// Load gives the certificate, DER, and when it was fetched. The error wraps
	// fs.ErrNotExist where there is none.
	Load(ctx context.Context, name string) (der []byte, fetched time.Time, err error)
	// Store keeps a certificate that was fetched then.
	Store(ctx context.Context, name string, der []byte, fetched time.Time) error
}

// domainKey is the domain's public key as it was fetched; the zero one is none.
type domainKey struct {
	cert    *bkrp.Certificate
	fetched time.Time
}

// maxClockStep is how far in the future a key may have been fetched, where a
// clock was set back since.
const maxClockStep = 5 * time.Minute

func (k *domainKey) fresh(now time.Time, life time.Duration) bool {
	age := now.Sub(k.fetched)
	return k.cert != nil && age < life && age > -maxClockStep
}

// keyName is the name of the domain's key in a KeyCache.
func (d *Domain) keyName() string {
	name := d.cfg.Domain
	if d.cfg.Client.RequireMutual {
		name += "+mutual"
	}
	return name
}

// publicKey is the domain's public key: the one of before, that of the cache, or
// a fresh one (C-3.2.4.1-01).
func (d *Domain) publicKey(ctx context.Context, r *record) (*bkrp.Certificate, error) {
	if d.pool.isClosed() {
		return nil, ErrClosed
	}
	d.mu.Lock()
	key := d.key
	d.mu.Unlock()
	if key.fresh(time.Now(), d.cfg.KeyLife) {
		return key.cert, nil
	}
	if key, ok := d.loadKey(ctx, r); ok {
		d.mu.Lock()
		d.key = key
		d.mu.Unlock()
		return key.cert, nil
	}
	return d.retrieve(ctx, r)
}

// loadKey takes the key from the cache, if there is a good one. A cache that
// does not work costs a call, and is told of.
func (d *Domain) loadKey(ctx context.Context, r *record) (key domainKey, ok bool) {
	if d.cfg.Keys == nil {
		return key, false
	}
	began := time.Now()
	der, fetched, err := d.cfg.Keys.Load(ctx, d.keyName())
	if errors.Is(err, fs.ErrNotExist) {
		return key, false
	}
	if err == nil {
		key.fetched = fetched
		key.cert, err = bkrp.ParseCertificate(der)
	}
	step := Step{Server: "key cache", Doing: d.cfg.Domain}
	switch {
	case err != nil:
		step.Err = err
	case key.fresh(began, d.cfg.KeyLife):
		step.Found, ok = "key "+key.cert.GUID.String(), true
	default:
		step.Err = fmt.Errorf("fetched at %s: too old, or later than now", fetched.UTC().Format(time.RFC3339))
	}
	r.timed(began, step)
	return key, ok
}

// retrieve fetches the domain's public key and keeps it. A certificate that
// cannot be read is not kept (C-3.2.4.1-05).
func (d *Domain) retrieve(ctx context.Context, r *record) (cert *bkrp.Certificate, err error) {
	err = d.do(ctx, r, bkrp.ActionRetrieve.String(), func(ctx context.Context, c *Client) (err error) {
		cert, err = c.RetrieveKey(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	key := domainKey{cert: cert, fetched: time.Now()}
	d.mu.Lock()
	d.key = key
	d.mu.Unlock()
	if d.cfg.Keys != nil {
		if err := d.cfg.Keys.Store(ctx, d.keyName(), cert.Raw, key.fetched); err != nil {
			r.timed(key.fetched, Step{Server: "key cache", Doing: d.cfg.Domain, Err: err})
		}
	}
	return cert, nil
}
