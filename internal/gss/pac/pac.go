package pac

import (
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/seed05845750/bkrp/dtyp"
)

var (
	// ErrMalformed is a certificate, or a buffer in it, that is not what
	// [MS-PAC] says.
	ErrMalformed = errors.New("pac: malformed")
	// ErrMissing is a certificate without a buffer that is needed.
	ErrMissing = errors.New("pac: a buffer is missing")
	// ErrSignature is a server signature that the service's key did not make.
	ErrSignature = errors.New("pac: bad server signature")
	// ErrClient is a certificate of another client or another ticket.
	ErrClient = errors.New("pac: not of the ticket's client")
)

const (
	// MaxSize bounds a certificate, in octets: a token cannot be longer.
	MaxSize = 64 << 10
	// maxBuffers bounds the buffers of a certificate; there are 20 kinds.
	maxBuffers = 64
)

// Kinds of buffers ([MS-PAC] 2.4).
const (
	kindLogonInfo  = 0x1
	kindServerSum  = 0x6
	kindKDCSum     = 0x7
	kindClientInfo = 0xA
	kindUPNDNSInfo = 0xC
	kindRequestor  = 0x12
)

// PAC is a parsed certificate.
type PAC struct {
	// Logon says who the client is, unless NoLogon: a KDC that knows no SIDs,
	// such as MIT's, may leave it out.
	Logon   LogonInfo
	NoLogon bool
	// Client says which ticket the certificate is of.
	Client ClientInfo
	// named is the SID that PAC_REQUESTOR or UPN_DNS_INFO name besides; zero
	// if neither does.
	named []dtyp.SID

	server signature
	// signed is the certificate with zeros for both signatures.
	signed []byte
}

// Parse reads a PACTYPE ([MS-PAC] 2.3). Its errors wrap ErrMalformed or
// ErrMissing. The result shares no memory with b.
func Parse(b []byte) (*PAC, error) {
	buffers, err := cutBuffers(b)
	if err != nil {
		return nil, err
	}
	for _, kind := range []uint32{kindClientInfo, kindServerSum, kindKDCSum} {
		if _, ok := buffers[kind]; !ok {
			return nil, fmt.Errorf("%w: no buffer of type %d", ErrMissing, kind)
		}
	}
	p := &PAC{signed: append([]byte(nil), b...)}
	if logon, ok := buffers[kindLogonInfo]; !ok {
		p.NoLogon = true
	} else if p.Logon, err = parseLogonInfo(logon.in(b)); err != nil {
		return nil, err
	}
	if p.Client, err = parseClientInfo(buffers[kindClientInfo].in(b)); err != nil {
		return nil, err
	}
	if p.server, err = parseSignature(buffers[kindServerSum].in(b)); err != nil {
		return nil, err
	}
	kdc, err := parseSignature(buffers[kindKDCSum].in(b))
	if err != nil {
		return nil, err
	}
	clear(buffers[kindServerSum].in(p.signed)[4 : 4+len(p.server.sum)])
	clear(buffers[kindKDCSum].in(p.signed)[4 : 4+len(kdc.sum)])
	if err := p.parseNames(b, buffers); err != nil {
		return nil, err
	}
	return p, nil
}

// parseNames reads the buffers that name the client's SID once more.
func (p *PAC) parseNames(b []byte, buffers map[uint32]extent) error {
	if e, ok := buffers[kindRequestor]; ok {
		// 2.15 PAC_REQUESTOR: the SID and nothing else.
		sid, err := dtyp.SIDFromBytes(e.in(b))
		if err != nil {
			return fmt.Errorf("%w: PAC_REQUESTOR", ErrMalformed)
		}
		p.named = append(p.named, sid)
	}
	if e, ok := buffers[kindUPNDNSInfo]; ok {
		sid, err := parseUPNDNSInfo(e.in(b))
		if err != nil {
			return err
		}
		if !sid.IsZero() {
			p.named = append(p.named, sid)
		}
	}
	return nil
}

// extent is where a buffer stands.
type extent struct{ from, to int }

func (e extent) in(b []byte) []byte { return b[e.from:e.to:e.to] }

// cutBuffers finds the buffers of a certificate (2.3, 2.4). Kinds that are of
// use here may come once, and no buffer may reach over the header or the end.
func cutBuffers(b []byte) (map[uint32]extent, error) {
	const header, info = 8, 16
	if len(b) < header || len(b) > MaxSize {
		return nil, fmt.Errorf("%w: %d octets", ErrMalformed, len(b))
	}
	count, version := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])
	if version != 0 || count > maxBuffers || header+info*int(count) > len(b) {
		return nil, fmt.Errorf("%w: header", ErrMalformed)
	}
	start := uint64(header + info*int(count))
	buffers := make(map[uint32]extent, count)
	for i := range int(count) {
		entry := b[header+info*i:]
		kind, size := binary.LittleEndian.Uint32(entry), uint64(binary.LittleEndian.Uint32(entry[4:]))
		offset := binary.LittleEndian.Uint64(entry[8:])
		if offset%8 != 0 || offset < start || offset > uint64(len(b)) || size > uint64(len(b))-offset {
			return nil, fmt.Errorf("%w: place of buffer %d", ErrMalformed, i)
		}
		if _, ok := buffers[kind]; ok {
			return nil, fmt.Errorf("%w: two buffers of type %d", ErrMalformed, kind)
		}
		buffers[kind] = extent{int(offset), int(offset + size)}
	}
	return buffers, nil
}

// signature is PAC_SIGNATURE_DATA (2.8).
type signature struct {
	kind int32
	sum  []byte
}

// parseSignature reads a signature; the identifier of a read-only domain
// controller may stand behind it.
func parseSignature(b []byte) (signature, error) {
	if len(b) < 4 {
		return signature{}, fmt.Errorf("%w: signature", ErrMalformed)
	}
	s := signature{kind: int32(binary.LittleEndian.Uint32(b))}
	size := 0
	switch s.kind {
	case -138: // KERB_CHECKSUM_HMAC_MD5
		size = 16
	case 15, 16: // HMAC_SHA1_96_AES128, HMAC_SHA1_96_AES256
		size = 12
	case 19: // hmac-sha256-128-aes128 (RFC 8009)
		size = 16
	case 20: // hmac-sha384-192-aes256 (RFC 8009)
		size = 24
	default:
		return signature{}, fmt.Errorf("%w: signature of type %d", ErrMalformed, s.kind)
	}
	if rest := len(b) - 4 - size; rest != 0 && rest != 2 {
		// Some controllers pad the buffer, which then has to be zeros.
		if rest < 0 || rest > 8 || !zeros(b[4+size:]) {
			return signature{}, fmt.Errorf("%w: signature of %d octets", ErrMalformed, len(b)-4)
		}
	}
	s.sum = append([]byte(nil), b[4:4+size]...)
	return s, nil
}

func zeros(b []byte) bool {
	for _, v := range b {
		if v != 0 {
			return false
		}
	}
	return true
}

// VerifyServer checks the server signature (2.8.1) in constant time. kind is
// the type of checksum that the service's key makes, and sum makes it, under
// key usage 17. The error wraps ErrSignature.
func (p *PAC) VerifyServer(kind int32, sum func(data []byte) ([]byte, error)) error {
	if p.server.kind != kind {
		return fmt.Errorf("%w: of type %d where the key makes type %d", ErrSignature, p.server.kind, kind)
	}
	want, err := sum(p.signed)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSignature, err)
	}
	if subtle.ConstantTimeCompare(want, p.server.sum) != 1 {
		return ErrSignature
	}
	return nil
}
