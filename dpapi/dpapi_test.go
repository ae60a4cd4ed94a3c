package dpapi

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/seed05845750/bkrp"
)

const (
	adatumFile   = "dsinternals-adatum/masterkey_7fc19508-7b85-4a7c-9e5d-15f9e00e7ce5.mkf"
	adatumRoamed = "dsinternals-adatum/roamed_credential_masterkey.bin"
	adatumBlob   = "dsinternals-adatum/client_side_wrapped_secret.bin"
	nemesisFile  = "nemesis-oldformat/masterkey.mkf"
	nemesisBlob  = "nemesis-oldformat/client_side_wrapped_secret.bin"
)

// vector is recorded data of a real domain, beside the repository.
func vector(t testing.TB, name string) []byte {
	t.Helper()
	root := filepath.Join("..", "..", "shared", "vectors")
	if _, err := os.Stat(root); err != nil {
		t.Skipf("no recorded data of real domains: %v", err)
	}
	b, err := os.ReadFile(filepath.Join(root, name))
	if err != nil || len(b) == 0 {
		t.Fatalf("%s: %d octets, %v", name, len(b), err)
	}
	return b
}

func TestWindowsMasterKeyFile(t *testing.T) {
	for _, tt := range []struct{ file, blob, guid, domainKey string }{
		{adatumFile, adatumBlob, "7fc19508-7b85-4a7c-9e5d-15f9e00e7ce5", "efe756ec-f87c-493a-902f-259030203445"},
		{nemesisFile, nemesisBlob, "ab998260-e99d-4871-8f4b-d922b2848ce6", "45cbf2fb-b468-471a-a374-3ca17b50cf3b"},
	} {
		t.Run(tt.file, func(t *testing.T) {
			raw := vector(t, tt.file)
			f, err := ParseMasterKeyFile(raw)
			if err != nil {
				t.Fatal(err)
			}
			if f.Version != 2 || f.GUID.String() != tt.guid || f.CredHist != nil {
				t.Errorf("version %d, GUID %v, history %v", f.Version, f.GUID, f.CredHist)
			}
			for _, k := range []*EncryptedKey{f.MasterKey, f.BackupKey} {
				if k == nil || k.Version != 2 || k.Iterations != 18000 || k.Hash.String() != "HMAC" || k.Cipher.String() != "3DES" {
					t.Errorf("part %+v", k)
				}
			}
			if !bytes.Equal(f.DomainKey, vector(t, tt.blob)) {
				t.Error("the domain key part is not the wrapped secret")
			}
			w, err := bkrp.ParseClientWrapped(f.DomainKey)
			if err != nil || w.KeyGUID.String() != tt.domainKey {
				t.Errorf("wrapped under %v (%v)", w, err)
			}
			if b, err := f.AppendBinary(nil); err != nil || !bytes.Equal(b, raw) {
				t.Errorf("AppendBinary differs from the file (%v)", err)
			}
		})
	}
}

func TestWindowsRoamedCredential(t *testing.T) {
	raw := vector(t, adatumRoamed)
	r, err := ParseRoamedCredential(raw)
	if err != nil {
		t.Fatal(err)
	}
	if r.Kind != RoamedMasterKey || r.Name != "7fc19508-7b85-4a7c-9e5d-15f9e00e7ce5" || r.Flags != 0 || r.Modified.Year() != 2017 && r.Modified.Year() != 2016 {
		t.Errorf("kind %c, name %q, %v", r.Kind, r.Name, r.Modified)
	}
	if !bytes.Equal(r.Data, vector(t, adatumFile)) {
		t.Error("the data is not the master key file")
	}
	for _, at := range []int{0, 1, 2, 90, 110, 128, 131, 140, len(raw) - 1} {
		b := bytes.Clone(raw)
		b[at] ^= 0x80
		if _, err := ParseRoamedCredential(b); !errors.Is(err, ErrFormat) {
			t.Errorf("octet %d altered: %v", at, err)
		}
	}
}

