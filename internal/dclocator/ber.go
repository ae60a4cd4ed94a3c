package dclocator

// The parts of BER that an LDAP message of RFC 4511 is made of: tags of one
// octet and definite lengths. Domain controllers write lengths in more octets
// than they need, so that a reader of DER will not do.

const (
	tagBoolean     = 0x01
	tagInteger     = 0x02
	tagOctetString = 0x04
	tagEnumerated  = 0x0A
	tagSequence    = 0x30
	tagSet         = 0x31

	tagSearchRequest = 0x63 // [APPLICATION 3]
	tagSearchEntry   = 0x64 // [APPLICATION 4]
	tagSearchDone    = 0x65 // [APPLICATION 5]
	tagFilterAnd     = 0xA0
	tagFilterEqual   = 0xA3
)

// maxLengthOctets is how many octets a long length may have.
const maxLengthOctets = 4

// readTLV cuts the first element off b.
func readTLV(b []byte) (tag byte, content, rest []byte, ok bool) {
	if len(b) < 2 || b[0]&0x1F == 0x1F {
		return 0, nil, nil, false
	}
	tag, size := b[0], int(b[1])
	b = b[2:]
	if size >= 0x80 {
		n := size & 0x7F
		if n == 0 || n > maxLengthOctets || n > len(b) {
			return 0, nil, nil, false
		}
		var long uint64
		for _, octet := range b[:n] {
			long = long<<8 | uint64(octet)
		}
		if b = b[n:]; long > uint64(len(b)) {
			return 0, nil, nil, false
		}
		size = int(long)
	}
	if size > len(b) {
		return 0, nil, nil, false
	}
	return tag, b[:size], b[size:], true
}

// readTag cuts the first element off b if it has the tag.
func readTag(b []byte, tag byte) (content, rest []byte, ok bool) {
	got, content, rest, ok := readTLV(b)
	return content, rest, ok && got == tag
}

// readUint reads a non-negative INTEGER or ENUMERATED of 31 bits at most.
func readUint(b []byte, tag byte) (v uint32, rest []byte, ok bool) {
	content, rest, ok := readTag(b, tag)
	if !ok || len(content) == 0 || len(content) > 4 || content[0] >= 0x80 {
		return 0, nil, false
	}
	for _, octet := range content {
		v = v<<8 | uint32(octet)
	}
	return v, rest, true
}

// appendTLV appends an element whose content are parts.
func appendTLV(b []byte, tag byte, parts ...[]byte) []byte {
	size := 0
	for _, p := range parts {
		size += len(p)
	}
	b = append(b, tag)
	switch {
	case size < 0x80:
		b = append(b, byte(size))
	case size < 0x100:
		b = append(b, 0x81, byte(size))
	default:
		b = append(b, 0x84, byte(size>>24), byte(size>>16), byte(size>>8), byte(size))
	}
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

// appendUint appends a non-negative INTEGER or ENUMERATED of 31 bits.
func appendUint(b []byte, tag byte, v uint32) []byte {
	content := []byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)}
	for len(content) > 1 && content[0] == 0 && content[1] < 0x80 {
		content = content[1:]
	}
	return appendTLV(b, tag, content)
}
