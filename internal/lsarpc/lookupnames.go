package lsarpc

import "context"

// maxNames is the range of Count in LsarLookupNames.
const maxNames = 1000

// The levels of a look-up ([MS-LSAT] 2.2.16), which differ in where else a
// server would ask; this one has only itself.
const (
	firstLookupLevel = 1
	lastLookupLevel  = 7
)

// lookupNames is LsarLookupNames ([MS-LSAT] 3.1.4.8, opnum 14).
func (s *server) lookupNames(ctx context.Context, c *call) error {
	id := readHandle(&c.in)
	count := c.in.U32()
	names := c.readNames(count)
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
		return c.writeTranslatedSids(nil, nil, 0, statusInvalidHandle)
	case level < firstLookupLevel || level > lastLookupLevel:
		return c.writeTranslatedSids(nil, nil, 0, statusInvalidParameter)
	}
	var domains referencedDomains
	sids := make([]translatedSid, len(names))
	found := 0
	for i, name := range names {
		p, ok, err := s.byName(ctx, c.Identity, name)
		if err != nil {
			s.Log.ErrorContext(ctx, "looking up a name", "error", err)
			return c.writeTranslatedSids(nil, nil, 0, statusInternalError)
		}
		sids[i] = translatedSid{kind: typeUnknown, domain: noDomain}
		if ok {
			sids[i] = translate(p, &domains)
			found++
		}
	}
	return c.writeTranslatedSids(domains, sids, found, mapped(found, len(names)))
}

// readNames reads the conformant array of RPC_UNICODE_STRINGs: the fixed parts
// of all, then their texts.
func (c *call) readNames(count uint32) []string {
	r := &c.in
	n := r.Count(8)
	r.CheckCount("Count", uint64(count), n)
	if n > maxNames {
		r.Fail("%d names", n)
	}
	if r.Err() != nil {
		return nil
	}
	fixed := make([]unicodeString, n)
	for i := range fixed {
		fixed[i] = readUnicodeString(r)
	}
	names := make([]string, n)
	for i, u := range fixed {
		names[i] = u.text(r)
	}
	return names
}

// skipTranslated reads the list of answers as it is on the way in, where it
// has to be empty: a count and a NULL pointer.
func (c *call) skipTranslated() {
	c.in.AlignPointer()
	n := c.in.U32()
	if c.in.Referent() {
		// An array without elements; an answer in a question has no meaning.
		c.in.CheckCount("Entries", uint64(n), c.in.Count(1))
	}
	if n != 0 {
		c.in.Fail("%d answers in a question", n)
	}
}

// translatedSid is LSA_TRANSLATED_SID ([MS-LSAT] 2.2.14).
type translatedSid struct {
	kind   sidType
	rid    uint32
	domain int32
}

// translate gives a principal in terms of its domain's place in the list.
func translate(p principal, domains *referencedDomains) translatedSid {
	t := translatedSid{kind: p.kind, domain: domains.index(p.domain)}
	if p.kind == typeDomain {
		t.rid = 0xFFFFFFFF
	} else {
		_, t.rid, _ = p.sid.Cut()
	}
	return t
}

func (c *call) writeTranslatedSids(domains referencedDomains, sids []translatedSid, found int, st status) error {
	w := &c.out
	domains.write(w)
	w.AlignPointer()
	w.U32(uint32(len(sids)))
	w.Referent(len(sids) > 0)
	if len(sids) > 0 {
		w.Count(len(sids))
		for _, t := range sids {
			w.Align(4)
			w.Enum(uint32(t.kind))
			w.U32(t.rid)
			w.U32(uint32(t.domain))
		}
	}
	w.U32(uint32(found))
	st.write(w)
	return nil
}
