package bkrp

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"math/big"
	"testing"
	"time"

	"filippo.io/bigmod"
)

// After Clear nothing of the key is left where it was.
func TestClear(t *testing.T) {
	pair, err := GenerateKeyPair("bkrp.example", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	key := pair.key
	if key.crt == nil {
		t.Fatal("the pair has no numbers for the Chinese remainder theorem")
	}
	if key.crt.p.Nat().IsZero() == 1 {
		t.Fatal("p is 0 before it is cleared")
	}
	pair.Clear()
	for name, octets := range map[string][]byte{"blob": pair.blob, "d": key.d, "dP": key.crt.dP, "dQ": key.crt.dQ, "rejection": pair.rejection.key[:]} {
		if len(bytes.Trim(octets, "\x00")) != 0 {
			t.Errorf("%s is left", name)
		}
	}
	for name, x := range map[string]*bigmod.Nat{
		"p": key.crt.p.Nat(), "q": key.crt.q.Nat(), "qInv": key.crt.qInv, "qModN": key.crt.qModN,
		"highP": key.crt.highP, "highQ": key.crt.highQ,
	} {
		if x.IsZero() != 1 {
			t.Errorf("%s is left", name)
		}
	}

	server := GenerateServerKey()
	for _, form := range []SrvKeyForm{SrvKeyFull, SrvKeyLeading64} {
		srvKey := server.key[:]
		if form == SrvKeyLeading64 {
			srvKey = server.key[:64]
		}
		for range 2 { // with a fresh hash, and with one that was used before
			mac := hmac.New(sha1.New, srvKey)
			mac.Write([]byte("salt"))
			if got := server.Derive(form, []byte("salt")); !bytes.Equal(got[:], mac.Sum(nil)) {
				t.Errorf("%v: it is not HMAC-SHA1", form)
			}
		}
	}
	server.Clear()
	if len(bytes.Trim(server.key[:], "\x00")) != 0 {
		t.Error("the server key is left")
	}
	if server.macs != [2]keyedMAC{} {
		t.Error("what HMAC has taken in of the server key is left")
	}

	x := big.NewInt(1234567)
	bits := x.Bits()
	wipeNumber(x)
	if x.Sign() != 0 || bits[0] != 0 {
		t.Errorf("the number is %v, in memory %v", x, bits)
	}
}
