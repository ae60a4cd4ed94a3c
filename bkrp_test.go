package bkrp

import (
	"encoding/hex"
	"sync"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var testSID = dtyp.MustParseSID("S-1-5-21-1004336348-1177238915-682003330-1103")

// generatedPair makes the key pair of the test process, once.
var generatedPair = sync.OnceValues(func() (*KeyPair, error) {
	return GenerateKeyPair("Bkrp.Example.", time.Date(2024, 2, 29, 12, 34, 56, 789, time.UTC))
})

func generated(t testing.TB) *KeyPair {
	t.Helper()
	k, err := generatedPair()
	if err != nil {
		t.Fatal(err)
	}
	return k
}
