package keyform

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"filippo.io/age"
	"filippo.io/age/armor"

	"github.com/seed05845750/bkrp/dtyp"
)

const (
	bundleFormat  = "bkrp-keys"
	bundleVersion = 1

	// MaxSize is the longest file of keys that is read, in octets: about ten
	// thousand key pairs.
	MaxSize = 64 << 20
)

// ErrIdentity says that none of the identities opens a bundle.
var ErrIdentity = errors.New("keyform: the file is encrypted to other recipients than these identities")

// Bundle is one key or more with what their store knows of them. It travels as
// an age file in armor, whose plaintext is JSON (RFC 8259):
//
//	{"format":"bkrp-keys","version":1,"domain":NAME,"sid":SID,"exported":TIME,
//	 "keys":[{"guid":GUID,"kind":"ClientWrap"|"ServerWrap","created":TIME,
//	          "current":true,"secret":BASE64}, ...]}
//
// on one line without spaces and with a line end, in this order; created and
// current are absent where they are unknown or false, times are of RFC 3339 in
// UTC and whole seconds, and secret is the LSA secret of 2.2.5 or 2.2.7. Nothing
// else is read: what does not come out the same octets when it is written again
// is refused.
type Bundle struct {
	// Domain and SID are those of the domain that the keys come from.
	Domain string
	SID    dtyp.SID
	// Exported is when the bundle was made.
	Exported time.Time
	// Keys are at least one, of different GUIDs, of which at most one of each
	// kind is current.
	Keys []*Key
}

// bundleJSON is a Bundle as it is written.
type bundleJSON struct {
	Format   string    `json:"format"`
	Version  int       `json:"version"`
	Domain   string    `json:"domain"`
	SID      dtyp.SID  `json:"sid"`
	Exported time.Time `json:"exported"`
	Keys     []*Key    `json:"keys"`
}

// Clear overwrites the keys.
func (b *Bundle) Clear() {
	for _, k := range b.Keys {
		k.Clear()
	}
}

// Seal checks the keys and writes the bundle encrypted to recipients, in armor.
func (b *Bundle) Seal(w io.Writer, recipients ...age.Recipient) error {
	if err := b.check(); err != nil {
		return err
	}
	plain, err := b.marshal()
	defer clear(plain)
	if err != nil {
		return err
	}
	if sealedSize(len(plain)) > MaxSize { // it could be written, and not be read again
		return fmt.Errorf("%w: %d keys are too many for one file; export them to several", ErrUnsuited, len(b.Keys))
	}
	text := armor.NewWriter(w)
	sealed, err := age.Encrypt(text, recipients...)
	if err != nil {
		return fmt.Errorf("encrypting the keys: %w", err)
	}
	_, err = sealed.Write(plain)
	if err := errors.Join(err, sealed.Close(), text.Close()); err != nil {
		return fmt.Errorf("encrypting the keys: %w", err)
	}
	return nil
}

// sealedSize is about as long as a plaintext of n octets becomes, and no less: by
// age's header and tags, as far as those are of common length, by Base64, and by
// line ends.
func sealedSize(n int) int {
	const header, chunk, line = 64 << 10, 64 << 10, 64
	n += header + 16*(n/chunk+1)
	n = (n + 2) / 3 * 4
	return n + n/line + line
}

func (b *Bundle) marshal() ([]byte, error) {
	plain, err := json.Marshal(&bundleJSON{
		Format: bundleFormat, Version: bundleVersion,
		Domain: b.Domain, SID: b.SID, Exported: b.Exported.UTC().Truncate(time.Second), Keys: b.Keys,
	})
	if err != nil {
		return nil, fmt.Errorf("writing the keys: %w", err)
	}
	return append(plain, '\n'), nil
}

// OpenBundle decrypts a bundle, armored or not, and checks what is in it. The
// errors are ErrIdentity and ErrFormat. The caller clears the bundle.
func OpenBundle(sealed []byte, identities ...age.Identity) (*Bundle, error) {
	var r io.Reader = bytes.NewReader(sealed)
	if isArmored(sealed) {
		r = armor.NewReader(r)
	}
	opened, err := age.Decrypt(r, identities...)
	var none *age.NoIdentityMatchError
	if errors.As(err, &none) {
		return nil, ErrIdentity
	}
	if err != nil {
		return nil, fmt.Errorf("%w: reading the age file: %w", ErrFormat, err)
	}
	// age's plaintext is shorter than what it comes in.
	plain := bytes.NewBuffer(make([]byte, 0, len(sealed)+bytes.MinRead))
	_, err = io.Copy(plain, io.LimitReader(opened, int64(len(sealed))))
	defer clear(plain.Bytes())
	if err != nil {
		return nil, fmt.Errorf("%w: reading the age file: %w", ErrFormat, err)
	}
	return parseBundle(plain.Bytes())
}

// commaEvery is about how many octets of a bundle there are to a comma, at least:
// a key has five commas, and a secret of 348 octets or more.
const commaEvery = 64

// parseBundle reads the plaintext of a bundle.
func parseBundle(plain []byte) (*Bundle, error) {
	// A list of nothing would take fifty times its octets in memory.
	if bytes.Count(plain, []byte{','}) > commaEvery+len(plain)/commaEvery {
		return nil, fmt.Errorf("%w: the age file holds something else than keys", ErrFormat)
	}
	var head struct {
		Format  string `json:"format"`
		Version int    `json:"version"`
	}
	// The error of encoding/json may quote what it does not understand.
	if json.Unmarshal(plain, &head) != nil || head.Format != bundleFormat {
		return nil, fmt.Errorf("%w: the age file holds something else than keys", ErrFormat)
	}
	if head.Version != bundleVersion {
		return nil, fmt.Errorf("%w: the file is of version %d, and this program reads version %d", ErrFormat, head.Version, bundleVersion)
	}
	in := new(bundleJSON)
	if json.Unmarshal(plain, in) != nil {
		return nil, fmt.Errorf("%w: the list of keys is damaged", ErrFormat)
	}
	b := &Bundle{Domain: in.Domain, SID: in.SID, Exported: in.Exported, Keys: in.Keys}
	if err := b.check(); err != nil {
		b.Clear()
		return nil, err
	}
	again, err := b.marshal()
	defer clear(again)
	if err != nil || !bytes.Equal(again, plain) {
		b.Clear()
		return nil, fmt.Errorf("%w: the list of keys is not written as this format demands", ErrFormat)
	}
	return b, nil
}

// check proves the keys and that they can be in one bundle.
func (b *Bundle) check() error {
	if len(b.Keys) == 0 {
		return fmt.Errorf("%w: there is no key in it", ErrFormat)
	}
	seen := make(map[dtyp.GUID]bool, len(b.Keys))
	current := make(map[Kind]bool)
	for i, k := range b.Keys {
		if k == nil || k.GUID.IsZero() {
			return fmt.Errorf("%w: key %d has no GUID", ErrFormat, i+1)
		}
		if err := k.Check(); err != nil {
			return fmt.Errorf("key %v: %w", k.GUID, err)
		}
		if seen[k.GUID] || k.Current && current[k.Kind] {
			return fmt.Errorf("%w: key %v is there twice, or not the only current one", ErrFormat, k.GUID)
		}
		seen[k.GUID] = true
		current[k.Kind] = current[k.Kind] || k.Current
	}
	return nil
}

// isAge says whether octets begin as an age file does.
func isAge(b []byte) bool {
	return bytes.HasPrefix(b, []byte("age-encryption.org/")) || isArmored(b)
}

func isArmored(b []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(b, " \t\r\n"), []byte(armor.Header))
}
