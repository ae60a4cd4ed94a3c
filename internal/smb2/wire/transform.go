package wire

// TransformSize is the length of the transform header, in octets.
const TransformSize = 52

// TransformSignedFrom is where the associated data of the cipher begins: the
// transform header from its nonce to its end ([MS-SMB2] 3.1.4.3).
const TransformSignedFrom = 20

// Transform is the SMB2 TRANSFORM_HEADER ([MS-SMB2] 2.2.41) in front of an
// encrypted message, 52 octets.
type Transform struct {
	// Signature is the tag of the cipher.
	Signature [16]byte
	// Nonce holds 11 octets for CCM and 12 for GCM, then zeros.
	Nonce [16]byte
	// OriginalSize is the length of the message before and after, in octets.
	OriginalSize uint32
	// Flags is 1 in 3.1.1 ("encrypted") and the algorithm, 1, before.
	Flags     uint16
	SessionID uint64
}

// ParseTransform reads the transform header at the head of msg and returns it
// with the encrypted message, which fills the rest.
func ParseTransform(msg []byte) (Transform, []byte, error) {
	if len(msg) < TransformSize || le.Uint32(msg) != ProtocolTransform {
		return Transform{}, nil, ErrMalformed
	}
	t := Transform{
		Signature:    [16]byte(msg[4:20]),
		Nonce:        [16]byte(msg[20:36]),
		OriginalSize: le.Uint32(msg[36:]),
		Flags:        le.Uint16(msg[42:]),
		SessionID:    le.Uint64(msg[44:]),
	}
	rest := msg[TransformSize:]
	if t.Flags != 1 || uint64(t.OriginalSize) != uint64(len(rest)) {
		return Transform{}, nil, ErrMalformed
	}
	return t, rest, nil
}

// Append appends the 52 octets of the header to dst.
func (t *Transform) Append(dst []byte) []byte {
	dst = le.AppendUint32(dst, ProtocolTransform)
	dst = append(dst, t.Signature[:]...)
	dst = append(dst, t.Nonce[:]...)
	dst = le.AppendUint32(dst, t.OriginalSize)
	dst = le.AppendUint16(dst, 0)
	dst = le.AppendUint16(dst, t.Flags)
	return le.AppendUint64(dst, t.SessionID)
}
