package dcerpc

import (
	"fmt"

	"github.com/seed05845750/bkrp/internal/ndr"
)

// nakReason says why a bind was refused as a whole ([C706] 12.6.3.1,
// p_reject_reason_t; [MS-RPCE] 2.2.2.5).
type nakReason uint16

const (
	nakNotSpecified        nakReason = 0
	nakTemporaryCongestion nakReason = 1
	nakLocalLimitExceeded  nakReason = 2
	nakProtocolVersion     nakReason = 4
	nakAuthType            nakReason = 8
	nakInvalidChecksum     nakReason = 9
)

func (r nakReason) String() string {
	switch r {
	case nakNotSpecified:
		return "reason not specified"
	case nakTemporaryCongestion:
		return "temporary congestion"
	case nakLocalLimitExceeded:
		return "local limit exceeded"
	case nakProtocolVersion:
		return "protocol version not supported"
	case nakAuthType:
		return "authentication type not recognized"
	case nakInvalidChecksum:
		return "credentials refused"
	}
	return fmt.Sprintf("reason %d", uint16(r))
}

// appendBindNak appends a whole bind_nak ([C706] 12.6.4.5) with the protocol
// versions that there are: 5.0.
func appendBindNak(b []byte, reason nakReason, callID uint32) []byte {
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
func parseBindNak(body []byte, bigEndian bool) (nakReason, error) {
	r := ndr.NewReader(body, ndr.Encoding{BigEndian: bigEndian})
	reason := nakReason(r.U16())
	if err := r.Err(); err != nil {
		return 0, violation("bind_nak: %v", err)
	}
	return reason, nil
}
