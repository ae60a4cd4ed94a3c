package bkrpclient

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/dtyp"
)

// KeyCache keeps the public keys of domains (3.2.1). What Load gives is checked
// before it is used; still, whoever can write where it is kept decides who can
// read what is wrapped from then on.
//
// A name is the DNS name of a domain in lower case, "+", and the SID of the domain
// whose users the key wraps for: another domain of that name, as when one was made
// anew, has another SID, and what is wrapped under the key of the old one nobody
// opens. It ends in "+mutual" for a key that was fetched from a server that had
// proved who it is, under Config.RequireMutual. It can stand in a file's name.
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
	// users is the SID of the domain whose users a KeyCache kept it for; zero
	// where it was fetched since the Domain was opened.
	users dtyp.SID
}

// maxClockStep is how far in the future a key may have been fetched, where a
// clock was set back since.
const maxClockStep = 5 * time.Minute

func (k *domainKey) fresh(now time.Time, life time.Duration) bool {
	age := now.Sub(k.fetched)
	return k.cert != nil && age < life && age > -maxClockStep
}

// usersOf is the SID of the domain that an account is of, zero if it is of none.
func usersOf(account dtyp.SID) dtyp.SID {
	domain, _, _ := account.Cut()
	return domain
}

// keyName is the name of the domain's key in a KeyCache.
func (d *Domain) keyName(users dtyp.SID) string {
	name := d.cfg.Domain + "+" + users.String()
	if d.cfg.Client.RequireMutual {
		name += mutualSuffix
	}
	return name
}

const mutualSuffix = "+mutual"

// publicKey is the domain's public key for wrapping for owner, who is the caller if
// that is zero: the one of before, that of the cache, or a fresh one
// (C-3.2.4.1-01). The cache is asked only once it is known for whom.
func (d *Domain) publicKey(ctx context.Context, r *record, owner dtyp.SID) (*bkrp.Certificate, error) {
	if d.pool.isClosed() {
		return nil, ErrClosed
	}
	d.mu.Lock()
	key := d.key
	d.mu.Unlock()
	fresh := key.fresh(time.Now(), d.cfg.KeyLife)
	if fresh && key.users.IsZero() {
		return key.cert, nil
	}
	if d.cfg.Keys == nil {
		return d.retrieve(ctx, r, owner)
	}
	if owner.IsZero() {
		var err error
		if owner, err = d.callerSID(ctx, r); err != nil && (final(ctx, err) || hopeless(err)) {
			return nil, fmt.Errorf("asking for the caller's SID: %w", err)
		}
	}
	users := usersOf(owner)
	switch {
	case users.IsZero():
	case fresh && key.users == users:
		return key.cert, nil
	default:
		if key, ok := d.loadKey(ctx, r, users); ok {
			d.mu.Lock()
			d.key = key
			d.mu.Unlock()
			return key.cert, nil
		}
	}
	return d.retrieve(ctx, r, owner)
}

// hopeless says of an error whether asking for something else will end no better.
// A server that does not take the password takes no other call either, and each
// further try counts against the account.
func hopeless(err error) bool {
	return errors.Is(err, ErrClosed) || errors.Is(err, ErrNoServer) || errors.Is(err, ErrLogon)
}

// loadKey takes the key from the cache, if there is a good one. A cache that
// does not work costs a call, and is told of.
func (d *Domain) loadKey(ctx context.Context, r *record, users dtyp.SID) (key domainKey, ok bool) {
	began := time.Now()
	der, fetched, err := d.cfg.Keys.Load(ctx, d.keyName(users))
	if errors.Is(err, fs.ErrNotExist) {
		return key, false
	}
	if err == nil {
		key.fetched, key.users = fetched, users
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

// retrieve fetches the domain's public key and keeps it, in the cache too where it
// is known for whom. A certificate that cannot be read is not kept
// (C-3.2.4.1-05). With another key than before there may be another domain, in
// which the caller is somebody else.
func (d *Domain) retrieve(ctx context.Context, r *record, owner dtyp.SID) (cert *bkrp.Certificate, err error) {
	err = d.do(ctx, r, bkrp.ActionRetrieve.String(), func(ctx context.Context, c *Client) (err error) {
		cert, err = c.RetrieveKey(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	key := domainKey{cert: cert, fetched: time.Now()}
	d.mu.Lock()
	if d.key.cert != nil && d.key.cert.GUID != cert.GUID {
		d.sid = dtyp.SID{}
	}
	d.key = key
	if owner.IsZero() {
		owner = d.sid
	}
	if owner.IsZero() {
		owner = d.cfg.SID
	}
	d.mu.Unlock()
	if users := usersOf(owner); d.cfg.Keys != nil && !users.IsZero() {
		if err := d.cfg.Keys.Store(ctx, d.keyName(users), cert.Raw, key.fetched); err != nil {
			r.timed(key.fetched, Step{Server: "key cache", Doing: d.cfg.Domain, Err: err})
		}
	}
	return cert, nil
}
