package wire

// ContextType is the type of a negotiate context ([MS-SMB2] 2.2.3.1).
type ContextType uint16

// The context types that this server acts upon. It skips all others.
const (
	ContextPreauth    ContextType = 0x0001
	ContextEncryption ContextType = 0x0002
	ContextSigning    ContextType = 0x0008
)

// HashSHA512 is the only preauthentication hash ([MS-SMB2] 2.2.3.1.1).
const HashSHA512 = 0x0001

// Cipher is an encryption algorithm ([MS-SMB2] 2.2.3.1.2); 0 is none.
type Cipher uint16

// The ciphers of [MS-SMB2] 2.2.3.1.2.
const (
	AES128CCM Cipher = 0x0001
	AES128GCM Cipher = 0x0002
	AES256CCM Cipher = 0x0003
	AES256GCM Cipher = 0x0004
)

// SigningAlgorithm is a signing algorithm ([MS-SMB2] 2.2.3.1.7).
type SigningAlgorithm uint16

// The signing algorithms of [MS-SMB2] 2.2.3.1.7.
const (
	HMACSHA256 SigningAlgorithm = 0x0000
	AESCMAC    SigningAlgorithm = 0x0001
	AESGMAC    SigningAlgorithm = 0x0002
)

// maxContexts bounds the contexts of one message; seven types exist.
const maxContexts = 64

// NegotiateContext is one context of a negotiate message, its data still to
// be read ([MS-SMB2] 2.2.3.1).
type NegotiateContext struct {
	Type ContextType
	Data []byte
}

// parseContexts reads count contexts from offset on, each aligned to eight
// octets from the head of the message, none inside the fixed part.
func parseContexts(msg []byte, offset uint32, count, fixed int) ([]NegotiateContext, error) {
	if count == 0 {
		return nil, nil
	}
	if count > maxContexts || uint64(offset) < uint64(HeaderSize+fixed) || offset%8 != 0 ||
		uint64(offset) > uint64(len(msg)) {
		return nil, ErrMalformed
	}
	list := make([]NegotiateContext, 0, count)
	at := int(offset)
	for range count {
		at = (at + 7) &^ 7
		if len(msg)-at < 8 {
			return nil, ErrMalformed
		}
		n := int(le.Uint16(msg[at+2:]))
		if len(msg)-at-8 < n {
			return nil, ErrMalformed
		}
		list = append(list, NegotiateContext{
			Type: ContextType(le.Uint16(msg[at:])),
			Data: msg[at+8 : at+8+n : at+8+n],
		})
		at += 8 + n
	}
	return list, nil
}

// appendContexts appends contexts, the first of which begins aligned.
func appendContexts(dst []byte, list []NegotiateContext) []byte {
	start := len(dst)
	for _, c := range list {
		dst = pad8(dst, start)
		dst = le.AppendUint16(dst, uint16(c.Type))
		dst = le.AppendUint16(dst, uint16(len(c.Data)))
		dst = le.AppendUint32(dst, 0)
		dst = append(dst, c.Data...)
	}
	return dst
}

// PreauthCapabilities is SMB2_PREAUTH_INTEGRITY_CAPABILITIES ([MS-SMB2]
// 2.2.3.1.1 and 2.2.4.1.1).
type PreauthCapabilities struct {
	Hashes []uint16
	Salt   []byte
}

// ParsePreauth reads the data of a ContextPreauth.
func ParsePreauth(data []byte) (PreauthCapabilities, error) {
	if len(data) < 4 {
		return PreauthCapabilities{}, ErrMalformed
	}
	n, salt := int(le.Uint16(data)), int(le.Uint16(data[2:]))
	if n == 0 || len(data) < 4+2*n+salt {
		return PreauthCapabilities{}, ErrMalformed
	}
	return PreauthCapabilities{Hashes: uint16s(data[4:], n), Salt: data[4+2*n : 4+2*n+salt]}, nil
}

// Append appends the data of the context to dst.
func (p PreauthCapabilities) Append(dst []byte) []byte {
	dst = le.AppendUint16(dst, uint16(len(p.Hashes)))
	dst = le.AppendUint16(dst, uint16(len(p.Salt)))
	for _, h := range p.Hashes {
		dst = le.AppendUint16(dst, h)
	}
	return append(dst, p.Salt...)
}

// ParseAlgorithms reads the data of a ContextEncryption or a ContextSigning,
// which both are a count and that many 16-bit numbers, in the sender's order
// of preference ([MS-SMB2] 2.2.3.1.2 and 2.2.3.1.7).
func ParseAlgorithms(data []byte) ([]uint16, error) {
	if len(data) < 2 {
		return nil, ErrMalformed
	}
	n := int(le.Uint16(data))
	if n == 0 || len(data) < 2+2*n {
		return nil, ErrMalformed
	}
	return uint16s(data[2:], n), nil
}

// AppendAlgorithms appends what ParseAlgorithms reads.
func AppendAlgorithms(dst []byte, ids ...uint16) []byte {
	dst = le.AppendUint16(dst, uint16(len(ids)))
	for _, id := range ids {
		dst = le.AppendUint16(dst, id)
	}
	return dst
}

func uint16s(b []byte, n int) []uint16 {
	list := make([]uint16, n)
	for i := range list {
		list[i] = le.Uint16(b[2*i:])
	}
	return list
}
