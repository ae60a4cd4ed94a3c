package lsarpc

import (
	"context"

	"github.com/seed05845750/bkrp/dtyp"
)

// maxSids is how many SIDs one call may ask for. The range of the interface
// definition is 20480; no client around this protocol asks for more than a
// few.
const maxSids = 1000

// lookupSids is LsarLookupSids ([MS-LSAT] 3.1.4.11, opnum 15).
func (s *server) lookupSids(ctx context.Context, c *call) error {
	id := readHandle(&c.in)
	sids := c.readSids()
	c.skipTranslated()
	level := c.in.Enum()
	c.in.U32() // MappedCount
	if err := c.parsed(); err != nil {
		return err
	}
	o, err := c.handles.find(id)
	if err != nil {
		return err
	}
	switch {
	case o != policy:
		return c.writeTranslatedNames(nil, nil, 0, statusInvalidHandle)
	case level < firstLookupLevel || level > lastLookupLevel:
		return c.writeTranslatedNames(nil, nil, 0, statusInvalidParameter)
	}
	var domains referencedDomains
	names := make([]translatedName, len(sids))
	found := 0
	for i, sid := range sids {
		p, ok, err := s.bySID(ctx, c.Identity, sid)
		if err != nil {
			s.Log.ErrorContext(ctx, "looking up a SID", "error", err)
			return c.writeTranslatedNames(nil, nil, 0, statusInternalError)
		}
		names[i] = translatedName{kind: typeUnknown, name: sid.String(), domain: noDomain}
		if ok {
			names[i] = translatedName{p.kind, p.name, domains.index(p.domain)}
			found++
		}
	}
	return c.writeTranslatedNames(domains, names, found, mapped(found, len(sids)))
}

// readSids reads LSAPR_SID_ENUM_BUFFER ([MS-LSAT] 2.2.18): a count, and a
// pointer to an array of pointers to SIDs, none of which may be NULL.
func (c *call) readSids() []dtyp.SID {
	r := &c.in
	r.AlignPointer()
	entries := r.U32()
	if !r.Referent() {
		r.CheckCount("Entries", uint64(entries), 0)
		return nil
	}
	n := r.Count(4)
	r.CheckCount("Entries", uint64(entries), n)
	if n > maxSids {
		r.Fail("%d SIDs", n)
	}
	if r.Err() != nil {
		return nil
	}
	for range n {
		if !r.Referent() {
			r.Fail("a SID is NULL")
		}
	}
	sids := make([]dtyp.SID, n)
	for i := range sids {
		sids[i] = r.SID()
	}
	return sids
}

// translatedName is LSAPR_TRANSLATED_NAME ([MS-LSAT] 2.2.19).
type translatedName struct {
	kind   sidType
	name   string
	domain int32
}

func (c *call) writeTranslatedNames(domains referencedDomains, names []translatedName, found int, st status) error {
	w := &c.out
	domains.write(w)
	w.AlignPointer()
	w.U32(uint32(len(names)))
	w.Referent(len(names) > 0)
	if len(names) > 0 {
		w.Count(len(names))
		for _, t := range names {
			w.AlignPointer()
			w.Enum(uint32(t.kind))
			writeUnicodeString(w, t.name)
			w.U32(uint32(t.domain))
			w.AlignPointer()
		}
		for _, t := range names {
			writeText(w, t.name)
		}
	}
	w.U32(uint32(found))
	st.write(w)
	return nil
}
