package keystore

import (
	"context"
	"errors"

	"github.com/seed05845750/bkrp/dtyp"
)

// ErrNoAccounts says that a store over the secrets of a domain keeps no
// accounts: the domain does.
var ErrNoAccounts = errors.New("keystore: the domain keeps its accounts itself")

// ErrDomainKeys says that a store over the secrets of a domain knows nothing of
// its keys but the keys.
var ErrDomainKeys = errors.New("keystore: the domain keeps these keys, and nothing else about them")

// OpenDomain opens a Store over secrets that a domain keeps by itself (package
// lsastore). What the backend holds is the LSA secrets G$BCKUPKEY_* and nothing
// else: no header, no accounts, and values in the formats of [MS-BKRP] 2.2.5
// and 2.2.7, not sealed, since the domain's own services read and write them
// too. The names and the SID of the domain are therefore the caller's to know.
//
// The rules for keys are those of every Store: an absent current key is made,
// the key before the pointer; what cannot be told is an error.
func OpenDomain(ctx context.Context, backend Backend, d Domain, o Options) (*Store, error) {
	d, err := d.check()
	if err != nil {
		return nil, err
	}
	v := newVault(backend, dtyp.GUID{}, nil)
	v.bare = true
	return start(ctx, &Store{vault: v, domain: d}, o), nil
}
