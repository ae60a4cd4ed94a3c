// Package nthash hashes passwords as NTLM has it ([MS-NLMP] 3.3.1, NTOWFv1):
// MD4 of the password in UTF-16LE. The hash is as good as the password.
package nthash

import (
	"encoding/binary"
	"unicode/utf16"

	//lint:ignore SA1019 NTOWFv1 is MD4, there is no choice
	"golang.org/x/crypto/md4"
)

// Sum hashes a password.
func Sum(password string) (hash [16]byte) {
	units := utf16.Encode([]rune(password))
	b := make([]byte, 0, 2*len(units)) // growing would leave a copy behind
	for _, u := range units {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	h := md4.New()
	h.Write(b)
	clear(units)
	clear(b)
	h.Sum(hash[:0])
	return hash
}
