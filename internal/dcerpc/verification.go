package dcerpc

import (
	"bytes"
	"encoding/binary"

	"github.com/seed05845750/bkrp/dtyp"
)

// 2.2.2.13 The verification trailer, behind the stub of a request: what of
// the header the client wants protected although the signature may not cover
// it. It is little-endian whatever the PDU is.
type verification struct {
	// bitmask1 is that of rpc_sec_vt_bitmask1; bit 0 says that the client can
	// sign headers.
	bitmask1 *uint32
	context  *verifyContext
	header   *verifyHeader
}

// 2.2.2.13.4 rpc_sec_vt_pcontext: the presentation context that the request
// is meant for.
type verifyContext struct {
	abstract, transfer SyntaxID
}

// 2.2.2.13.3 rpc_sec_vt_header2: the fields of the request's header.
type verifyHeader struct {
	ptype     pduType
	drep      [4]byte
	callID    uint32
	contextID uint16
	opnum     uint16
}

// The commands of the trailer ([MS-RPCE] 2.2.2.13.1) and their two flags.
const (
	verifyBitmask1 = 0x0001
	verifyPContext = 0x0002
	verifyHeader2  = 0x0003

	verifyEnd         = 0x4000
	verifyMustProcess = 0x8000

	// clientHeaderSigning is the bit of bitmask1 that there is.
	clientHeaderSigning = 0x00000001
)

var verificationMagic = []byte{0x8a, 0xe3, 0x13, 0x71, 0x02, 0xf4, 0x36, 0x71}

// verificationReach is how far from the end of the stub a trailer is looked
// for, in octets: twelve times what the known commands take.
const verificationReach = 1024

// cutVerification splits a stub into the parameters and the verification
// trailer that ends it; v is nil if there is none. Octets that only look like
// one, because they do not end where the stub ends, stay in the stub. ok is
// false for a trailer with a command that has to be understood and is not.
func cutVerification(stub []byte) (parameters []byte, v *verification, ok bool) {
	reach := max(0, len(stub)-verificationReach)
	for end := len(stub); ; {
		i := bytes.LastIndex(stub[reach:end], verificationMagic)
		if i < 0 {
			return stub, nil, true
		}
		at := reach + i
		if at%4 == 0 {
			if v, known, fits := parseVerification(stub[at+len(verificationMagic):]); fits {
				return stub[:at], v, known
			}
		}
		// One octet less of it, so that this place is not found again.
		end = at + len(verificationMagic) - 1
	}
}

// parseVerification reads the commands, of which the last one has to end at
// the end of b; fits says so. known is false if one that has to be processed
// is not known.
func parseVerification(b []byte) (v *verification, known, fits bool) {
	v, known = &verification{}, true
	for {
		if len(b) < 4 {
			return nil, false, false
		}
		command, n := binary.LittleEndian.Uint16(b), int(binary.LittleEndian.Uint16(b[2:]))
		if n > len(b)-4 {
			return nil, false, false
		}
		value := b[4 : 4+n]
		b = b[4+n:]
		switch kind := command &^ (verifyEnd | verifyMustProcess); {
		case kind == verifyBitmask1 && n == 4:
			bits := binary.LittleEndian.Uint32(value)
			v.bitmask1 = &bits
		case kind == verifyPContext && n == 2*syntaxSize:
			v.context = &verifyContext{littleEndianSyntax(value), littleEndianSyntax(value[syntaxSize:])}
		case kind == verifyHeader2 && n == 16:
			v.header = &verifyHeader{
				ptype: pduType(value[0]), drep: [4]byte(value[4:8]), callID: binary.LittleEndian.Uint32(value[8:]),
				contextID: binary.LittleEndian.Uint16(value[12:]), opnum: binary.LittleEndian.Uint16(value[14:]),
			}
		case command&verifyMustProcess != 0:
			known = false
		}
		if command&verifyEnd != 0 {
			return v, known, len(b) == 0
		}
	}
}

func littleEndianSyntax(b []byte) SyntaxID {
	return SyntaxID{
		UUID: dtyp.GUID(b[:16]), Major: binary.LittleEndian.Uint16(b[16:]), Minor: binary.LittleEndian.Uint16(b[18:]),
	}
}

// append appends the trailer to a stub that begins at offset start of b.
func (v verification) append(b []byte, start int) []byte {
	for (len(b)-start)%4 != 0 {
		b = append(b, 0)
	}
	b = append(b, verificationMagic...)
	last := len(b)
	command := func(kind, n uint16) {
		last = len(b)
		b = binary.LittleEndian.AppendUint16(b, kind)
		b = binary.LittleEndian.AppendUint16(b, n)
	}
	syntax := func(s SyntaxID) {
		b = append(b, s.UUID[:]...)
		b = binary.LittleEndian.AppendUint16(b, s.Major)
		b = binary.LittleEndian.AppendUint16(b, s.Minor)
	}
	if v.bitmask1 != nil {
		command(verifyBitmask1, 4)
		b = binary.LittleEndian.AppendUint32(b, *v.bitmask1)
	}
	if v.header != nil {
		command(verifyHeader2, 16)
		b = append(b, byte(v.header.ptype), 0, 0, 0)
		b = append(b, v.header.drep[:]...)
		b = binary.LittleEndian.AppendUint32(b, v.header.callID)
		b = binary.LittleEndian.AppendUint16(b, v.header.contextID)
		b = binary.LittleEndian.AppendUint16(b, v.header.opnum)
	}
	if v.context != nil {
		command(verifyPContext, 2*syntaxSize)
		syntax(v.context.abstract)
		syntax(v.context.transfer)
	}
	if last == len(b) { // a trailer without commands still needs its end
		command(0, 0)
	}
	b[last+1] |= verifyEnd >> 8
	return b
}