// sample is a file with all four parts.
func sample(t testing.TB) []byte {
	t.Helper()
	blob := make([]byte, 28)
	blob[0] = bkrp.ClientWrappedVersion3
	f := &MasterKeyFile{
		Version: 2, Reserved: [4]uint32{1, 2, 3, 4}, GUID: [16]byte{0xab, 15: 0xcd}, Policy: 5,
		MasterKey: &EncryptedKey{Version: 2, Iterations: 8000, Hash: 0x800e, Cipher: 0x6610, Ciphertext: []byte("ciphertext")},
		BackupKey: &EncryptedKey{Version: 1, Hash: 0x8004, Cipher: 0x1234},
		CredHist:  &CredHist{Version: 3, GUID: [16]byte{9}},
		DomainKey: blob,
	}
	b, err := f.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestMasterKeyFile(t *testing.T) {
	good := sample(t)
	f, err := ParseMasterKeyFile(good)
	if err != nil {
		t.Fatal(err)
	}
	if f.CredHist == nil || f.CredHist.GUID != [16]byte{9} || f.Policy != 5 || f.Reserved != [4]uint32{1, 2, 3, 4} ||
		f.MasterKey.Hash.String() != "SHA-512" || f.BackupKey.Hash.String() != "SHA-1" ||
		f.MasterKey.Cipher.String() != "AES-256" || f.BackupKey.Cipher.String() != "0x1234" {
		t.Errorf("got %+v", f)
	}
	for n := range good {
		if _, err := ParseMasterKeyFile(good[:n]); !errors.Is(err, ErrFormat) {
			t.Fatalf("cut to %d octets: %v", n, err)
		}
	}
	if _, err := ParseMasterKeyFile(append(bytes.Clone(good), 0)); !errors.Is(err, ErrFormat) {
		t.Errorf("an octet follows: %v", err)
	}
	for name, spoil := range map[string]func(b []byte){
		"version 0":               func(b []byte) { b[0] = 0 },
		"version 3":               func(b []byte) { b[0] = 3 },
		"GUID beyond ASCII":       func(b []byte) { b[13] = 1 },
		"GUID not hexadecimal":    func(b []byte) { b[12] = 'g' },
		"length of 2^64-1":        func(b []byte) { binary.LittleEndian.PutUint64(b[96:], 1<<64-1) },
		"lengths that wrap round": func(b []byte) { b[103], b[111] = 0x80, 0x80 },
		"domain key of version 9": func(b []byte) { b[len(b)-28] = 9 },
	} {
		b := bytes.Clone(good)
		spoil(b)
		if f, err := ParseMasterKeyFile(b); !errors.Is(err, ErrFormat) || f != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, at := range []int{96, 104, 112} { // parts of one octet
		b := bytes.Clone(good[:128])
		clear(b[96:])
		b[at] = 1
		if _, err := ParseMasterKeyFile(append(b, 2)); !errors.Is(err, ErrFormat) {
			t.Errorf("a part of one octet: %v", err)
		}
	}
}

func TestFileTime(t *testing.T) {
	if got := fileTime(116444736000000000); !got.Equal(time.Unix(0, 0)) {
		t.Errorf("the Unix epoch is %v", got)
	}
	if got := fileTime(0); got.Format(time.DateOnly) != "1601-01-01" {
		t.Errorf("FILETIME 0 is %v", got)
	}
}

func FuzzMasterKeyFile(f *testing.F) {
	f.Add(sample(f))
	for _, name := range []string{adatumFile, nemesisFile} {
		if b, err := os.ReadFile(filepath.Join("..", "..", "shared", "vectors", name)); err == nil {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseMasterKeyFile(b)
		if err != nil {
			if !errors.Is(err, ErrFormat) || m != nil {
				t.Errorf("got %v, %v", m, err)
			}
			return
		}
		out, err := m.AppendBinary(nil)
		// The GUID may have been written in upper case; nothing else may differ.
		if err != nil || len(out) != len(b) || !bytes.Equal(bytes.ToLower(b[12:84]), out[12:84]) ||
			!bytes.Equal(b[:12], out[:12]) || !bytes.Equal(b[84:], out[84:]) {
			t.Errorf("AppendBinary differs (%v)", err)
		}
	})
}

func FuzzRoamedCredential(f *testing.F) {
	for _, name := range []string{adatumRoamed} {
		if b, err := os.ReadFile(filepath.Join("..", "..", "shared", "vectors", name)); err == nil {
			f.Add(b)
		}
	}
	f.Add([]byte(`%0\name`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRoamedCredential(b)
		if err != nil {
			if !errors.Is(err, ErrFormat) || r != nil {
				t.Errorf("got %v, %v", r, err)
			}
			return
		}
		if len(r.Data)+132 != len(b) {
			t.Errorf("data of %d octets in %d", len(r.Data), len(b))
		}
	})
}
