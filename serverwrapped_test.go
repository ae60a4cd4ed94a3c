package bkrp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/seed05845750/bkrp/dtyp"
)

// knownServerKey is the key of serverVectorFull.
func knownServerKey(t testing.TB) *ServerKey {
	t.Helper()
	b := make([]byte, ServerKeySize)
	b[0] = serverKeyVersion
	for i := range serverKeyLength {
		b[4+i] = byte(i*7 + 3)
	}
	k, err := ParseServerKey(b)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (k *ServerKey) full(salt []byte) [20]byte      { return k.Derive(SrvKeyFull, salt) }
func (k *ServerKey) leading64(salt []byte) [20]byte { return k.Derive(SrvKeyLeading64, salt) }

func TestServerWrapVectors(t *testing.T) {
	k := knownServerKey(t)
	for _, tt := range []struct {
		name, blob   string
		right, wrong func([]byte) [20]byte
	}{
		{"A-01 full", serverVectorFull, k.full, k.leading64},
		{"A-01 leading64", serverVectorLeading64, k.leading64, k.full},
	} {
		t.Run(tt.name, func(t *testing.T) {
			raw := unhex(t, tt.blob)
			w, err := ParseServerWrapped(raw)
			if err != nil {
				t.Fatal(err)
			}
			if b, err := w.AppendBinary(nil); err != nil || !bytes.Equal(b, raw) {
				t.Errorf("AppendBinary differs (%v)", err)
			}
			sid, secret, err := w.Open(tt.right)
			if err != nil || sid != testSID || string(secret) != "server secret" {
				t.Errorf("got %q of %v, %v", secret, sid, err)
			}
			if _, secret, err := w.Open(tt.wrong); err != ErrServerMAC || secret != nil {
				t.Errorf("under the other form: %v", err)
			}
		})
	}
}

func TestWrapServer(t *testing.T) {
	k := GenerateServerKey()
	guid := dtyp.GUID{1, 2, 3}
	for n := 0; n <= dtyp.MaxSubAuthorities; n++ {
		sid, err := dtyp.NewSID(5, slices.Repeat([]uint32{77}, n)...)
		if err != nil {
			t.Fatal(err)
		}
		for _, size := range []int{1, 64, 5000} {
			secret := bytes.Repeat([]byte{byte(size)}, size)
			blob, err := WrapServer(k.full, guid, sid, secret)
			if err != nil {
				t.Fatal(err)
			}
			w, err := ParseServerWrapped(blob)
			if err != nil {
				t.Fatal(err)
			}
			if len(blob) != 96+52+sid.Size()+size || int(w.PayloadLength) != size || w.KeyGUID != guid {
				t.Errorf("W-2.2.4-03: %d octets, Payload_Length %d, key %v", len(blob), w.PayloadLength, w.KeyGUID)
			}
			gotSID, got, err := w.Open(k.full)
			if err != nil || gotSID != sid || !bytes.Equal(got, secret) {
				t.Errorf("S-3.1.4.1.2.1-12: %v, %v", gotSID, err)
			}
		}
	}
	a, _ := WrapServer(k.full, guid, testSID, []byte("x"))
	b, _ := WrapServer(k.full, guid, testSID, []byte("x"))
	if bytes.Equal(a[28:96], b[28:96]) {
		t.Error("W-2.2.4-07: R2 is used again")
	}
	if _, err := WrapServer(k.full, guid, testSID, nil); !errors.Is(err, ErrEmptySecret) {
		t.Errorf("A-22: %v", err)
	}
	if _, err := WrapServer(k.full, guid, dtyp.SID{}, []byte("x")); !errors.Is(err, dtyp.ErrSID) {
		t.Errorf("zero SID: %v", err)
	}
}

// TestServerWrapAltered flips every octet: each field has its own refusal.
func TestServerWrapAltered(t *testing.T) {
	k := knownServerKey(t)
	good := unhex(t, serverVectorFull)
	for i := range good {
		b := bytes.Clone(good)
		b[i] ^= 0x40
		w, err := ParseServerWrapped(b)
		if i < 4 || i >= 8 && i < 12 {
			if !errors.Is(err, ErrFormat) {
				t.Errorf("W-2.2.4-02, -04: octet %d: %v", i, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("octet %d: %v", i, err)
			continue
		}
		want := ErrServerMAC // S-3.1.4.1.2.1-08
		switch {
		case i < 8:
			want = ErrServerPayloadLength // S-3.1.4.1.2.1-13, A-11
		case i < 28:
			want = nil // the name of the key
		}
		if _, secret, err := w.Open(k.full); err != want || (err != nil) != (secret == nil) {
			t.Errorf("octet %d: %v, want %v", i, err, want)
		}
	}
}

// TestServerWrapUnreadableSID has a payload whose MAC is right and whose SID
// is none.
func TestServerWrapUnreadableSID(t *testing.T) {
	k := knownServerKey(t)
	w := &ServerWrapped{PayloadLength: 4, KeyGUID: dtyp.GUID{1}}
	plain := make([]byte, payloadHeader+12)
	plain[payloadHeader] = 1
	plain[payloadHeader+1] = 15 // sub-authorities that are not there
	mac := macOf(k.full(plain[:r3Size]), plain[payloadHeader:])
	copy(plain[r3Size:], mac[:])
	w.Ciphertext = make([]byte, len(plain))
	if err := rc4Apply(k.full(w.R2[:]), w.Ciphertext, plain); err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.Open(k.full); err != ErrServerMAC {
		t.Errorf("got %v", err)
	}
	w.Ciphertext = nil
	if _, _, err := w.Open(k.full); err != ErrServerMAC {
		t.Errorf("no payload: %v", err)
	}
}

func TestParseServerWrappedRefuses(t *testing.T) {
	good := unhex(t, serverVectorFull)
	for n := range good {
		if _, err := ParseServerWrapped(good[:n]); !errors.Is(err, ErrFormat) {
			t.Fatalf("S-3.1.4.1.2.1-01: cut to %d octets: %v", n, err)
		}
	}
	if _, err := ParseServerWrapped(append(bytes.Clone(good), 0)); !errors.Is(err, ErrFormat) {
		t.Errorf("A-52: an octet follows: %v", err)
	}
	short := bytes.Clone(good[:96+59])
	binary.LittleEndian.PutUint32(short[8:], 59)
	if _, err := ParseServerWrapped(short); !errors.Is(err, ErrFormat) {
		t.Errorf("A-10: payload of 59 octets: %v", err)
	}
	if _, err := (&ServerWrapped{Ciphertext: make([]byte, 59)}).AppendBinary(nil); !errors.Is(err, ErrFormat) {
		t.Errorf("marshalling a payload of 59 octets: %v", err)
	}
	client, err := WrapClient(generated(t).Certificate(), testSID, []byte("secret"), 2)
	if err != nil {
		t.Fatal(err)
	}
	client[0] = ServerWrappedVersion
	if _, err := ParseServerWrapped(client); !errors.Is(err, ErrFormat) {
		t.Errorf("A-10: a ClientWrap blob with the first word 1: %v", err)
	}
}

func TestServerKeyFormat(t *testing.T) {
	good, _ := GenerateServerKey().AppendBinary(nil)
	for _, tt := range []struct {
		name string
		b    []byte
	}{
		{"W-2.2.7-02 too short", good[:ServerKeySize-1]},
		{"W-2.2.7-02 too long", append(bytes.Clone(good), 0)},
		{"W-2.2.7-02 first word", append([]byte{2}, good[1:]...)},
		{"empty", nil},
	} {
		if _, err := ParseServerKey(tt.b); !errors.Is(err, ErrKeyFormat) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	a, _ := GenerateServerKey().AppendBinary(nil)
	if bytes.Equal(a, good) {
		t.Error("S-3.1.4.1.1-04: two keys are the same")
	}
	k, err := ParseServerKey(good)
	if err != nil {
		t.Fatal(err)
	}
	k.Clear()
	if b, _ := k.AppendBinary(nil); !bytes.Equal(b[4:], make([]byte, 256)) {
		t.Error("Clear leaves something")
	}
	for _, f := range []SrvKeyForm{SrvKeyFull, SrvKeyLeading64} {
		if got, err := ParseSrvKeyForm(f.String()); err != nil || got != f || f.Other() == f || f.Other().Other() != f {
			t.Errorf("%v: %v, %v", f, got, err)
		}
	}
	if _, err := ParseSrvKeyForm("half"); err == nil {
		t.Error(`"half" is a form`)
	}
}

func TestNames(t *testing.T) {
	if s := InterfaceUUID.String(); s != "3dde7c30-165d-11d1-ab8f-00805f14db40" {
		t.Errorf("W-2.1-07: %s", s)
	}
	for a, want := range map[Action]string{
		ActionBackup: "BACKUP", ActionRestoreWin2K: "RESTORE_WIN2K", ActionRetrieve: "RETRIEVE", ActionRestore: "RESTORE",
		{}: "00000000-0000-0000-0000-000000000000",
	} {
		if a.String() != want {
			t.Errorf("S-3.1.4.1-03: %q, want %q", a.String(), want)
		}
	}
	for s, want := range map[Status]string{
		StatusOK: "ERROR_SUCCESS (0x0)", StatusFileNotFound: "ERROR_FILE_NOT_FOUND (0x2)",
		StatusAccessDenied: "ERROR_ACCESS_DENIED (0x5)", StatusNotEnoughMemory: "ERROR_NOT_ENOUGH_MEMORY (0x8)",
		StatusInvalidAccess: "ERROR_INVALID_ACCESS (0xC)", StatusInvalidData: "ERROR_INVALID_DATA (0xD)",
		StatusNotSupported: "ERROR_NOT_SUPPORTED (0x32)", StatusInvalidParameter: "ERROR_INVALID_PARAMETER (0x57)",
		StatusIOPending: "ERROR_IO_PENDING (0x3E5)", StatusInvalidSID: "ERROR_INVALID_SID (0x539)",
		StatusInternalError: "ERROR_INTERNAL_ERROR (0x54F)", 0x4711: "Win32 error 0x4711",
	} {
		if s.String() != want || s.Error() != "bkrp: "+want {
			t.Errorf("%q, want %q", s.String(), want)
		}
	}
}
