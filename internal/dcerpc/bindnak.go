package dcerpc

import (
	"fmt"

	"github.com/seed05845750/bkrp/internal/ndr"
)

// NakReason says why a bind was refused as a whole ([C706] 12.6.3.1,
// p_reject_reason_t; [MS-RPCE] 2.2.2.5).
type NakReason uint16

const (
	NakNotSpecified        NakReason = 0
	NakTemporaryCongestion NakReason = 1
	NakLocalLimitExceeded  NakReason = 2
	NakProtocolVersion     NakReason = 4
	NakAuthType            NakReason = 8
	NakInvalidChecksum     NakReason = 9
)

func (r NakReason) String() string {
	switch r {
	case NakNotSpecified:
		return "reason not specified"
	case NakTemporaryCongestion:
		return "temporary congestion"
	case NakLocalLimitExceeded:
		return "local limit exceeded"
	case NakProtocolVersion:
		return "protocol version not supported"
	case NakAuthType:
		return "authentication type not recognized"
	case NakInvalidChecksum:
		return "credentials refused"
	}
	return fmt.Sprintf("reason %d", uint16(r))
}

// appendBindNak appends a whole bind_nak ([C706] 12.6.4.5) with the protocol
// versions that there are: 5.0.
func appendBindNak(b []byte, reason NakReason, callID uint32) []byte {
	w := ndr.NewWriter(appendHeader(b, pduBindNak, flagWhole, callID), ndr.Encoding{})
	w.U16(uint16(reason))
	w.U8(1)
	w.U8(5)
	w.U8(0)
	w.Align(4)
	return w.Buffer()
}

// parseBindNak reads the reason; the versions that follow it change nothing
// for a client of one version.
func parseBindNak(body []byte, bigEndian bool) (NakReason, error) {
	r := ndr.NewReader(body, ndr.Encoding{BigEndian: bigEndian})
	reason := NakReason(r.U16())
	if err := r.Err(); err != nil {
		return 0, violation("bind_nak: %v", err)
	}
	return reason, nil
}
