package bkrpclient

import (
	"context"
	"fmt"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/dcerpc"
	"github.com/seed05845750/bkrp/internal/ndr"
)

// The LSA interface ([MS-LSAD] 1.9) and the calls of it that tell a client its
// SID. It is bound in 32-bit NDR, which every server has.
var lsaInterface = dcerpc.SyntaxID{
	UUID:  dtyp.MustParseGUID("12345778-1234-abcd-ef00-0123456789ab"),
	Major: 0, Minor: 0,
}

const (
	lsaPipe = "lsarpc"

	opLookupNames = 14
	opOpenPolicy2 = 44
	opGetUserName = 45

	policyLookupNames = 0x00000800
	lookupUser        = 1 // SidTypeUser, [MS-LSAT] 2.2.13
)

// SID asks the server who the caller is: LsarGetUserName and LsarLookupNames on
// the LSA pipe. The answer is kept for the life of the Client.
func (c *Client) SID(ctx context.Context) (dtyp.SID, error) {
	var sid dtyp.SID
	err := c.do(ctx, func(ctx context.Context) error {
		if c.sid.IsZero() {
			var err error
			if c.sid, err = c.lookupSelf(ctx); err != nil {
				return err
			}
		}
		sid = c.sid
		return nil
	})
	return sid, err
}

func (c *Client) lookupSelf(ctx context.Context) (dtyp.SID, error) {
	lsa, err := c.bindPipe(ctx, lsaPipe, lsaInterface, false)
	if err != nil {
		return dtyp.SID{}, err
	}
	defer lsa.Close()
	name, err := lsaUserName(ctx, lsa)
	if err != nil {
		return dtyp.SID{}, err
	}
	policy, err := lsaOpenPolicy(ctx, lsa)
	if err != nil {
		return dtyp.SID{}, err
	}
	return lsaLookupName(ctx, lsa, policy, name)
}

// lsaCall makes a call and hands the response, up to its NTSTATUS, to read.
func lsaCall(ctx context.Context, lsa *dcerpc.Client, name string, opnum uint16, stub []byte, read func(*ndr.Reader)) error {
	out, err := lsa.Call(ctx, opnum, stub)
	if err != nil {
		return fmt.Errorf("calling %s: %w", name, err)
	}
	r := ndr.NewReader(out, lsa.Encoding())
	read(&r)
	status := r.U32()
	if err := r.Done(); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrResponse, name, err)
	}
	if status != 0 {
		return fmt.Errorf("bkrpclient: %s: server answered NTSTATUS 0x%08X", name, status)
	}
	return nil
}

// [MS-LSAT] 3.1.4.2 LsarGetUserName: the caller's name as DOMAIN\name.
func lsaUserName(ctx context.Context, lsa *dcerpc.Client) (string, error) {
	w := ndr.NewWriter(nil, lsa.Encoding())
	w.Referent(false) // SystemName
	w.Referent(false) // *UserName
	w.Referent(true)  // DomainName: asked for,
	w.Referent(false) // *DomainName: and not given
	var user, domain string
	err := lsaCall(ctx, lsa, "LsarGetUserName", opGetUserName, w.Buffer(), func(r *ndr.Reader) {
		user, domain = readUserName(r)
	})
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

// [MS-LSAD] 3.1.4.4.1 LsarOpenPolicy2.
func lsaOpenPolicy(ctx context.Context, lsa *dcerpc.Client) (policy [20]byte, err error) {
	w := ndr.NewWriter(nil, lsa.Encoding())
	w.Referent(false) // SystemName
	w.U32(24)         // ObjectAttributes, of which the server reads nothing
	for range 2 {
		w.Referent(false)
	}
	w.U32(0)
	for range 2 {
		w.Referent(false)
	}
	w.U32(policyLookupNames)
	err = lsaCall(ctx, lsa, "LsarOpenPolicy2", opOpenPolicy2, w.Buffer(), func(r *ndr.Reader) {
		r.Align(4)
		copy(policy[:], r.Octets(len(policy)))
	})
	return policy, err
}

// [MS-LSAT] 3.1.4.8 LsarLookupNames for one name, which has to be a user's.
func lsaLookupName(ctx context.Context, lsa *dcerpc.Client, policy [20]byte, name string) (sid dtyp.SID, err error) {
	w := ndr.NewWriter(nil, lsa.Encoding())
	w.Octets(policy[:])
	w.U32(1)   // Count
	w.Count(1) // Names
	n := 2 * ndr.UTF16Len(name)
	w.U16(uint16(n))
	w.U16(uint16(n))
	w.Referent(true)
	w.UTF16(name)
	w.Align(4)
	w.U32(0) // TranslatedSids
	w.Referent(false)
	w.Enum(1) // LsapLookupWksta
	w.U32(0)  // MappedCount
	err = lsaCall(ctx, lsa, "LsarLookupNames", opLookupNames, w.Buffer(), func(r *ndr.Reader) {
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
			sids[i] = readSID(r)
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

// [MS-DTYP] 2.3.10 RPC_UNICODE_STRING with what it points to behind it.
func readUnicodeString(r *ndr.Reader) string {
	length := r.U16()
	r.U16()
	if !r.Referent() {
		return ""
	}
	text, _, units := r.UTF16()
	r.CheckCount("Length", uint64(length/2), units)
	return text
}

// [MS-DTYP] 2.4.2.3 RPC_SID: the binary SID behind the count of its
// sub-authorities.
func readSID(r *ndr.Reader) dtyp.SID {
	n := r.Count(4)
	if n > dtyp.MaxSubAuthorities {
		r.Fail("SID of %d sub-authorities", n)
		return dtyp.SID{}
	}
	sid, err := dtyp.SIDFromBytes(r.Octets(8 + 4*n))
	if err != nil {
		r.Fail("%v", err)
	}
	return sid
}
