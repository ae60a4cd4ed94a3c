package keystore

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
)

var (
	// ErrNoStore says that the backend holds no store yet.
	ErrNoStore = errors.New("keystore: there is no store here; create one first")
	// ErrStoreExists says that the backend already holds a store, or remains
	// of one, which are left alone.
	ErrStoreExists = errors.New("keystore: there is a store here already")
	// ErrDomain says that the names or the SID of a domain are not usable.
	ErrDomain = errors.New("keystore: domain is not usable")
)

// headerName is the entry that makes a backend a store.
const headerName = "store"

// headerFormat is the version of the header and of the layout of the store.
const headerFormat = 2

// Domain is the domain that a store serves.
type Domain struct {
	// DNSName is the domain's DNS name, lower case, as in "bkrp.example". It
	// becomes the name in certificates ([MS-BKRP] 2.2.1).
	DNSName string `json:"dnsName"`
	// NetBIOSName is the short name, upper case, of at most 15 characters.
	NetBIOSName string `json:"netbiosName"`
	// SID is the domain's SID, S-1-5-21-x-y-z for real ones. The SIDs of
	// accounts are its children.
	SID dtyp.SID `json:"sid"`
}

// RandomDomainSID draws the SID of a new domain: S-1-5-21 and 96 random bits.
func RandomDomainSID() dtyp.SID {
	var b [12]byte
	rand.Read(b[:])
	le := binary.LittleEndian
	sid, _ := dtyp.NewSID(5, 21, le.Uint32(b[0:]), le.Uint32(b[4:]), le.Uint32(b[8:])) // four sub-authorities are never too many
	return sid
}

// check returns the domain with its names in canonical case.
func (d Domain) check() (Domain, error) {
	d.DNSName = strings.ToLower(d.DNSName)
	d.NetBIOSName = strings.ToUpper(d.NetBIOSName)
	labels := strings.Split(d.DNSName, ".")
	for _, label := range labels {
		if !isLabel(label, 63) {
			return Domain{}, fmt.Errorf("%w: %q is not a DNS name", ErrDomain, d.DNSName)
		}
	}
	if len(d.DNSName) > 253 {
		return Domain{}, fmt.Errorf("%w: DNS name is longer than 253 characters", ErrDomain)
	}
	if !isLabel(d.NetBIOSName, 15) {
		return Domain{}, fmt.Errorf("%w: %q is not a NetBIOS name of up to 15 letters, digits and hyphens", ErrDomain, d.NetBIOSName)
	}
	// An account has one sub-authority more than its domain.
	if n := len(d.SID.SubAuthorities()); d.SID.IsZero() || n == 0 || n >= dtyp.MaxSubAuthorities {
		return Domain{}, fmt.Errorf("%w: %q cannot be the SID of a domain", ErrDomain, d.SID)
	}
	return d, nil
}

