package krb5

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/seed05845750/bkrp/internal/gss"
)

// maxKeytab bounds a keytab file, in octets.
const maxKeytab = 1 << 20

var errKeytab = errors.New("krb5: malformed keytab")

// keytabEntry is one key of one service.
type keytabEntry struct {
	realm   string
	service principal
	// kvno is the key's version; wide says that all 32 bits of it are known,
	// and not just the lowest 8.
	kvno uint32
	wide bool
	key  Key
}

// parseKeytab reads the file format that MIT, Heimdal and Samba write, version
// 0x502. Keys of other encryption types than this package's are left out. An
// error never quotes the file.
func parseKeytab(b []byte) ([]keytabEntry, error) {
	if len(b) < 2 || b[0] != 5 || b[1] != 2 {
		return nil, fmt.Errorf("%w: not a keytab of version 0x502", errKeytab)
	}
	b = b[2:]
	var entries []keytabEntry
	for len(b) >= 4 {
		size := int64(int32(binary.BigEndian.Uint32(b)))
		b = b[4:]
		hole := size < 0
		if hole {
			size = -size
		}
		if size > int64(len(b)) {
			return nil, fmt.Errorf("%w: cut short", errKeytab)
		}
		record := b[:size]
		b = b[size:]
		if size == 0 {
			break // some writers leave zeros at the end
		}
		if hole {
			continue
		}
		e, ok := parseKeytabEntry(record)
		if !ok {
			return nil, fmt.Errorf("%w: entry %d", errKeytab, len(entries)+1)
		}
		if e.key.check() == nil {
			entries = append(entries, e)
		}
	}
	return entries, nil
}

// keytabCursor reads the big-endian fields of an entry.
type keytabCursor struct {
	b   []byte
	bad bool
}

func (c *keytabCursor) take(n int) []byte {
	if n > len(c.b) {
		c.bad, c.b = true, nil
	}
	if c.bad {
		return make([]byte, min(n, 4))
	}
	v := c.b[:n]
	c.b = c.b[n:]
	return v
}

func (c *keytabCursor) u8() uint8    { return c.take(1)[0] }
func (c *keytabCursor) u16() uint16  { return binary.BigEndian.Uint16(c.take(2)) }
func (c *keytabCursor) u32() uint32  { return binary.BigEndian.Uint32(c.take(4)) }
func (c *keytabCursor) text() string { return string(c.take(int(c.u16()))) }

func parseKeytabEntry(record []byte) (e keytabEntry, ok bool) {
	c := &keytabCursor{b: record}
	parts := int(c.u16())
	e.realm = c.text()
	for range min(parts, maxParts) {
		e.service.parts = append(e.service.parts, c.text())
	}
	e.service.kind = int32(c.u32())
	c.u32() // when it was written
	e.kvno = uint32(c.u8())
	e.key.Type = EncType(c.u16())
	e.key.Value = append([]byte(nil), c.take(int(c.u16()))...)
	if len(c.b) >= 4 {
		if v := c.u32(); v != 0 {
			e.kvno, e.wide = v, true
		}
	}
	return e, !c.bad && parts > 0 && parts <= maxParts
}

// is tells whether the entry's key may open a ticket of the version.
func (e *keytabEntry) is(kvno uint32) bool {
	return e.kvno == kvno || !e.wide && e.kvno == kvno&0xFF
}

// serves tells whether a ticket for the service in the realm is for who has
// this entry: it names the service itself or, with the class host, all classes
// that a domain takes for it (sPNMappings, [MS-ADTS] 6.1.1.2.4.1.2). Case does
// not tell services of a domain apart.
func (e *keytabEntry) serves(realm string, service principal) bool {
	if !strings.EqualFold(e.realm, realm) || len(e.service.parts) != len(service.parts) {
		return false
	}
	for i, part := range e.service.parts {
		if i == 0 && len(service.parts) > 1 && strings.EqualFold(part, "host") {
			continue
		}
		if !strings.EqualFold(part, service.parts[i]) {
			return false
		}
	}
	return true
}

// Reasons why a keytab has no key for a ticket.
var (
	errService    = fmt.Errorf("krb5: the keytab does not have the service of the ticket: %w", gss.ErrRefused)
	errKeyVersion = fmt.Errorf("krb5: the keytab does not have the key version or type of the ticket: %w", gss.ErrLogon)
)

// keytab is the content of a keytab file; it does not change.
type keytab []keytabEntry

// candidates gives the entries whose keys a ticket may be sealed with, each key
// once. It is an error if there are none.
func (k keytab) candidates(realm string, service principal, sealed encrypted) ([]*keytabEntry, error) {
	var found []*keytabEntry
	known := false
	for i := range k {
		e := &k[i]
		if !e.serves(realm, service) {
			continue
		}
		known = true
		if e.key.Type != sealed.etype || sealed.hasKvno && !e.is(sealed.kvno) ||
			slices.ContainsFunc(found, func(f *keytabEntry) bool { return f.key.equal(e.key) }) {
			continue
		}
		found = append(found, e)
	}
	switch {
	case !known:
		return nil, errService
	case len(found) == 0:
		return nil, errKeyVersion
	}
	return found, nil
}
