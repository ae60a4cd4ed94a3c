package dcerpc

import (
	"encoding/binary"
	"fmt"

	"github.com/seed05845750/bkrp/internal/gss"
)

// AuthType is the number of a security provider ([MS-RPCE] 2.2.1.1.7).
type AuthType uint8

const (
	AuthSPNEGO   AuthType = 9
	AuthNTLM     AuthType = 10
	AuthKerberos AuthType = 16
	AuthNetlogon AuthType = 68 // clients only
)

// AuthLevel is how much of a call is protected ([MS-RPCE] 2.2.1.1.8).
type AuthLevel uint8

const (
	LevelNone      AuthLevel = 1
	LevelConnect   AuthLevel = 2
	LevelCall      AuthLevel = 3
	LevelPacket    AuthLevel = 4
	LevelIntegrity AuthLevel = 5
	LevelPrivacy   AuthLevel = 6
)

// signed reports whether each PDU carries a signature. Levels 3 and 4 are
// taken as level 5: NTLM and Kerberos know no less.
func (l AuthLevel) signed() bool { return l > LevelConnect && l <= LevelPrivacy }

func (l AuthLevel) String() string {
	switch l {
	case LevelNone:
		return "none"
	case LevelConnect:
		return "connect"
	case LevelCall:
		return "call"
	case LevelPacket:
		return "packet"
	case LevelIntegrity:
		return "integrity"
	case LevelPrivacy:
		return "privacy"
	}
	return fmt.Sprintf("level %d", uint8(l))
}

// trailerSize is the length of a secTrailer, in octets.
const trailerSize = 8

// 2.2.2.11 sec_trailer, in front of the authentication token at the end of a
// PDU.
type secTrailer struct {
	authType  AuthType
	level     AuthLevel
	padLength uint8
	contextID uint32
}

// cutTrailer splits a PDU with an authentication token into what stands
// between offset from and the padding, the trailer and the token. h has been
// checked to fit the PDU.
func cutTrailer(h header, pdu []byte, from int) (body []byte, t secTrailer, token []byte, err error) {
	at := h.fragLength - h.authLength - trailerSize
	if at < from {
		return nil, secTrailer{}, nil, violation("security trailer inside the header")
	}
	b := pdu[at : at+trailerSize]
	t = secTrailer{authType: AuthType(b[0]), level: AuthLevel(b[1]), padLength: b[2]}
	if h.bigEndian {
		t.contextID = binary.BigEndian.Uint32(b[4:])
	} else {
		t.contextID = binary.LittleEndian.Uint32(b[4:])
	}
	if int(t.padLength) > at-from {
		return nil, secTrailer{}, nil, violation("%d octets of padding in a body of %d", t.padLength, at-from)
	}
	return pdu[from : at-int(t.padLength)], t, pdu[at+trailerSize : h.fragLength], nil
}

func (t secTrailer) append(b []byte) []byte {
	b = append(b, byte(t.authType), byte(t.level), t.padLength, 0)
	return binary.LittleEndian.AppendUint32(b, t.contextID)
}

// appendToken ends a PDU that binds: padding, trailer, token, and its lengths.
func (t secTrailer) appendToken(pdu, token []byte) ([]byte, error) {
	if len(token) == 0 {
		return finish(pdu, 0)
	}
	for len(pdu)%4 != 0 {
		pdu = append(pdu, 0)
		t.padLength++
	}
	pdu = append(t.append(pdu), token...)
	return finish(pdu, len(token))
}

// security protects the calls of one connection with one security context.
// The zero security is a connection without authentication.
type security struct {
	secTrailer
	headerSign bool        // agreed on by PFC_SUPPORT_HEADER_SIGN
	context    gss.Context // nil until it stands
}

// wholePDU reports whether signatures cover the PDU from its header to the
// security trailer, or just the stub. NTLM, by whatever negotiated, covers all
// of it whether header signing was agreed on or not: so do Windows and Samba,
// and there are clients that rely on it without asking.
func (s *security) wholePDU() bool {
	_, always := s.context.(gss.WholePDU)
	return s.headerSign || always
}

