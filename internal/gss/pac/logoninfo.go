package pac

import (
	"encoding/binary"
	"fmt"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/ndr"
)

// Bits of UserFlags ([MS-PAC] 2.5).
const (
	flagGuest          = 0x1
	flagExtraSIDs      = 0x20
	flagResourceGroups = 0x200
)

// LogonInfo is KERB_VALIDATION_INFO ([MS-PAC] 2.5), as far as it is of use.
type LogonInfo struct {
	EffectiveName   string
	LogonDomainName string
	LogonDomainID   dtyp.SID
	UserID          uint32
	PrimaryGroupID  uint32
	UserFlags       uint32
	GroupIDs        []uint32
	ExtraSIDs       []dtyp.SID
	ResourceDomain  dtyp.SID // zero if there are no resource groups
	ResourceIDs     []uint32
}

// unicodeString is an RPC_UNICODE_STRING ([MS-DTYP] 2.3.10) before its text.
type unicodeString struct {
	length, maximum uint16
	present         bool
}

func readUnicodeString(r *ndr.Reader) unicodeString {
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
	text, maximum, units := r.UTF16()
	if s.length%2 != 0 || s.length > s.maximum || int(s.length/2) != units || uint64(s.maximum/2) != maximum {
		r.Fail("string of other lengths than announced")
	}
	return text
}

// validation is the fixed part of the structure, with what says which parts
// follow.
type validation struct {
	LogonInfo
	strings                  [6]unicodeString // EffectiveName to HomeDirectoryDrive
	server, domain           unicodeString
	groups, extras           uint32
	resources                uint32
	hasGroups, hasDomainID   bool
	hasExtras, hasResourceID bool
	hasResources             bool
}

// parseLogonInfo reads the structure in its type serialization, version 1
// ([MS-RPCE] 2.2.6): two headers, a pointer, and what it points to.
func parseLogonInfo(b []byte) (LogonInfo, error) {
	const headers = 16
	if len(b) < headers || b[0] != 1 || b[1] != 0x10 || binary.LittleEndian.Uint16(b[2:]) != 8 {
		return LogonInfo{}, fmt.Errorf("%w: header of the logon info", ErrMalformed)
	}
	size := uint64(binary.LittleEndian.Uint32(b[8:]))
	if size > uint64(len(b)-headers) || len(b)-headers-int(size) > 7 {
		return LogonInfo{}, fmt.Errorf("%w: length of the logon info", ErrMalformed)
	}
	r := ndr.NewReader(b[headers:headers+int(size)], ndr.Encoding{})
	if !r.Referent() {
		r.Fail("nothing where the logon info should be")
	}
	v := readValidation(&r)
	v.readDeferred(&r)
	// Behind the last array there is padding up to 8 octets.
	if rest := r.Remaining(); rest < 8 {
		r.Octets(rest)
	}
	if err := r.Done(); err != nil {
		return LogonInfo{}, fmt.Errorf("%w: logon info: %w", ErrMalformed, err)
	}
	return v.LogonInfo, nil
}

// readValidation reads the fixed part.
func readValidation(r *ndr.Reader) (v validation) {
	r.Align(4)
	r.Octets(6 * 8) // LogonTime to PasswordMustChange
	for i := range v.strings {
		v.strings[i] = readUnicodeString(r)
	}
	r.Octets(2 * 2) // LogonCount, BadPasswordCount
	v.UserID = r.U32()
	v.PrimaryGroupID = r.U32()
	v.groups, v.hasGroups = r.U32(), r.Referent()
	v.UserFlags = r.U32()
	r.Octets(16) // UserSessionKey, zero with Kerberos
	v.server = readUnicodeString(r)
	v.domain = readUnicodeString(r)
	v.hasDomainID = r.Referent()
	r.Octets(2 * 4) // Reserved1
	r.Octets(4)     // UserAccountControl
	r.Octets(4 + 8 + 8 + 4 + 4)
	v.extras, v.hasExtras = r.U32(), r.Referent()
	v.hasResourceID = r.Referent()
	v.resources, v.hasResources = r.U32(), r.Referent()
	return v
}

// readDeferred reads what the pointers point to, in their order.
func (v *validation) readDeferred(r *ndr.Reader) {
	var texts [6]string
	for i, s := range v.strings {
		texts[i] = s.text(r)
	}
	v.EffectiveName = texts[0]
	v.GroupIDs = readGroups(r, v.groups, v.hasGroups)
	v.server.text(r)
	v.LogonDomainName = v.domain.text(r)
	if v.hasDomainID {
		v.LogonDomainID = r.SID()
	}
	v.ExtraSIDs = readExtras(r, v.extras, v.hasExtras)
	if v.hasResourceID {
		v.ResourceDomain = r.SID()
	}
	v.ResourceIDs = readGroups(r, v.resources, v.hasResources)
}

// readGroups reads an array of GROUP_MEMBERSHIP (2.2.2): the RIDs.
func readGroups(r *ndr.Reader, count uint32, present bool) []uint32 {
	if !present {
		if count != 0 {
			r.Fail("%d groups that are not there", count)
		}
		return nil
	}
	n := r.Count(8)
	r.CheckCount("GroupCount", uint64(count), n)
	rids := make([]uint32, 0, n)
	for range n {
		rids = append(rids, r.U32())
		r.U32() // attributes
	}
	return rids
}

// readExtras reads an array of KERB_SID_AND_ATTRIBUTES (2.2.1).
func readExtras(r *ndr.Reader, count uint32, present bool) []dtyp.SID {
	if !present {
		if count != 0 {
			r.Fail("%d extra SIDs that are not there", count)
		}
		return nil
	}
	n := r.Count(8)
	r.CheckCount("SidCount", uint64(count), n)
	for range n {
		if !r.Referent() {
			r.Fail("an extra SID that is not there")
		}
		r.U32() // attributes
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
