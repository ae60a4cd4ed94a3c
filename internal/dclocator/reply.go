package dclocator

import (
	"encoding/binary"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Flags say what a domain controller is ([MS-ADTS] 6.3.1.2).
type Flags uint32

const (
	// FlagDS is a server of the directory.
	FlagDS Flags = 0x00000010
	// FlagKDC is a Kerberos KDC.
	FlagKDC Flags = 0x00000020
	// FlagClosest is a server of the client's site, or of the nearest one.
	FlagClosest Flags = 0x00000080
	// FlagWritable is a server whose copy of the directory can be written.
	FlagWritable Flags = 0x00000100
	// FlagNDNC is an answer for a naming context that is no domain.
	FlagNDNC Flags = 0x00000400
	// FlagSelectSecret is a read-only server, which keeps secrets of some
	// accounts only (DS_SELECT_SECRET_DOMAIN_6_FLAG).
	FlagSelectSecret Flags = 0x00000800
	// FlagFullSecret is a server of Windows Server 2008 or later that is not
	// read-only (DS_FULL_SECRET_DOMAIN_6_FLAG).
	FlagFullSecret Flags = 0x00001000
)

// writable says whether secrets of the domain can be made there. One that says of
// itself that it keeps some accounts' only is not believed to be.
func (f Flags) writable() bool { return f&FlagWritable != 0 && f&FlagSelectSecret == 0 }

// Opcodes of answers ([MS-ADTS] 6.3.1.3).
const (
	opcodeResponseEX    = 0x17 // LOGON_SAM_LOGON_RESPONSE_EX
	opcodePauseEX       = 0x18 // LOGON_SAM_PAUSE_RESPONSE_EX
	opcodeUserUnknownEX = 0x19 // LOGON_SAM_USER_UNKNOWN_EX
)

// Reply is NETLOGON_SAM_LOGON_RESPONSE_EX ([MS-ADTS] 6.3.1.9). Names are without
// the root's dot, and have no character that would not print.
type Reply struct {
	// Paused is a domain controller whose Netlogon service takes no logons.
	Paused bool
	// Flags say what it is.
	Flags Flags
	// DomainGUID is the domain's object, as it stands on the wire.
	DomainGUID [16]byte
	// Forest, Domain and Host are DNS names.
	Forest, Domain, Host string
	// NetBIOSDomain and NetBIOSHost are the short ones.
	NetBIOSDomain, NetBIOSHost string
	// User is whom the ping asked for.
	User string
	// Site is the domain controller's, and ClientSite the one that the client's
	// address belongs to, "" if to none.
	Site, ClientSite string
	// NtVersion says what stands in the structure.
	NtVersion uint32
}

const (
	replyHeader = 24 // Opcode, Sbz, Flags, DomainGuid
	replyTail   = 8  // NtVersion, LmNtToken, Lm20Token
	sockAddr    = 17 // DcSockAddrSize, DcSockAddr
)

// names are the compressed names in their order.
func (r *Reply) names() []*string {
	return []*string{&r.Forest, &r.Domain, &r.Host, &r.NetBIOSDomain, &r.NetBIOSHost, &r.User, &r.Site, &r.ClientSite}
}

// ParseReply reads the value of the attribute Netlogon. Errors wrap ErrReply.
func ParseReply(b []byte) (*Reply, error) {
	if len(b) < replyHeader+replyTail {
		return nil, fmt.Errorf("%w: %d octets", ErrReply, len(b))
	}
	r := &Reply{Flags: Flags(binary.LittleEndian.Uint32(b[4:])), DomainGUID: [16]byte(b[8:])}
	switch opcode := binary.LittleEndian.Uint16(b); opcode {
	case opcodeResponseEX, opcodeUserUnknownEX:
	case opcodePauseEX:
		r.Paused = true
	default:
		return nil, fmt.Errorf("%w: opcode %#x", ErrReply, opcode)
	}
	tail := len(b) - replyTail
	r.NtVersion = binary.LittleEndian.Uint32(b[tail:])
	if r.NtVersion&ntVersion5EX == 0 {
		return nil, fmt.Errorf("%w: NtVersion %#x", ErrReply, r.NtVersion)
	}
	if binary.LittleEndian.Uint32(b[tail+4:]) != 0xFFFFFFFF {
		return nil, fmt.Errorf("%w: tokens at the end", ErrReply)
	}
	at := replyHeader
	var err error
	for _, name := range r.names() {
		if *name, at, err = readName(b[:tail], at); err != nil {
			return nil, err
		}
	}
	if r.NtVersion&ntVersionWithIP != 0 {
		at += sockAddr
	}
	if r.NtVersion&ntVersionClosest != 0 && at < tail {
		if _, at, err = readName(b[:tail], at); err != nil { // NextClosestSiteName
			return nil, err
		}
	}
	if at != tail {
		return nil, fmt.Errorf("%w: its fields take %d of %d octets", ErrReply, at, tail)
	}
	return r, nil
}

// Append appends the structure without an address and without the next closest
// site; names are compressed where one has stood before. A label takes 63
// octets, of which a longer one loses the rest.
func (r *Reply) Append(b []byte) []byte {
	start := len(b)
	opcode := uint16(opcodeResponseEX)
	if r.Paused {
		opcode = opcodePauseEX
	}
	b = binary.LittleEndian.AppendUint16(b, opcode)
	b = binary.LittleEndian.AppendUint16(b, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(r.Flags))
	b = append(b, r.DomainGUID[:]...)
	before := make(map[string]int)
	for _, name := range r.names() {
		b = appendName(b, start, *name, before)
	}
	b = binary.LittleEndian.AppendUint32(b, r.NtVersion&^(ntVersionWithIP|ntVersionClosest))
	return append(b, 0xFF, 0xFF, 0xFF, 0xFF)
}

// The bounds of RFC 1035 3.1, and the mark of a pointer (4.1.4).
const (
	maxLabel    = 63
	maxName     = 255
	pointerMark = 0xC0
	maxPointer  = 0x3FFF
)

// readName reads the name at an offset, compressed as in RFC 1035 4.1.4 ([MS-ADTS]
// 6.3.7): it is made of labels, and of at most one pointer in each stretch, which
// leads to before that stretch. Thus it ends. next is where the next field begins.
func readName(b []byte, at int) (name string, next int, err error) {
	bad := func(what string) (string, int, error) {
		return "", 0, fmt.Errorf("%w: name with %s", ErrReply, what)
	}
	var text strings.Builder
	for stretch := at; ; {
		if at >= len(b) {
			return bad("no end")
		}
		size := int(b[at])
		at++
		switch {
		case size == 0:
			if next == 0 {
				next = at
			}
			return text.String(), next, nil
		case size&pointerMark == pointerMark:
			if at >= len(b) {
				return bad("no end")
			}
			target := (size&^pointerMark)<<8 | int(b[at])
			if next == 0 {
				next = at + 1
			}
			if target < replyHeader || target >= stretch {
				return bad("a pointer that does not lead back to a name")
			}
			at, stretch = target, target
		case size > maxLabel:
			return bad("a label of unknown kind")
		case size > len(b)-at:
			return bad("no end")
		case text.Len()+1+size > maxName:
			return bad("more than 255 octets")
		default:
			label := b[at : at+size]
			if !printableLabel(label) {
				return bad("a label of characters that do not print")
			}
			if text.Len() > 0 {
				text.WriteByte('.')
			}
			text.Write(label)
			at += size
		}
	}
}

// printableLabel keeps what would be read as two labels, or would do something
// to a terminal, out of names.
func printableLabel(label []byte) bool {
	if !utf8.Valid(label) {
		return false
	}
	for _, c := range string(label) {
		if c == '.' || !unicode.IsPrint(c) {
			return false
		}
	}
	return true
}

func appendName(b []byte, start int, name string, before map[string]int) []byte {
	for name != "" {
		if at, ok := before[name]; ok {
			return append(b, pointerMark|byte(at>>8), byte(at))
		}
		if at := len(b) - start; at <= maxPointer {
			before[name] = at
		}
		label, rest, _ := strings.Cut(name, ".")
		label = label[:min(len(label), maxLabel)]
		b = append(b, byte(len(label)))
		b = append(b, label...)
		name = rest
	}
	return append(b, 0)
}
