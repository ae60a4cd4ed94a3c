package keystore

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/seed05845750/bkrp/dtyp"
)

var (
	// ErrNoAccount says that there is definitely no account of that name or
	// SID.
	ErrNoAccount = errors.New("keystore: no such account")
	// ErrAccountExists says that the name is taken, in whatever case.
	ErrAccountExists = errors.New("keystore: account exists already")
)

// Account is somebody who may log on to a server that stands alone.
type Account struct {
	// Name is the name as it was given; its case does not count.
	Name string
	// SID is the domain's SID with the account's RID. It is never given to
	// another account, also not after this one is removed, since secrets are
	// bound to it.
	SID dtyp.SID
	// NTHash is what NTLM proves knowledge of.
	NTHash NTHash
	// Disabled accounts do not log on.
	Disabled bool
}

const (
	accountPrefix = "account/"
	ridName       = "rid"
	// firstRID is the first RID given to an account. Those below 1000 belong
	// to well-known principals, and those up to 1100 to none.
	firstRID = 1100
	// lastRID is the largest RID that Windows gives out (30 bits).
	lastRID = 1<<30 - 1
	// administratorRID is well-known ([MS-DTYP] 2.4.2.4).
	administratorRID = 500
)

// accountEntry is the name of an account's entry.
func accountEntry(name string) string { return accountPrefix + foldAccount(name) }

// AddAccount adds an account and gives it a RID that no account has had
// before. The one called Administrator has RID 500 in every domain; Guest and
// krbtgt are not for people and are refused. The errors are ErrAccountName,
// ErrPassword and ErrAccountExists.
func (s *Store) AddAccount(ctx context.Context, name, password string) (Account, error) {
	if s.vault.bare {
		return Account{}, ErrNoAccounts
	}
	if err := errors.Join(checkAccountName(name), checkPassword(password)); err != nil {
		return Account{}, err
	}
	entry := accountEntry(name)
	_, _, err := s.vault.get(ctx, entry)
	if err == nil {
		return Account{}, fmt.Errorf("%w: %s", ErrAccountExists, name)
	}
	if !errors.Is(err, ErrNotFound) {
		return Account{}, err
	}
	rid, err := s.accountRID(ctx, name)
	if err != nil {
		return Account{}, err
	}
	a := Account{Name: name, NTHash: newNTHash(password)}
	if a.SID, err = s.domain.SID.Child(rid); err != nil {
		return Account{}, fmt.Errorf("adding account %s: %w", name, err)
	}
	err = s.writeAccount(ctx, entry, 0, a)
	if errors.Is(err, ErrConflict) {
		return Account{}, fmt.Errorf("%w: %s", ErrAccountExists, name)
	}
	if err != nil {
		return Account{}, err
	}
	return a, nil
}

// SetPassword changes the password of an account.
func (s *Store) SetPassword(ctx context.Context, name, password string) error {
	if err := checkPassword(password); err != nil {
		return err
	}
	hash := newNTHash(password)
	return s.changeAccount(ctx, name, func(a *Account) { a.NTHash = hash })
}

// SetDisabled keeps an account from logging on, or lets it again.
func (s *Store) SetDisabled(ctx context.Context, name string, disabled bool) error {
	return s.changeAccount(ctx, name, func(a *Account) { a.Disabled = disabled })
}

// RemoveAccount removes an account. Its secrets stay bound to its SID, which
// nobody will have again, except for Administrator's.
func (s *Store) RemoveAccount(ctx context.Context, name string) error {
	entry, err := s.entryOf(name)
	if err != nil {
		return err
	}
	for range pointerAttempts {
		_, rev, err := s.vault.backend.Get(ctx, entry)
		if errors.Is(err, ErrNotFound) {
			return fmt.Errorf("%w: %s", ErrNoAccount, name)
		}
		if err != nil && !(errors.Is(err, ErrCorrupt) && rev != 0) {
			return fmt.Errorf("reading %s: %w", entry, err)
		}
		_, err = s.vault.backend.CompareAndSwap(ctx, entry, rev, nil)
		s.changed(entry)
		if err == nil {
			return nil
		}
		if !errors.Is(err, ErrConflict) {
			return fmt.Errorf("removing %s: %w", entry, err)
		}
	}
	return fmt.Errorf("removing %s: %w", entry, ErrConflict)
}

// entryOf is the entry of a name that may be an account's.
func (s *Store) entryOf(name string) (string, error) {
	if checkAccountName(name) != nil {
		return "", fmt.Errorf("%w: %q", ErrNoAccount, name)
	}
	return accountEntry(name), nil
}