// isLabel reports whether s is 1 to limit letters, digits and hyphens (or
// underscores, which real domains have), without a hyphen at either end.
func isLabel(s string, limit int) bool {
	if s == "" || len(s) > limit || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for _, c := range []byte(s) {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && !('0' <= c && c <= '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// header is the public part of a store, as JSON in the entry "store".
type header struct {
	Format int       `json:"format"`
	ID     dtyp.GUID `json:"id"`
	Seals  []seal    `json:"seals"`  // the same data keys under each KEK that opens the store
	Sealed []byte    `json:"sealed"` // a sealedHeader, sealed as the value "store"
}

// maxSeals is how many KEKs may open a store: the one it has, and during a
// rekey the next one.
const maxSeals = 2

// sealedHeader is the part of the header that nobody may alter.
type sealedHeader struct {
	Domain  Domain    `json:"domain"`
	Created time.Time `json:"created"`
	// Restoring names the dump that a store is being filled from, until it is
	// whole; see Restore.
	Restoring []byte `json:"restoring,omitempty"`
}

// parseHeader reads the entry "store".
func parseHeader(b []byte) (*header, error) {
	h := new(header)
	if err := strictJSON(b, h); err != nil {
		return nil, fmt.Errorf("%w: the store's header is not readable", ErrCorrupt)
	}
	if h.Format != headerFormat {
		return nil, fmt.Errorf("%w: the store has format %d, this program knows %d", ErrCorrupt, h.Format, headerFormat)
	}
	if h.ID.IsZero() || len(h.Seals) == 0 || len(h.Seals) > maxSeals || len(h.Sealed) == 0 {
		return nil, fmt.Errorf("%w: the store's header is incomplete", ErrCorrupt)
	}
	return h, nil
}

// newHeader makes the header of a new store and the vault it opens.
func newHeader(ctx context.Context, backend Backend, sealer Sealer, id dtyp.GUID, inner sealedHeader) (*header, *vault, error) {
	keys := dataKeys(nil).with()
	s, err := newSeal(ctx, sealer, id, keys)
	if err != nil {
		return nil, nil, err
	}
	h := &header{Format: headerFormat, ID: id, Seals: []seal{s}}
	v := newVault(backend, id, keys)
	if err := h.sealInner(v, inner); err != nil {
		return nil, nil, err
	}
	return h, v, nil
}

// sealInner puts the sealed part into the header, under v's current data key.
func (h *header) sealInner(v *vault, inner sealedHeader) error {
	b, err := json.Marshal(inner)
	if err != nil {
		return fmt.Errorf("keystore: writing the header: %w", err)
	}
	h.Sealed, err = v.seal(headerName, b)
	return err
}

// readHeader reads the header of the store in a backend. ErrNotFound means that
// there is none.
func readHeader(ctx context.Context, backend Backend) (*header, Revision, error) {
	b, rev, err := backend.Get(ctx, headerName)
	if err != nil {
		return nil, 0, fmt.Errorf("reading the store's header: %w", err)
	}
	h, err := parseHeader(b)
	return h, rev, err
}

// write puts the header into a backend, as Backend.CompareAndSwap.
func (h *header) write(ctx context.Context, backend Backend, old Revision) error {
	b, err := json.Marshal(h)
	if err != nil {
		return fmt.Errorf("keystore: writing the header: %w", err)
	}
	if _, err = backend.CompareAndSwap(ctx, headerName, old, b); err != nil {
		return fmt.Errorf("writing the header: %w", err)
	}
	return nil
}

// keks names the KEKs that open the store.
func (h *header) keks() []string {
	names := make([]string, len(h.Seals))
	for i := range h.Seals {
		names[i] = h.Seals[i].KEK
	}
	return names
}

// unlock opens what the header seals.
func (h *header) unlock(ctx context.Context, backend Backend, sealer Sealer) (*vault, *sealedHeader, error) {
	_, keys, err := openedBy(ctx, h.Seals, sealer, h.ID)
	if err != nil {
		return nil, nil, fmt.Errorf("opening store %v: %w", h.ID, err)
	}
	v := newVault(backend, h.ID, keys)
	inner, err := h.inner(v)
	if err != nil {
		return nil, nil, err
	}
	return v, inner, nil
}

// inner opens and reads the sealed part of the header.
func (h *header) inner(v *vault) (*sealedHeader, error) {
	b, err := v.open(headerName, h.Sealed)
	if err != nil {
		return nil, fmt.Errorf("opening the header of store %v: %w", h.ID, err)
	}
	inner := new(sealedHeader)
	if err := strictJSON(b, inner); err != nil {
		return nil, fmt.Errorf("%w: the sealed part of the header is not readable", ErrCorrupt)
	}
	if inner.Domain, err = inner.Domain.check(); err != nil {
		return nil, fmt.Errorf("opening the header of store %v: %w", h.ID, err)
	}
	return inner, nil
}

// strictJSON reads one JSON value that fills b and has no unknown field.
func strictJSON(b []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("keystore: something follows the JSON value")
	}
	return nil
}