// authLevel is the level at which calls arrive: LevelNone until the context
// stands.
func (s *security) authLevel() AuthLevel {
	if s.context == nil {
		return LevelNone
	}
	return s.level
}

// overhead is how many octets of a PDU are neither header nor stub nor
// padding.
func (s *security) overhead() int {
	switch level := s.authLevel(); {
	case level == LevelPrivacy:
		return trailerSize + s.context.SignatureSize()
	case level.signed():
		return trailerSize + s.context.SignSize()
	}
	return 0
}

// stubPad is what the length of a protected stub is padded to, which leaves
// both the trailer and ciphers in blocks where they have to be.
const stubPad = 16

// chunk is how much stub fits into one fragment of at most size octets, a
// multiple of stubPad.
func (s *security) chunk(size int) int {
	return (size - callHeaderSize - s.overhead()) &^ (stubPad - 1)
}

// protect ends a request or response of which pdu holds the header and the
// stub: it pads, signs or seals as the level asks, and writes the lengths.
func (s *security) protect(pdu []byte) ([]byte, error) {
	level := s.authLevel()
	if !level.signed() {
		return finish(pdu, 0)
	}
	t := s.secTrailer
	for (len(pdu)-callHeaderSize)%stubPad != 0 {
		pdu = append(pdu, 0)
		t.padLength++
	}
	end := len(pdu)
	pdu = t.append(pdu)
	// The lengths are signed with the rest of the header, so they have to
	// stand before the signature does.
	total := len(pdu) + s.overhead() - trailerSize
	if total > maxPDU {
		return nil, fmt.Errorf("dcerpc: PDU of %d octets is too long", total)
	}
	binary.LittleEndian.PutUint16(pdu[8:], uint16(total))
	binary.LittleEndian.PutUint16(pdu[10:], uint16(total-len(pdu)))
	msg, from := pdu, callHeaderSize
	if !s.wholePDU() {
		msg, from = pdu[callHeaderSize:end], 0
	}
	var err error
	if level == LevelPrivacy {
		pdu, err = s.context.Seal(pdu, msg, from, from+end-callHeaderSize)
	} else {
		pdu, err = s.context.Sign(pdu, msg)
	}
	if err != nil {
		return nil, fmt.Errorf("dcerpc: protecting a PDU: %w", err)
	}
	if len(pdu) != total {
		return nil, fmt.Errorf("dcerpc: signature of %d octets where %d were announced", len(pdu)-end-trailerSize, total-end-trailerSize)
	}
	return pdu, nil
}

// unprotect checks the signature of a request or response and returns its
// stub, unsealed in place. Any error ends the connection: a message is
// missing, forged or repeated.
func (s *security) unprotect(h header, pdu []byte, stubOffset int) ([]byte, error) {
	level := s.authLevel()
	if h.authLength == 0 {
		if level.signed() {
			return nil, violation("no signature at level %v", level)
		}
		return pdu[stubOffset:], nil
	}
	stub, t, token, err := cutTrailer(h, pdu, stubOffset)
	if err != nil {
		return nil, err
	}
	if s.context == nil {
		return nil, violation("signature without a security context")
	}
	if t.authType != s.authType || t.level != s.level || t.contextID != s.contextID {
		return nil, violation("security trailer of another context")
	}
	if !level.signed() {
		return stub, nil
	}
	to := stubOffset + len(stub) + int(t.padLength)
	msg, from := pdu[:h.fragLength-h.authLength], stubOffset
	if !s.wholePDU() {
		msg, from, to = pdu[stubOffset:to], 0, to-stubOffset
	}
	if level == LevelPrivacy {
		err = s.context.Unseal(msg, from, to, token)
	} else {
		err = s.context.Verify(msg, token)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return stub, nil
}
