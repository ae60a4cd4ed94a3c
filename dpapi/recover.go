package dpapi

import (
	"context"
	"errors"
	"fmt"
)

// ErrNoDomainKey says that a file has no domain key part, and so nothing that a
// BackupKey server could open.
var ErrNoDomainKey = errors.New("dpapi: the file has no domain key part: only the password of its user opens it")

// Recover has the domain key part of the file opened ([MS-BKRP] 4) and gives the
// master key. open takes a wrapped secret of either kind and gives the secret; it
// is the Unwrap of a bkrpclient.Client, or does the same with the domain's key at
// hand. The caller clears the result.
//
// What a wrong master key would show by is little. open proves that the part is
// as it was wrapped, by the hash in it or by its MAC, and gives the secret to its
// owner only. Its length is compared here. Nothing else in the file can be held
// against it: the check value of the master key part is keyed by the user's
// password, the backup key part has room for a shorter key only, and the domain key
// part does not say which master key it is of, so that the part of another file of
// the same user is not noticed. What settles it is a blob that the key decrypts.
//
// The errors are ErrNoDomainKey, ErrMasterKey, and those of open, wrapped.
func (f *MasterKeyFile) Recover(ctx context.Context, open func(ctx context.Context, wrapped []byte) ([]byte, error)) (*MasterKey, error) {
	if len(f.DomainKey) == 0 {
		return nil, ErrNoDomainKey
	}
	secret, err := open(ctx, f.DomainKey)
	if err != nil {
		return nil, fmt.Errorf("opening the domain key part of master key %v: %w", f.GUID, err)
	}
	defer clear(secret)
	return NewMasterKey(f.GUID, secret)
}

// ParseFile reads a master key file that fills b, as it stands in a user's
// profile or, with the header of a roamed credential, in the directory. The
// result refers to b. Errors wrap ErrFormat.
func ParseFile(b []byte) (*MasterKeyFile, error) {
	if len(b) == 0 || b[0] != '%' {
		return ParseMasterKeyFile(b)
	}
	r, err := ParseRoamedCredential(b)
	if err != nil {
		return nil, err
	}
	if r.Kind != RoamedMasterKey {
		return nil, fmt.Errorf("%w: roamed credential of kind %c, and %c is a master key file", ErrFormat, r.Kind, RoamedMasterKey)
	}
	return ParseMasterKeyFile(r.Data)
}
