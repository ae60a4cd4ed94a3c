package netlogon

import (
	"fmt"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/ndr"
)

// Bits of UserFlags (2.2.1.4.11).
const (
	flagGuest        = 0x1
	flagNoEncryption = 0x2
	flagLMKey        = 0x8
	flagExtraSIDs    = 0x20
	flagMachine      = 0x80
	flagLMv2         = 0x1000 // the LMv2 response was used
	flagNTLMv2LM     = 0x2000 // the LMv2 response, with the NTLMv2 session key
)

// validation is NETLOGON_VALIDATION_SAM_INFO4 (2.2.1.4.13), as far as it is of
// use.
type validation struct {
	logoff, kickOff uint64 // FILETIMEs
	name, domain    string
	userID, groupID uint32
	groups          []uint32
	flags           uint32
	sessionKey      [16]byte
	domainID        dtyp.SID
	extras          []dtyp.SID
}

// Format writes who it is about, whatever the verb, and never the key.
func (v *validation) Format(s fmt.State, _ rune) {
	fmt.Fprintf(s, `validation of %s\%s (%v-%d)`, v.domain, v.name, v.domainID, v.userID)
}

// clear wipes the key.
func (v *validation) clear() {
	if v != nil {
		clear(v.sessionKey[:])
	}
}

// unicodeString is an RPC_UNICODE_STRING ([MS-DTYP] 2.3.10) before its text.
type unicodeString struct {
	length, maximum uint16
	present         bool
}

func readUnicodeString(r *ndr.Reader) unicodeString {
	r.AlignPointer()
	return unicodeString{length: r.U16(), maximum: r.U16(), present: r.Referent()}
}

// text reads what the string points to.
func (s unicodeString) text(r *ndr.Reader) string {
	if !s.present {
		if s.length != 0 {
			r.Fail("string of %d octets without text", s.length)
		}
		return ""
	}
	text, _, n := r.UTF16()
	if s.length%2 != 0 || s.length > s.maximum {
		r.Fail("string of %d octets in %d", s.length, s.maximum)
	}
	r.CheckCount("Length", uint64(s.length/2), n)
	return text
}

// counted is an array before its elements.
type counted struct {
	count   uint32
	present bool
}

func readCounted(r *ndr.Reader) counted { return counted{count: r.U32(), present: r.Referent()} }

// elements reads the array's own count.
func (c counted) elements(r *ndr.Reader, size int) int {
	if !c.present {
		r.CheckCount("a count", uint64(c.count), 0)
		return 0
	}
	n := r.Count(size)
	r.CheckCount("a count", uint64(c.count), n)
	return n
}

// expansionStrings is how many ExpansionStrings there are.
const expansionStrings = 10

// readSamInfo4 reads the structure and what its pointers point to. Its times
// are aligned to 4 octets.
func readSamInfo4(r *ndr.Reader) *validation {
	v := new(validation)
	r.Align(4)
	r.Octets(8) // LogonTime
	v.logoff, v.kickOff = readTime(r), readTime(r)
	r.Octets(3 * 8) // PasswordLastSet, PasswordCanChange, PasswordMustChange
	var names [6]unicodeString
	for i := range names {
		names[i] = readUnicodeString(r)
	}
	r.Octets(2 * 2) // LogonCount, BadPasswordCount
	v.userID, v.groupID = r.U32(), r.U32()
	groups := readCounted(r)
	v.flags = r.U32()
	copy(v.sessionKey[:], r.Octets(len(v.sessionKey)))
	server, domain := readUnicodeString(r), readUnicodeString(r)
	hasDomainID := r.Referent()
	r.Octets(8)                 // LMKey
	r.Octets(4)                 // UserAccountControl
	r.Octets(4 + 8 + 8 + 4 + 4) // SubAuthStatus to Reserved4
	extras := readCounted(r)
	var more [2 + expansionStrings]unicodeString // DnsLogonDomainName, Upn
	for i := range more {
		more[i] = readUnicodeString(r)
	}

	v.name = names[0].text(r)
	for _, s := range names[1:] {
		s.text(r)
	}
	v.groups = readGroups(r, groups)
	server.text(r)
	v.domain = domain.text(r)
	if hasDomainID {
		v.domainID = r.SID()
	}
	v.extras = readExtras(r, extras)
	for _, s := range more {
		s.text(r)
	}
	return v
}

// readTime reads an OLD_LARGE_INTEGER (2.2.1.1.4 in [MS-NRPC]), low part first.
func readTime(r *ndr.Reader) uint64 {
	low := r.U32()
	return uint64(r.U32())<<32 | uint64(low)
}

// readGroups reads an array of GROUP_MEMBERSHIP (2.2.1.4.9): the RIDs.
func readGroups(r *ndr.Reader, c counted) []uint32 {
	n := c.elements(r, 8)
	rids := make([]uint32, n)
	for i := range rids {
		rids[i] = r.U32()
		r.U32() // Attributes
	}
	return rids
}

// readExtras reads an array of NETLOGON_SID_AND_ATTRIBUTES (2.2.1.4.10).
func readExtras(r *ndr.Reader, c counted) []dtyp.SID {
	n := c.elements(r, 8)
	for range n {
		if !r.Referent() {
			r.Fail("an extra SID that is not there")
		}
		r.U32() // Attributes
	}
	sids := make([]dtyp.SID, 0, n)
	for range n {
		if r.Err() != nil {
			return nil
		}
		sids = append(sids, r.SID())
	}
	return sids
}

// end is when the domain wants the logon to end, zero for never.
func (v *validation) end() (t time.Time) {
	for _, ft := range []uint64{v.logoff, v.kickOff} {
		// [MS-NRPC] 2.2.1.4.11: 0x7FFFFFFFFFFFFFFF is never; nobody's logon
		// ended in 1601.
		if ft == 0 || ft >= 1<<63-1 {
			continue
		}
		at := fromFileTime(ft)
		if t.IsZero() || at.Before(t) {
			t = at
		}
	}
	return t
}

// fromFileTime is a FILETIME ([MS-DTYP] 2.3.3), 100 ns since 1601, as a Time.
func fromFileTime(ft uint64) time.Time {
	const epoch = 11644473600 // seconds from 1601 to 1970
	return time.Unix(int64(ft/1e7)-epoch, int64(ft%1e7)*100)
}
