package pac

import (
	"encoding/binary"
	"fmt"

	"github.com/seed05845750/bkrp/dtyp"
)

// upnExtended is the flag of UPN_DNS_INFO that says that the SAM name and the
// SID follow ([MS-PAC] 2.10).
const upnExtended = 0x2

// parseUPNDNSInfo gives the SID of UPN_DNS_INFO ([MS-PAC] 2.10), zero if there
// is none. The names in it are not of use here.
func parseUPNDNSInfo(b []byte) (dtyp.SID, error) {
	bad := fmt.Errorf("%w: UPN_DNS_INFO", ErrMalformed)
	if len(b) < 12 {
		return dtyp.SID{}, bad
	}
	if binary.LittleEndian.Uint32(b[8:])&upnExtended == 0 {
		return dtyp.SID{}, nil
	}
	if len(b) < 20 {
		return dtyp.SID{}, bad
	}
	size, offset := int(binary.LittleEndian.Uint16(b[16:])), int(binary.LittleEndian.Uint16(b[18:]))
	if offset < 20 || offset+size > len(b) {
		return dtyp.SID{}, bad
	}
	sid, err := dtyp.SIDFromBytes(b[offset : offset+size])
	if err != nil {
		return dtyp.SID{}, bad
	}
	return sid, nil
}
