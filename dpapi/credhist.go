package dpapi

import (
	"encoding/binary"
	"fmt"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/le"
)

// CredHist is the credential history part of a file: a version word and the
// GUID of the entry in the user's password history.
type CredHist struct {
	Version uint32
	GUID    dtyp.GUID
}

// parseCredHist reads a part that fills b; no octets are no part.
func parseCredHist(b []byte) (*CredHist, error) {
	if len(b) == 0 {
		return nil, nil
	}
	c := le.NewCursor(b)
	h := &CredHist{Version: c.Uint32()}
	c.Fill(h.GUID[:])
	if err := c.Done(); err != nil {
		return nil, fmt.Errorf("%w: credential history part: %w", ErrFormat, err)
	}
	return h, nil
}

func (h *CredHist) append(b []byte) []byte {
	if h == nil {
		return b
	}
	b = binary.LittleEndian.AppendUint32(b, h.Version)
	return append(b, h.GUID[:]...)
}
