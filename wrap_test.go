package bkrp

import (
	"bytes"
	"errors"
	"fmt"
	"math/bits"
	"testing"

	"github.com/seed05845750/bkrp/dtyp"
)

func TestWrapClient(t *testing.T) {
	key := generated(t)
	for _, tt := range []struct {
		id      string
		version uint32
		limit   int
		total   int // with a domain user's SID
	}{
		{"C-3.2.4.1-07", 2, 205, 372},
		{"C-3.2.4.1-08", 3, 181, 428},
	} {
		t.Run(tt.id, func(t *testing.T) {
			if got := MaxClientSecret(modulusSize, tt.version); got != tt.limit {
				t.Errorf("MaxClientSecret = %d, want %d", got, tt.limit)
			}
			for _, n := range []int{1, 2, 64, tt.limit} {
				secret := bytes.Repeat([]byte{0}, n)
				blob, err := WrapClient(key.Certificate(), testSID, secret, tt.version)
				if err != nil {
					t.Fatal(err)
				}
				if len(blob) != tt.total {
					t.Errorf("L-1: blob of %d octets, want %d", len(blob), tt.total)
				}
				w, err := ParseClientWrapped(blob)
				if err != nil {
					t.Fatal(err)
				}
				if w.Version != tt.version || w.KeyGUID != key.GUID() {
					t.Errorf("C-3.2.4.1-19: version %d, key %v", w.Version, w.KeyGUID)
				}
				s, err := w.Open(key.DecryptRaw, key.RejectionKey())
				if err != nil || !bytes.Equal(s.Secret, secret) || s.SID != testSID {
					t.Errorf("%d octets come back as %v (%v)", n, s, err)
				}
			}
			_, err := WrapClient(key.Certificate(), testSID, make([]byte, tt.limit+1), tt.version)
			if !errors.Is(err, ErrSecretTooLong) {
				t.Errorf("W-2.2.2.2-03: one octet more: %v", err)
			}
		})
	}
	for _, tt := range []struct {
		name    string
		sid     dtyp.SID
		secret  []byte
		version uint32
		want    error
	}{
		{"A-22 empty", testSID, nil, 2, ErrEmptySecret},
		{"zero SID", dtyp.SID{}, []byte{1}, 2, dtyp.ErrSID},
		{"version 1", testSID, []byte{1}, 1, ErrVersion},
		{"version 4", testSID, []byte{1}, 4, ErrVersion},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if b, err := WrapClient(key.Certificate(), tt.sid, tt.secret, tt.version); !errors.Is(err, tt.want) || b != nil {
				t.Errorf("got %d octets, %v", len(b), err)
			}
		})
	}
	if MaxClientSecret(40, 2) != 0 || MaxClientSecret(modulusSize, 1) != 0 {
		t.Error("MaxClientSecret is not 0 where nothing fits")
	}
}

// TestWrapsShareNothing wraps one secret twice: no random field is used again
// (C-3.2.4.1-10, -12, -13).
func TestWrapsShareNothing(t *testing.T) {
	key := generated(t)
	for _, version := range []uint32{2, 3} {
		var nonces, checks, secrets [2]string
		for i := range 2 {
			blob, err := WrapClient(key.Certificate(), testSID, []byte("secret"), version)
			if err != nil {
				t.Fatal(err)
			}
			w, _ := ParseClientWrapped(blob)
			s, err := w.Open(key.DecryptRaw, key.RejectionKey())
			if err != nil {
				t.Fatal(err)
			}
			if len(s.Nonce) < 32 {
				t.Errorf("C-3.2.4.1-10: nonce of %d octets", len(s.Nonce))
			}
			nonces[i], checks[i], secrets[i] = string(s.Nonce), string(w.AccessCheck), string(w.EncryptedSecret)
		}
		if nonces[0] == nonces[1] || checks[0] == checks[1] || secrets[0] == secrets[1] {
			t.Errorf("two blobs of version %d share a field", version)
		}
	}
}

func TestDESKeysHaveOddParity(t *testing.T) {
	t.Run("A-56", func(t *testing.T) {
		for range 50 {
			b := formatOf(2).newPayloadKey()
			for i, c := range b[:24] {
				if bits.OnesCount8(c)%2 != 1 {
					t.Fatalf("octet %d of the key is %08b", i, c)
				}
			}
		}
	})
}

