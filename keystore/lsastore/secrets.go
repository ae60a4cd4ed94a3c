package lsastore

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/seed05845750/bkrp/internal/dcerpc"
	"github.com/seed05845750/bkrp/internal/lsaclient"
	"github.com/seed05845750/bkrp/keystore"
)

// Get implements keystore.Backend.
func (b *Backend) Get(ctx context.Context, name string) ([]byte, keystore.Revision, error) {
	if !isKept(name) {
		return nil, 0, keystore.ErrNotFound
	}
	var value []byte
	err := b.use(ctx, func(ctx context.Context, c *conn) (err error) {
		value, err = c.get(ctx, name)
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	return value, revision(value), nil
}

// CompareAndSwap implements keystore.Backend as far as the LSA allows; the
// package comment says how far.
func (b *Backend) CompareAndSwap(ctx context.Context, name string, old keystore.Revision, value []byte) (keystore.Revision, error) {
	switch {
	case name == keystore.AnyName || len(name) > keystore.MaxNameSize || len(value) > maxValue:
		return 0, keystore.ErrTooLarge
	case !isKept(name):
		return 0, fmt.Errorf("lsastore: %q is no secret of the BackupKey protocol: %w", name, errors.ErrUnsupported)
	case len(value) == 0:
		return 0, fmt.Errorf("lsastore: secrets are neither deleted nor emptied: %w", errors.ErrUnsupported)
	}
	err := b.use(ctx, func(ctx context.Context, c *conn) error {
		return c.swap(ctx, name, old, value)
	})
	if err != nil {
		return 0, err
	}
	return revision(value), nil
}

// List implements keystore.Backend. The LSA does not enumerate secrets, so that
// it works only where there are none: for names that are not kept here.
func (b *Backend) List(_ context.Context, prefix string) ([]keystore.Entry, error) {
	if strings.HasPrefix(prefix, keystore.SecretPrefix) || strings.HasPrefix(keystore.SecretPrefix, prefix) {
		return nil, fmt.Errorf("lsastore: the LSA does not list its secrets: %w", errors.ErrUnsupported)
	}
	return nil, nil
}

// maxValue is the longest value, in octets: more than a key pair has, and it
// fits in one call.
const maxValue = 32 << 10

func isKept(name string) bool {
	const maxSecretName = 128 // [MS-LSAD] 3.1.1.4
	return strings.HasPrefix(name, keystore.SecretPrefix) && len(name) <= maxSecretName && !strings.Contains(name, `\`)
}

// revision tells one value from another. It is never 0.
func revision(value []byte) keystore.Revision {
	sum := sha256.Sum256(value)
	return max(1, keystore.Revision(binary.LittleEndian.Uint64(sum[:])))
}

// get reads a secret. ErrNotFound means that both ways to it say so.
func (c *conn) get(ctx context.Context, name string) ([]byte, error) {
	if !c.noPrivateData {
		value, err := c.lsa.RetrievePrivateData(ctx, c.policy, name)
		switch {
		case err == nil:
			return value, nil
		case errors.Is(err, dcerpc.FaultOpRange):
			c.noPrivateData = true
		case !errors.Is(err, lsaclient.StatusNameNotFound) && !errors.Is(err, lsaclient.ErrNoValue):
			return nil, err
		}
		// That it gives no value does not tell a secret without one from
		// none at all: to open it does.
	}
	secret, err := c.lsa.OpenSecret(ctx, c.policy, name, lsaclient.SecretQueryValue)
	if errors.Is(err, lsaclient.StatusNameNotFound) {
		return nil, fmt.Errorf("%w: %w", keystore.ErrNotFound, err)
	}
	if err != nil {
		return nil, err
	}
	value, err := c.lsa.QuerySecret(ctx, secret)
	// Where it is not closed it ends with the connection.
	err = errors.Join(err, c.lsa.Close(ctx, secret))
	if errors.Is(err, lsaclient.ErrNoValue) || errors.Is(err, lsaclient.StatusNameNotFound) {
		err = fmt.Errorf("%w: %s: %w", ErrNoValue, name, hideNotFound(err))
	}
	if err != nil {
		clear(value)
		return nil, err
	}
	return value, nil
}

// hideNotFound keeps what an opened secret answers from looking like absence.
func hideNotFound(err error) error { return errors.New(err.Error()) }

// swap writes a secret if its value is still that of old, and looks whether it
// is there.
func (c *conn) swap(ctx context.Context, name string, old keystore.Revision, value []byte) error {
	present, err := c.get(ctx, name)
	is := keystore.Revision(0)
	switch {
	case err == nil:
		is = revision(present)
		clear(present)
	case !errors.Is(err, keystore.ErrNotFound):
		return err
	}
	if is != old {
		return keystore.ErrConflict
	}
	if err := c.put(ctx, name, old == 0, value); err != nil {
		if errors.Is(err, keystore.ErrConflict) {
			return err
		}
		return fmt.Errorf("%w: %w", errNotRepeatable, err)
	}
	written, err := c.get(ctx, name)
	if err != nil {
		return fmt.Errorf("%w: reading it again: %w", errNotRepeatable, hideNotFound(err))
	}
	defer clear(written)
	if subtle.ConstantTimeCompare(written, value) != 1 {
		return keystore.ErrConflict // somebody wrote after us, and won
	}
	return nil
}

// put writes a secret. A new one is created first, which only one writer can
// do: no key is ever replaced.
func (c *conn) put(ctx context.Context, name string, create bool, value []byte) error {
	if !create && !c.noPrivateData {
		err := c.lsa.StorePrivateData(ctx, c.policy, name, value)
		if !errors.Is(err, dcerpc.FaultOpRange) {
			return err
		}
		c.noPrivateData = true
	}
	var secret lsaclient.Handle
	var err error
	if create {
		secret, err = c.lsa.CreateSecret(ctx, c.policy, name, lsaclient.SecretSetValue)
		if errors.Is(err, lsaclient.StatusNameCollision) {
			return keystore.ErrConflict
		}
	} else {
		secret, err = c.lsa.OpenSecret(ctx, c.policy, name, lsaclient.SecretSetValue)
	}
	if err != nil {
		return err
	}
	return errors.Join(c.lsa.SetSecret(ctx, secret, value), c.lsa.Close(ctx, secret))
}
