package keystore

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/seed05845750/bkrp/dtyp"
)

// Check reads everything in the dump and returns what is wrong with it, each
// named by its entry: none for the dump of a whole store. Keys are proved by
// their arithmetic, and pointers, states, rotations and accounts by what they
// lead to.
func (d *Dump) Check() []error {
	c := &dumpCheck{Dump: d, damaged: make(map[string]bool), kinds: make(map[dtyp.GUID]KeyKind), sids: make(map[dtyp.SID]string)}
	for _, name := range d.Damaged {
		c.damaged[name] = true
	}
	if _, err := d.Domain.check(); err != nil {
		c.errs = append(c.errs, err)
	}
	for _, e := range d.Entries {
		if guid, ok := secretGUID(e.Name); ok && keySecret(guid) == e.Name {
			c.key(guid, e)
		}
	}
	for _, e := range d.Entries {
		if c.damaged[e.Name] {
			c.wrong(e.Name, "was damaged in the store")
			continue
		}
		c.entry(e)
	}
	return c.errs
}

// dumpCheck gathers what is wrong with a dump.
type dumpCheck struct {
	*Dump
	damaged    map[string]bool       // by the names in Damaged
	kinds      map[dtyp.GUID]KeyKind // of the keys that are good
	sids       map[dtyp.SID]string
	highestRID uint32
	errs       []error
}

func (c *dumpCheck) wrong(name, format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf("%w: %s: %s", ErrCorrupt, name, fmt.Sprintf(format, args...)))
}

func (c *dumpCheck) key(guid dtyp.GUID, e DumpEntry) {
	kind, _, err := dumpedKey(guid, e.Value)
	if err != nil {
		if !c.damaged[e.Name] {
			c.wrong(e.Name, "is no key: %v", err)
		}
		return
	}
	c.kinds[guid] = kind
}

// entry reads one value. Keys have been read before.
func (c *dumpCheck) entry(e DumpEntry) {
	kind, _, _ := strings.Cut(e.Name, "/")
	var err error
	switch {
	case e.Name == CurrentClientSecret:
		c.pointer(ClientWrap, e)
	case e.Name == CurrentServerSecret:
		c.pointer(ServerWrap, e)
	case e.Name == ridName:
		c.rid(e)
	case kind+"/" == accountPrefix:
		c.account(e)
	case kind+"/" == lifePrefix:
		c.life(e)
	case kind+"/" == rotationPrefix:
		c.rotation(e)
	case kind+"/" == usePrefix:
		_, err = parseUseRecord(e.Name, e.Value)
	case kind+"/" == whoPrefix:
		_, err = parseWhoRecord(e.Name, e.Value)
	default:
		if guid, ok := secretGUID(e.Name); !ok || keySecret(guid) != e.Name {
			c.wrong(e.Name, "is of no kind that this program knows")
		}
	}
	if err != nil {
		c.errs = append(c.errs, err)
	}
}

func (c *dumpCheck) pointer(kind KeyKind, e DumpEntry) {
	if len(e.Value) != dtyp.GUIDSize {
		c.wrong(e.Name, "has %d octets and is no GUID", len(e.Value))
		return
	}
	guid := dtyp.GUID(e.Value)
	if c.kinds[guid] != kind {
		c.wrong(e.Name, "leads to %v, which is no good %v key", guid, kind)
	} else if state := c.state(guid); state != KeyActive {
		c.wrong(e.Name, "leads to %v, which is %v", guid, state)
	}
}

func (c *dumpCheck) rid(e DumpEntry) {
	if len(e.Value) != 4 {
		c.wrong(e.Name, "has %d octets", len(e.Value))
		return
	}
	next := binary.LittleEndian.Uint32(e.Value)
	if next < firstRID || next > lastRID+1 {
		c.wrong(e.Name, "stands at %d", next)
		return
	}
	// Accounts are read before: their names come first.
	if next <= c.highestRID {
		c.wrong(e.Name, "stands at %d, and an account has RID %d", next, c.highestRID)
	}
}

func (c *dumpCheck) account(e DumpEntry) {
	a, err := parseAccount(e.Name, e.Value)
	if err != nil {
		c.errs = append(c.errs, err)
		return
	}
	domain, rid, ok := a.SID.Cut()
	if !ok || domain != c.Domain.SID {
		c.wrong(e.Name, "has the SID %v, which is none of the domain", a.SID)
	}
	if other, taken := c.sids[a.SID]; taken {
		c.wrong(e.Name, "has the SID of %s", other)
	}
	c.sids[a.SID] = e.Name
	c.highestRID = max(c.highestRID, rid)
}

func (c *dumpCheck) life(e DumpEntry) {
	guid, ok := lifeGUID(e.Name)
	if !ok {
		c.wrong(e.Name, "names no key")
		return
	}
	if _, err := parseLife(e.Name, e.Value); err != nil {
		c.errs = append(c.errs, err)
		return
	}
	if _, found := c.find(keySecret(guid)); !found {
		c.wrong(e.Name, "is the state of a key that is not there")
	}
}

func (c *dumpCheck) rotation(e DumpEntry) {
	var kind KeyKind
	if kind.UnmarshalText([]byte(e.Name[len(rotationPrefix):])) != nil || rotationEntry(kind) != e.Name {
		c.wrong(e.Name, "is of no kind of key")
		return
	}
	r, err := parseRotation(e.Name, kind, e.Value)
	if err != nil {
		c.errs = append(c.errs, err)
		return
	}
	if c.kinds[r.Next] != kind {
		c.wrong(e.Name, "is to %v, which is no good %v key", r.Next, kind)
	}
}
