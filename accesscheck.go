package bkrp

import (
	"crypto/rand"
	"encoding/binary"

	"github.com/seed05845750/bkrp/dtyp"
)

// 2.2.2.3 AccessCheck, version 2; 2.2.2.4 AccessCheck, version 3

// appendAccessCheck appends an AccessCheck in the clear: the fixed word, the
// nonce, the SID, random padding up to whole blocks of the version's cipher
// and the hash.
func (f *clientFormat) appendAccessCheck(b []byte, nonce []byte, sid dtyp.SID) ([]byte, error) {
	start := len(b)
	b = binary.LittleEndian.AppendUint32(b, 1)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(nonce)))
	b = append(b, nonce...)
	b, err := sid.AppendBinary(b)
	if err != nil {
		return nil, err
	}
	over := (len(b) - start + f.hashSize) % f.blockSize
	pad := make([]byte, (f.blockSize-over)%f.blockSize)
	rand.Read(pad)
	b = append(b, pad...)
	return append(b, f.sum(b[start:])...), nil
}