func TestParseClientWrappedRefuses(t *testing.T) {
	good, err := WrapClient(generated(t).Certificate(), testSID, []byte("secret"), 2)
	if err != nil {
		t.Fatal(err)
	}
	set := func(at int, v ...byte) []byte {
		b := bytes.Clone(good)
		copy(b[at:], v)
		return b
	}
	for _, tt := range []struct {
		name string
		b    []byte
	}{
		{"W-2.2.2-02 version 1", set(0, 1)},
		{"W-2.2.2-02 version 4", set(0, 4)},
		{"S-3.1.4.1.4-03 version 78", set(0, 78)},
		{"W-2.2.2-02 version 2 in the high half", set(0, 2, 0, 1)},
		{"W-2.2.2-10 cbEncryptedSecret 0xFFFFFFFF", set(4, 0xff, 0xff, 0xff, 0xff)},
		{"W-2.2.2-10 cbAccessCheck 0xFFFFFFFF", set(8, 0xff, 0xff, 0xff, 0xff)},
		{"W-2.2.2-10 both", set(4, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)},
		{"W-2.2.2-10 sum wraps to the length", set(4, 0xff, 0xff, 0xff, 0xff, 0x59, 0x01, 0, 0)},
		{"W-2.2.2-05 one less", set(4, 0xff, 0)},
		{"A-52 an octet follows", append(bytes.Clone(good), 0)},
		{"empty", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if w, err := ParseClientWrapped(tt.b); !errors.Is(err, ErrFormat) || w != nil {
				t.Errorf("got %v, %v", w, err)
			}
		})
	}
	for n := range good {
		if _, err := ParseClientWrapped(good[:n]); !errors.Is(err, ErrFormat) {
			t.Fatalf("W-2.2.2-10: cut to %d octets: %v", n, err)
		}
	}
	if _, err := (&ClientWrapped{Version: 1}).AppendBinary(nil); !errors.Is(err, ErrFormat) {
		t.Errorf("marshalling version 1: %v", err)
	}
}

func TestUnwrapped(t *testing.T) {
	b := AppendUnwrapped([]byte("before"), []byte("secret"))
	if !bytes.Equal(b, []byte("before\x00\x00\x00\x00secret")) {
		t.Errorf("W-2.2.3-01: % x", b)
	}
	s, err := ParseUnwrapped(b[6:])
	if err != nil || string(s) != "secret" {
		t.Errorf("W-2.2.3-03: %q, %v", s, err)
	}
	if s, err := ParseUnwrapped(make([]byte, 4)); err != nil || len(s) != 0 {
		t.Errorf("an empty secret: %q, %v", s, err)
	}
	for _, bad := range []string{"", "\x00\x00\x00", "\x00\x00\x00\x01secret", "\x01\x00\x00\x00secret"} {
		if _, err := ParseUnwrapped([]byte(bad)); !errors.Is(err, ErrFormat) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestCrossover(t *testing.T) {
	for _, n := range []int{0, 1, 64, 205} {
		in := &ClientSecret{SID: testSID, Secret: bytes.Repeat([]byte{3}, n), Nonce: bytes.Repeat([]byte{4}, 32)}
		b, err := SealCrossover(in)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) != 56+n || !bytes.Equal(b[:4], []byte{1, 0, 0, 0}) {
			t.Errorf("S-3.1.4.1.2.2-10: %d octets, % x", len(b), b[:4])
		}
		out, err := OpenCrossover(b, in.Nonce)
		if err != nil || !bytes.Equal(out, in.Secret) {
			t.Errorf("W-2.2.6.1-05: %d octets come back as %d (%v)", n, len(out), err)
		}
		again, err := SealCrossover(in)
		if err != nil || bytes.Equal(again[4:20], b[4:20]) {
			t.Errorf("S-3.1.4.1.2.2-03: EncSalt is used again (%v)", err)
		}
		if _, err := OpenCrossover(b, make([]byte, 32)); !errors.Is(err, ErrCrossoverMAC) {
			t.Errorf("another nonce: %v", err)
		}
		for i := range b {
			b[i] ^= 1
			_, err := OpenCrossover(b, in.Nonce)
			if want := map[bool]error{true: ErrFormat, false: ErrCrossoverMAC}[i < 4]; !errors.Is(err, want) {
				t.Errorf("octet %d altered: %v", i, err)
			}
			b[i] ^= 1
		}
		if _, err := OpenCrossover(b[:55], in.Nonce); !errors.Is(err, ErrFormat) {
			t.Errorf("cut short: %v", err)
		}
	}
}

// TestCrossoverVector opens an UnwrappedSecret that another program computed
// from the text of 3.1.4.1.2.2.
func TestCrossoverVector(t *testing.T) {
	nonce := make([]byte, 32)
	for i := range nonce {
		nonce[i] = byte(i)
	}
	got, err := OpenCrossover(unhex(t, crossoverVector), nonce)
	if err != nil || string(got) != "crossover secret" {
		t.Errorf("S-3.1.4.1.2.2-05 to -09: %q, %v", got, err)
	}
}

func ExampleMaxClientSecret() {
	fmt.Println(MaxClientSecret(256, 2), MaxClientSecret(256, 3))
	// Output: 205 181
}
