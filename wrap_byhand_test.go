package bkrp

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/sha1"
	"crypto/sha512"
	"encoding/binary"
	"math/big"
	"slices"
	"testing"

	"github.com/seed05845750/bkrp/dtyp"
)

// TestWrapStepByStep takes a blob apart by the steps of 3.2.4.1, and with nothing
// of ours but the key: what Open takes would not show where both go wrong alike.
func TestWrapStepByStep(t *testing.T) {
	key := generated(t)
	secret := []byte("a secret of 24 octets...")
	for _, tt := range []struct {
		version           uint32
		words             []uint32 // of EncryptedSecret, behind cbSecret
		keySize, block    int
		hash              func([]byte) []byte
		newBlock          func([]byte) (cipher.Block, error)
		keyID, cipherID   string
		wantCheckMultiple int
	}{
		{2, []uint32{0x20}, 24, 8, func(b []byte) []byte { s := sha1.Sum(b); return s[:] }, des.NewTripleDESCipher, "C-3.2.4.1-12", "C-3.2.4.1-14", 8},
		{3, []uint32{0x30, 0x6610, 0x800e}, 32, 16, func(b []byte) []byte { s := sha512.Sum512(b); return s[:] }, aes.NewCipher, "C-3.2.4.1-13", "C-3.2.4.1-15", 16},
	} {
		for _, sid := range []dtyp.SID{testSID, dtyp.MustParseSID("S-1-5-18"), dtyp.MustParseSID("S-1-5-21-1-2-3-4-5-6-7-8-9")} {
			blob, err := WrapClient(key.Certificate(), sid, secret, tt.version)
			if err != nil {
				t.Fatal(err)
			}
			word := func(b []byte, at int) uint32 { return binary.LittleEndian.Uint32(b[at:]) }
			t.Run("C-3.2.4.1-18 C-3.2.4.1-19", func(t *testing.T) {
				guid := key.GUID()
				if word(blob, 0) != tt.version || word(blob, 4) != modulusSize || int(word(blob, 8)) != len(blob)-28-modulusSize || !bytes.Equal(blob[12:28], guid[:]) {
					t.Fatalf("%x", blob[:28])
				}
			})
			em := slices.Clone(blob[28 : 28+modulusSize])
			slices.Reverse(em)
			em, err = key.DecryptRaw(em)
			if err != nil {
				t.Fatal(err)
			}
			t.Run("C-3.2.4.1-17", func(t *testing.T) {
				end := bytes.IndexByte(em[2:], 0)
				if em[0] != 0 || em[1] != 2 || end < 8 {
					t.Fatalf("%x", em)
				}
				em = em[2+end+1:]
			})
			head := 4 + 4*len(tt.words)
			payload := em[head+len(secret):]
			t.Run("C-3.2.4.1-16", func(t *testing.T) {
				if int(word(em, 0)) != len(secret) || !bytes.Equal(em[head:head+len(secret)], secret) {
					t.Errorf("%x", em)
				}
				for i, w := range tt.words {
					if word(em, 4+4*i) != w {
						t.Errorf("word %d is %#x", i, word(em, 4+4*i))
					}
				}
			})
			t.Run(tt.keyID, func(t *testing.T) {
				if len(payload) != tt.keySize+tt.block || new(big.Int).SetBytes(payload).Sign() == 0 {
					t.Fatalf("%d octets", len(payload))
				}
			})
			check := slices.Clone(blob[28+modulusSize:])
			t.Run(tt.cipherID, func(t *testing.T) {
				block, err := tt.newBlock(payload[:tt.keySize])
				if err != nil {
					t.Fatal(err)
				}
				cipher.NewCBCDecrypter(block, payload[tt.keySize:]).CryptBlocks(check, check)
			})
			t.Run("C-3.2.4.1-09 C-3.2.4.1-10 C-3.2.4.1-11", func(t *testing.T) {
				nonce := int(word(check, 4))
				want, err := sid.AppendBinary(nil)
				if err != nil {
					t.Fatal(err)
				}
				body, sum := check[:len(check)-len(tt.hash(nil))], check[len(check)-len(tt.hash(nil)):]
				pad := len(body) - 8 - nonce - len(want)
				if word(check, 0) != 1 || nonce < 32 || !bytes.Equal(check[8+nonce:8+nonce+len(want)], want) ||
					len(check)%tt.wantCheckMultiple != 0 || pad < 0 || pad >= tt.wantCheckMultiple || !bytes.Equal(sum, tt.hash(body)) {
					t.Errorf("%x", check)
				}
			})
		}
	}
}
