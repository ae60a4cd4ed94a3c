package netlogon

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/dcerpc"
	"github.com/seed05845750/bkrp/internal/ndr"
)

// netlogonInterface names the interface (1.9).
func netlogonInterface() dcerpc.SyntaxID {
	return dcerpc.SyntaxID{UUID: dtyp.GUID{
		0x78, 0x56, 0x34, 0x12, 0x34, 0x12, 0xcd, 0xab, 0xef, 0x00, 0x01, 0x23, 0x45, 0x67, 0xcf, 0xfb}, Major: 1}
}

// endpointMapper names the interface of the endpoint mapper ([C706] appendix O),
// which answers on TCP port 135 ([MS-RPCE] 2.1.1.1).
func endpointMapper() dcerpc.SyntaxID {
	return dcerpc.SyntaxID{UUID: dtyp.GUID{
		0x08, 0x83, 0xaf, 0xe1, 0x1f, 0x5d, 0xc9, 0x11, 0x91, 0xa4, 0x08, 0x00, 0x2b, 0x14, 0xa0, 0xfa}, Major: 3}
}

// transferNDR names 32-bit NDR ([C706] 14), in which all of this is encoded.
func transferNDR() dcerpc.SyntaxID {
	return dcerpc.SyntaxID{UUID: dtyp.GUID{
		0x04, 0x5d, 0x88, 0x8a, 0xeb, 0x1c, 0xc9, 0x11, 0x9f, 0xe8, 0x08, 0x00, 0x2b, 0x10, 0x48, 0x60}, Major: 2}
}

const (
	endpointPort = "135"
	opEptMap     = 3
)

// errNoEndpoint is a machine where Netlogon does not answer on TCP.
var errNoEndpoint = errors.New("netlogon: the endpoint mapper knows no Netlogon there: is it a domain controller?")

// askPort asks an endpoint mapper for the TCP port of Netlogon (ept_map). The
// answer is not protected; who answers on that port has to prove more.
func askPort(ctx context.Context, rpc *dcerpc.Client) (uint16, error) {
	out, err := rpc.Call(ctx, opEptMap, appendEptMap(rpc.Encoding()))
	if err != nil {
		return 0, fmt.Errorf("asking the endpoint mapper: %w", err)
	}
	return parseEptMap(out, rpc.Encoding())
}

func appendEptMap(enc ndr.Encoding) []byte {
	w := ndr.NewWriter(nil, enc)
	w.Referent(true)
	w.GUID(dtyp.GUID{}) // object: none
	w.Referent(true)
	tower := wantedTower()
	w.Count(len(tower)) // twr_t: the array's size, its repetition, the octets
	w.U32(uint32(len(tower)))
	w.Octets(tower)
	w.Align(4)
	w.Octets(make([]byte, 20)) // entry_handle
	w.U32(maxTowers)
	return w.Buffer()
}

const maxTowers = 8

// The protocol identifiers of a tower's floors ([C706] appendix I).
const (
	floorUUID   = 0x0D
	floorRPC    = 0x0B // connection-oriented
	floorTCP    = 0x07
	floorIP     = 0x09
	floorsOfTCP = 5
)

// wantedTower is Netlogon by NDR over TCP, at a port and address to be filled
// in ([C706] appendix L).
func wantedTower() []byte {
	b := binary.LittleEndian.AppendUint16(nil, floorsOfTCP)
	for _, s := range []dcerpc.SyntaxID{netlogonInterface(), transferNDR()} {
		b = binary.LittleEndian.AppendUint16(b, 1+16+2)
		b = append(append(b, floorUUID), s.UUID[:]...)
		b = binary.LittleEndian.AppendUint16(b, s.Major)
		b = append(b, 2, 0, 0, 0) // minor version
	}
	b = append(b, 1, 0, floorRPC, 2, 0, 0, 0)
	b = append(b, 1, 0, floorTCP, 2, 0, 0, 0)
	return append(b, 1, 0, floorIP, 4, 0, 0, 0, 0, 0)
}

func parseEptMap(out []byte, enc ndr.Encoding) (uint16, error) {
	r := ndr.NewReader(out, enc)
	r.Align(4)
	r.Octets(20) // entry_handle
	entries := r.U32()
	_, n := r.ConformantVarying(4)
	r.CheckCount("num_towers", uint64(entries), n)
	present := make([]bool, n)
	for i := range present {
		present[i] = r.Referent()
	}
	port := uint16(0)
	for _, p := range present {
		if !p {
			continue
		}
		size := r.Count(1)
		r.CheckCount("tower_length", uint64(r.U32()), size)
		if p := towerPort(r.Octets(size)); port == 0 {
			port = p
		}
		r.Align(4)
	}
	status := r.U32()
	if err := r.Done(); err != nil {
		return 0, fmt.Errorf("%w: ept_map: %w", ErrResponse, err)
	}
	if status != 0 || port == 0 {
		return 0, errNoEndpoint
	}
	return port, nil
}

// towerPort is the TCP port that a tower names, 0 if it is of another kind.
func towerPort(b []byte) uint16 {
	if len(b) < 2 || binary.LittleEndian.Uint16(b) != floorsOfTCP {
		return 0
	}
	b = b[2:]
	for range floorsOfTCP {
		protocol, rest, ok := cutCounted(b)
		if !ok {
			return 0
		}
		address, rest, ok := cutCounted(rest)
		if !ok {
			return 0
		}
		if len(protocol) == 1 && protocol[0] == floorTCP && len(address) == 2 {
			return binary.BigEndian.Uint16(address)
		}
		b = rest
	}
	return 0
}

// cutCounted splits off what a count of 2 octets stands before.
func cutCounted(b []byte) (part, rest []byte, ok bool) {
	if len(b) < 2 {
		return nil, nil, false
	}
	n := int(binary.LittleEndian.Uint16(b))
	if n > len(b)-2 {
		return nil, nil, false
	}
	return b[2 : 2+n], b[2+n:], true
}