// changeAccount reads, changes and writes an account.
func (s *Store) changeAccount(ctx context.Context, name string, change func(*Account)) error {
	entry, err := s.entryOf(name)
	if err != nil {
		return err
	}
	for range pointerAttempts {
		value, rev, err := s.vault.get(ctx, entry)
		if errors.Is(err, ErrNotFound) {
			return fmt.Errorf("%w: %s", ErrNoAccount, name)
		}
		if err != nil {
			return err
		}
		a, err := parseAccount(entry, value)
		clear(value)
		if err != nil {
			return err
		}
		change(&a)
		if err = s.writeAccount(ctx, entry, rev, a); !errors.Is(err, ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("changing %s: %w", entry, ErrConflict)
}

// accountRID allocates a RID: the counter is durable before the RID is used,
// so that a crash wastes a RID and never gives one twice.
func (s *Store) accountRID(ctx context.Context, name string) (uint32, error) {
	switch foldAccount(name) {
	case "ADMINISTRATOR":
		return administratorRID, nil
	case "GUEST", "KRBTGT":
		return 0, fmt.Errorf("%w: %s is reserved", ErrAccountName, name)
	}
	var highest uint32
	looked := false
	for range pointerAttempts {
		rid, rev, err := s.nextRID(ctx)
		if err != nil {
			return 0, err
		}
		// A counter that this Store wrote last is above all RIDs. Any other is
		// compared with them, and is read again after them, since it grows.
		if !looked && (rev == 0 || rev != Revision(s.ridWritten.Load())) {
			if highest, err = s.highestRID(ctx); err != nil {
				return 0, err
			}
			looked = true
			continue
		}
		if rid <= highest {
			return 0, fmt.Errorf("%w: the counter of RIDs stands at %d and an account has RID %d", ErrCorrupt, rid, highest)
		}
		rev, err = s.vault.swap(ctx, ridName, rev, binary.LittleEndian.AppendUint32(nil, rid+1))
		if err == nil {
			s.ridWritten.Store(uint64(rev))
			return rid, nil
		}
		if !errors.Is(err, ErrConflict) {
			return 0, err
		}
	}
	return 0, fmt.Errorf("allocating a RID: %w", ErrConflict)
}

// nextRID reads the counter of RIDs. Where it is absent its revision is 0.
func (s *Store) nextRID(ctx context.Context) (rid uint32, rev Revision, err error) {
	value, rev, err := s.vault.get(ctx, ridName)
	switch {
	case errors.Is(err, ErrNotFound):
		return firstRID, 0, nil
	case err != nil:
		return 0, 0, err
	case len(value) != 4:
		return 0, 0, fmt.Errorf("%w: the counter of RIDs has %d octets", ErrCorrupt, len(value))
	}
	if rid = binary.LittleEndian.Uint32(value); rid < firstRID || rid > lastRID {
		return 0, 0, fmt.Errorf("%w: the counter of RIDs stands at %d", ErrCorrupt, rid)
	}
	return rid, rev, nil
}

// highestRID is the highest RID that an account has, 0 if there is none. The
// counter is above it, unless somebody has put back an older one or removed it:
// to go on from there would give an account the SID of another one.
func (s *Store) highestRID(ctx context.Context) (highest uint32, err error) {
	b, err := s.accounts.read(ctx)
	if err != nil {
		return 0, err
	}
	for _, a := range b.sorted {
		if _, rid, _ := a.SID.Cut(); rid > highest {
			highest = rid
		}
	}
	return highest, nil
}

// accountRecord is an account in its entry, as JSON.
type accountRecord struct {
	Version  int      `json:"version"`
	Name     string   `json:"name"`
	SID      dtyp.SID `json:"sid"`
	NTHash   []byte   `json:"ntHash"`
	Disabled bool     `json:"disabled,omitempty"`
}

// accountVersion is the version of accountRecord.
const accountVersion = 1

// writeAccount writes an account, as Backend.CompareAndSwap.
func (s *Store) writeAccount(ctx context.Context, entry string, old Revision, a Account) error {
	value, err := json.Marshal(accountRecord{
		Version: accountVersion, Name: a.Name, SID: a.SID, NTHash: a.NTHash[:], Disabled: a.Disabled,
	})
	if err != nil {
		return fmt.Errorf("keystore: writing account %s: %w", a.Name, err)
	}
	defer clear(value)
	_, err = s.vault.swap(ctx, entry, old, value)
	s.changed(entry)
	return err
}

// parseAccount reads the entry of an account.
func parseAccount(entry string, value []byte) (Account, error) {
	var r accountRecord
	if err := strictJSON(value, &r); err != nil {
		return Account{}, fmt.Errorf("%w: %s is not readable", ErrCorrupt, entry)
	}
	if r.Version != accountVersion || checkAccountName(r.Name) != nil || accountEntry(r.Name) != entry ||
		r.SID.IsZero() || len(r.NTHash) != len(NTHash{}) {
		return Account{}, fmt.Errorf("%w: %s is not a whole account", ErrCorrupt, entry)
	}
	return Account{Name: r.Name, SID: r.SID, NTHash: NTHash(r.NTHash), Disabled: r.Disabled}, nil
}
