package keystore

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"github.com/seed05845750/bkrp"
)

func testTokenRecord(t testing.TB) *tokenRecord {
	t.Helper()
	pair, err := bkrp.GenerateKeyPair("bkrp.example", time.Unix(1e9, 0))
	if err != nil {
		t.Fatal(err)
	}
	guid := pair.GUID()
	r := &tokenRecord{id: guid[:], token: "pkcs11:token=bkrp", certificate: pair.Certificate()}
	copy(r.rejection[:], "0123456789abcdef0123456789abcdef")
	return r
}

func TestTokenRecord(t *testing.T) {
	r := testTokenRecord(t)
	b := r.append(nil)
	if len(b) == bkrp.ServerKeySize || !isTokenRecord(b) || string(b[:4]) != "BKTK" {
		t.Errorf("% x", b[:8])
	}
	got, err := parseTokenRecord(b)
	if err != nil || !bytes.Equal(got.append(nil), b) || got.token != r.token || got.rejection != r.rejection {
		t.Fatalf("%+v, %v", got, err)
	}
	if _, err := bkrp.ParseKeyPair(b); err == nil {
		t.Error("it is read as a key pair")
	}
	for i := range len(b) {
		if _, err := parseTokenRecord(b[:i]); err == nil {
			t.Errorf("the first %d octets are read", i)
		}
	}
	if _, err := parseTokenRecord(append(b, 0)); err == nil {
		t.Error("an octet more is read")
	}
	for name, alter := range map[string]func(b []byte){
		"version":  func(b []byte) { b[4] = 2 },
		"magic":    func(b []byte) { b[0] = 'b' },
		"no id":    func(b []byte) { binary.LittleEndian.PutUint32(b[8:], 0) },
		"long id":  func(b []byte) { binary.LittleEndian.PutUint32(b[8:], 1<<31) },
		"no token": func(b []byte) { binary.LittleEndian.PutUint32(b[12:], 1<<31) },
	} {
		altered := bytes.Clone(b)
		alter(altered)
		if _, err := parseTokenRecord(altered); err == nil {
			t.Errorf("%s: is read", name)
		}
	}
	for _, other := range [][]byte{nil, make([]byte, 16), make([]byte, bkrp.ServerKeySize), b[:tokenRecordHeader-1]} {
		if isTokenRecord(other) {
			t.Errorf("%d octets are taken for a record", len(other))
		}
	}
}

func FuzzParseTokenRecord(f *testing.F) {
	b := testTokenRecord(f).append(nil)
	f.Add(b)
	f.Add(b[:tokenRecordHeader])
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseTokenRecord(b)
		if err == nil && !bytes.Equal(r.append(nil), b) {
			t.Errorf("%x writes as %x", b, r.append(nil))
		}
	})
}
