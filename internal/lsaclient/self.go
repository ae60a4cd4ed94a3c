package lsaclient

import (
	"context"
	"fmt"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/ndr"
)

const lookupUser = 1 // SidTypeUser, [MS-LSAT] 2.2.13

// Self asks the server who the caller is: LsarGetUserName and
// LsarLookupNames.
func (c *Client) Self(ctx context.Context) (dtyp.SID, error) {
	name, err := c.userName(ctx)
	if err != nil {
		return dtyp.SID{}, err
	}
	policy, err := c.OpenPolicy(ctx, PolicyLookupNames)
	if err != nil {
		return dtyp.SID{}, err
	}
	sid, err := c.lookupName(ctx, policy, name)
	if err != nil {
		return dtyp.SID{}, err
	}
	return sid, c.Close(ctx, policy)
}

// [MS-LSAT] 3.1.4.2 LsarGetUserName: the caller's name as DOMAIN\name.
func (c *Client) userName(ctx context.Context) (string, error) {
	m := c.method("LsarGetUserName", opGetUserName)
	m.in.Referent(false) // SystemName
	m.in.Referent(false) // *UserName
	m.in.Referent(true)  // DomainName: asked for,
	m.in.Referent(false) // *DomainName: and not given
	var user, domain string
	err := c.call(ctx, m, func(r *ndr.Reader) { user, domain = readUserName(r) })
	if err == nil && user == "" {
		err = fmt.Errorf("%w: LsarGetUserName: no name in it", ErrResponse)
	}
	if domain != "" {
		user = domain + `\` + user
	}
	return user, err
}

// readUserName reads the results of LsarGetUserName.
func readUserName(r *ndr.Reader) (user, domain string) {
	if r.Referent() {
		user = readUnicodeString(r)
	}
	if r.Referent() { // to a pointer
		if r.Referent() {
			domain = readUnicodeString(r)
		}
	}
	return user, domain
}

// [MS-LSAT] 3.1.4.8 LsarLookupNames for one name, which has to be a user's.
func (c *Client) lookupName(ctx context.Context, policy Handle, name string) (sid dtyp.SID, err error) {
	m := c.method("LsarLookupNames", opLookupNames)
	w := &m.in
	w.Octets(policy[:])
	w.U32(1)   // Count
	w.Count(1) // Names
	writeUnicodeString(w, name)
	w.Align(4)
	w.U32(0) // TranslatedSids
	w.Referent(false)
	w.Enum(1) // LsapLookupWksta
	w.U32(0)  // MappedCount
	err = c.call(ctx, m, func(r *ndr.Reader) {
		domains := readReferencedDomains(r)
		sid = readTranslatedSID(r, domains)
		r.U32() // MappedCount
	})
	if err == nil && sid.IsZero() {
		err = fmt.Errorf("%w: LsarLookupNames: no user's SID in it", ErrResponse)
	}
	return sid, err
}

// [MS-LSAT] 2.2.12 LSAPR_REFERENCED_DOMAIN_LIST: the domains' SIDs.
func readReferencedDomains(r *ndr.Reader) []dtyp.SID {
	if !r.Referent() {
		return nil
	}
	entries := r.U32()
	present := r.Referent()
	r.U32() // MaxEntries
	if !present {
		return nil
	}
	n := r.Count(12)
	r.CheckCount("Entries", uint64(entries), n)
	type trust struct{ name, sid bool }
	trusts := make([]trust, n)
	for i := range trusts {
		r.U16()
		r.U16()
		trusts[i] = trust{r.Referent(), r.Referent()}
	}
	sids := make([]dtyp.SID, n)
	for i, t := range trusts {
		if t.name {
			r.UTF16()
		}
		if t.sid {
			sids[i] = r.SID()
		}
	}
	return sids
}

// [MS-LSAT] 2.2.15 LSAPR_TRANSLATED_SIDS with the one entry asked for.
func readTranslatedSID(r *ndr.Reader, domains []dtyp.SID) dtyp.SID {
	entries := r.U32()
	if !r.Referent() {
		return dtyp.SID{}
	}
	n := r.Count(12)
	r.CheckCount("Entries", uint64(entries), n)
	if n != 1 {
		r.Fail("%d answers to one name", n)
	}
	r.Align(4)
	use := r.Enum()
	rid := r.U32()
	index := r.U32()
	if r.Err() != nil || use != lookupUser || int64(index) >= int64(len(domains)) {
		return dtyp.SID{}
	}
	sid, err := domains[index].Child(rid)
	if err != nil {
		r.Fail("%v", err)
	}
	return sid
}
