package pac

import (
	"encoding/binary"
	"fmt"
	"strings"
	"time"
	"unicode/utf16"
)

// ClientInfo is PAC_CLIENT_INFO ([MS-PAC] 2.7).
type ClientInfo struct {
	// AuthTime is ClientId: the authtime of the ticket, as a FILETIME.
	AuthTime uint64
	// Name is the client's name.
	Name string
}

func parseClientInfo(b []byte) (ClientInfo, error) {
	if len(b) < 10 {
		return ClientInfo{}, fmt.Errorf("%w: client info", ErrMalformed)
	}
	size := int(binary.LittleEndian.Uint16(b[8:]))
	name, ok := decodeName(b[10:], size)
	if !ok || !zeros(b[10+size:]) {
		return ClientInfo{}, fmt.Errorf("%w: client info", ErrMalformed)
	}
	return ClientInfo{AuthTime: binary.LittleEndian.Uint64(b), Name: name}, nil
}

// decodeName reads size octets of UTF-16 at the head of b. An unpaired
// surrogate is an error: no two names may become the same text.
func decodeName(b []byte, size int) (string, bool) {
	if size > len(b) || size%2 != 0 {
		return "", false
	}
	units := make([]uint16, size/2)
	for i := range units {
		units[i] = binary.LittleEndian.Uint16(b[2*i:])
	}
	text := string(utf16.Decode(units))
	again := utf16.Encode([]rune(text))
	for i := range units {
		if units[i] != again[i] {
			return "", false
		}
	}
	return text, true
}

// CheckClient compares the certificate with the ticket it came in: the name of
// the client, of which controllers leave out the realm or not, and the time of
// the first authentication ([MS-KILE] 3.3.5.6.3.2). The error wraps ErrClient.
func (p *PAC) CheckClient(name, realm string, authTime time.Time) error {
	if p.Client.AuthTime != fileTime(authTime) {
		return fmt.Errorf("%w: made for a ticket of another time", ErrClient)
	}
	// The names of a domain have no case.
	if !strings.EqualFold(p.Client.Name, name) && !strings.EqualFold(p.Client.Name, name+"@"+realm) {
		return fmt.Errorf("%w: made for %q", ErrClient, p.Client.Name)
	}
	return nil
}

// fileTime is t as a FILETIME ([MS-DTYP] 2.3.3): 100 ns since 1601.
func fileTime(t time.Time) uint64 {
	const epoch = 11644473600 // seconds from 1601 to 1970
	return uint64(t.Unix()+epoch)*1e7 + uint64(t.Nanosecond()/100)
}
