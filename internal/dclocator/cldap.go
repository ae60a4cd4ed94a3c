package dclocator

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// Bits of NtVer and of NtVersion ([MS-ADTS] 6.3.1.1).
const (
	ntVersion5       = 0x00000002
	ntVersion5EX     = 0x00000004
	ntVersionWithIP  = 0x00000008
	ntVersionClosest = 0x00000010

	// askedVersion asks for the structure that Reply is, and for no part of it
	// that is not needed.
	askedVersion = ntVersion5 | ntVersion5EX
)

const netlogonAttribute = "Netlogon"

// ErrReply is an answer to a ping that makes no sense; nothing of it is used.
var ErrReply = errors.New("dclocator: malformed answer to an LDAP ping")

// errNotHeld is a well-formed answer without the attribute: the server does not
// hold the domain, or is no domain controller.
var errNotHeld = errors.New("does not hold this domain, skipped")

// Ping is an LDAP ping: a search of the root for the attribute Netlogon, in one
// UDP datagram ([MS-ADTS] 6.3.3).
type Ping struct {
	// ID is that of the LDAP message, of 31 bits.
	ID uint32
	// Domain is the DNS name of the domain that is asked for.
	Domain string
	// NtVer says which structures the asker understands.
	NtVer uint32
}

// Append appends the datagram to b.
func (p Ping) Append(b []byte) []byte {
	str := func(s string) []byte { return appendTLV(nil, tagOctetString, []byte(s)) }
	ntVer := binary.LittleEndian.AppendUint32(nil, p.NtVer)
	zero := appendUint(nil, tagInteger, 0)
	search := appendTLV(nil, tagSearchRequest,
		str(""),                           // baseObject
		appendUint(nil, tagEnumerated, 0), // scope: the base object
		appendUint(nil, tagEnumerated, 0), // derefAliases: never
		zero, zero,                        // sizeLimit, timeLimit
		appendTLV(nil, tagBoolean, []byte{0}), // typesOnly
		appendTLV(nil, tagFilterAnd,
			appendTLV(nil, tagFilterEqual, str("DnsDomain"), str(p.Domain)),
			appendTLV(nil, tagFilterEqual, str("NtVer"), appendTLV(nil, tagOctetString, ntVer))),
		appendTLV(nil, tagSequence, str(netlogonAttribute)))
	return appendTLV(b, tagSequence, appendUint(nil, tagInteger, p.ID), search)
}

// ParsePing reads a ping as Append writes it; of the filter it takes the terms
// that it knows. Errors wrap ErrReply.
func ParsePing(b []byte) (p Ping, err error) {
	bad := fmt.Errorf("%w: not a ping", ErrReply)
	msg, rest, ok := readTag(b, tagSequence)
	if !ok || len(rest) != 0 {
		return Ping{}, bad
	}
	if p.ID, msg, ok = readUint(msg, tagInteger); !ok {
		return Ping{}, bad
	}
	search, _, ok := readTag(msg, tagSearchRequest)
	for range 6 { // from baseObject to typesOnly
		if ok {
			_, _, search, ok = readTLV(search)
		}
	}
	if !ok {
		return Ping{}, bad
	}
	filter, _, ok := readTag(search, tagFilterAnd)
	for ok && len(filter) > 0 {
		var term, name, value []byte
		if term, filter, ok = readTag(filter, tagFilterEqual); !ok {
			break
		}
		if name, term, ok = readTag(term, tagOctetString); !ok {
			break
		}
		if value, _, ok = readTag(term, tagOctetString); !ok {
			break
		}
		switch {
		case strings.EqualFold(string(name), "DnsDomain"):
			p.Domain = string(value)
		case strings.EqualFold(string(name), "NtVer") && len(value) == 4:
			p.NtVer = binary.LittleEndian.Uint32(value)
		}
	}
	if !ok {
		return Ping{}, bad
	}
	return p, nil
}

// AppendAnswer appends the datagram that answers the ping with that ID: an entry
// with the attribute, unless netlogon is nil, and the end of the search.
func AppendAnswer(b []byte, id uint32, netlogon []byte) []byte {
	number := appendUint(nil, tagInteger, id)
	if netlogon != nil {
		attribute := appendTLV(nil, tagSequence,
			appendTLV(nil, tagOctetString, []byte(netlogonAttribute)),
			appendTLV(nil, tagSet, appendTLV(nil, tagOctetString, netlogon)))
		b = appendTLV(b, tagSequence, number, appendTLV(nil, tagSearchEntry,
			appendTLV(nil, tagOctetString), appendTLV(nil, tagSequence, attribute)))
	}
	empty := appendTLV(nil, tagOctetString)
	return appendTLV(b, tagSequence, number,
		appendTLV(nil, tagSearchDone, appendUint(nil, tagEnumerated, 0), empty, empty))
}

// ParseAnswer reads the datagram that answers a ping, and gives the value of the
// attribute Netlogon, which refers to b. It is nil in a well-formed answer that
// has none. Errors wrap ErrReply.
func ParseAnswer(b []byte) (id uint32, netlogon []byte, err error) {
	id, tag, op, rest, ok := readMessage(b)
	switch {
	case !ok:
		return 0, nil, fmt.Errorf("%w: not an LDAP message", ErrReply)
	case tag == tagSearchDone && len(rest) == 0:
		return id, nil, nil
	case tag != tagSearchEntry:
		return 0, nil, fmt.Errorf("%w: LDAP message of tag %#x", ErrReply, tag)
	}
	if netlogon, ok = readEntry(op); !ok {
		return 0, nil, fmt.Errorf("%w: search result entry", ErrReply)
	}
	// The end of the search stands behind it, or gets lost.
	if len(rest) != 0 {
		end, tag, _, rest, ok := readMessage(rest)
		if !ok || end != id || tag != tagSearchDone || len(rest) != 0 {
			return 0, nil, fmt.Errorf("%w: what stands behind the entry", ErrReply)
		}
	}
	return id, netlogon, nil
}

func readMessage(b []byte) (id uint32, tag byte, op, rest []byte, ok bool) {
	msg, rest, ok := readTag(b, tagSequence)
	if !ok {
		return 0, 0, nil, nil, false
	}
	if id, msg, ok = readUint(msg, tagInteger); !ok {
		return 0, 0, nil, nil, false
	}
	tag, op, _, ok = readTLV(msg) // controls may stand behind it
	return id, tag, op, rest, ok
}

// readEntry takes the one value of the attribute out of a SearchResultEntry.
func readEntry(op []byte) (netlogon []byte, ok bool) {
	if _, op, ok = readTag(op, tagOctetString); !ok { // objectName
		return nil, false
	}
	attributes, rest, ok := readTag(op, tagSequence)
	if !ok || len(rest) != 0 {
		return nil, false
	}
	for len(attributes) > 0 {
		var attribute, name, values, value []byte
		if attribute, attributes, ok = readTag(attributes, tagSequence); !ok {
			return nil, false
		}
		if name, attribute, ok = readTag(attribute, tagOctetString); !ok {
			return nil, false
		}
		if values, _, ok = readTag(attribute, tagSet); !ok {
			return nil, false
		}
		if !strings.EqualFold(string(name), netlogonAttribute) {
			continue
		}
		if value, values, ok = readTag(values, tagOctetString); !ok || len(values) != 0 || netlogon != nil {
			return nil, false
		}
		netlogon = value
	}
	return netlogon, true
}
