package dcerpc

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/seed05845750/bkrp/internal/ndr"
)

// Fault is the status of a fault PDU ([C706] 12.6.4.7, appendix E, and Win32
// codes as [MS-RPCE] has them). A Handle function returns one as its error to
// have it sent; a Client returns the one it received.
type Fault uint32

const (
	FaultAccessDenied  Fault = 0x00000005
	FaultBadStubData   Fault = 0x000006F7 // RPC_X_BAD_STUB_DATA
	FaultSecPkgError   Fault = 0x00000721 // RPC_S_SEC_PKG_ERROR
	FaultContext       Fault = 0x1C00001A // nca_s_fault_context_mismatch
	FaultNoMemory      Fault = 0x1C00001B // nca_s_fault_remote_no_memory
	FaultUnspecified   Fault = 0x1C000012 // nca_s_fault_unspec
	FaultOpRange       Fault = 0x1C010002 // nca_s_op_rng_error
	FaultUnknownIf     Fault = 0x1C010003 // nca_s_unk_if
	FaultProtocol      Fault = 0x1C01000B // nca_s_proto_error
	FaultServerTooBusy Fault = 0x1C010014 // nca_s_server_too_busy
)

var faultNames = map[Fault]string{
	FaultAccessDenied:  "access denied",
	FaultBadStubData:   "bad stub data",
	FaultSecPkgError:   "security package error",
	FaultContext:       "context handle unknown",
	FaultNoMemory:      "out of memory at the server",
	FaultUnspecified:   "unspecified fault",
	FaultOpRange:       "operation number out of range",
	FaultUnknownIf:     "unknown interface",
	FaultProtocol:      "protocol error",
	FaultServerTooBusy: "server too busy",
}

// Error names the fault and gives its number.
func (f Fault) Error() string {
	if name := faultNames[f]; name != "" {
		return fmt.Sprintf("dcerpc: fault: %s (0x%08x)", name, uint32(f))
	}
	return fmt.Sprintf("dcerpc: fault 0x%08x", uint32(f))
}

// faultOf is the one place where errors of handlers become faults. A caller
// learns nothing from errors that no one meant for them.
func faultOf(err error) Fault {
	var f Fault
	switch {
	case errors.As(err, &f):
		return f
	case errors.Is(err, ndr.ErrStub):
		return FaultBadStubData
	}
	return FaultUnspecified
}

// flags are those of the PDU: a caller may repeat what was not executed.
func (f Fault) flags() uint8 {
	switch f {
	case FaultOpRange, FaultUnknownIf, FaultServerTooBusy:
		return flagWhole | flagDidNotExecute
	}
	return flagWhole
}

// appendFault appends a whole fault PDU. It carries no signature, whatever the
// level: what Samba's server does as well, whose clients do not count a fault
// among the messages of the security context.
func appendFault(b []byte, f Fault, contextID uint16, callID uint32) []byte {
	b = appendHeader(b, pduFault, f.flags(), callID)
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = binary.LittleEndian.AppendUint16(b, contextID)
	b = append(b, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(f))
	return append(b, 0, 0, 0, 0)
}

// faultSize is the length of a fault without signature, in octets.
const faultSize = 32

func parseFault(h header, pdu []byte) (Fault, error) {
	r := h.body(pdu)
	r.Octets(8)
	f := Fault(r.U32())
	if err := r.Err(); err != nil {
		return 0, violation("fault: %v", err)
	}
	return f, nil
}
