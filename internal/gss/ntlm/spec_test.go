package ntlm

import (
	"bytes"
	"crypto/rc4"
	"encoding/hex"
	"strings"
	"testing"
)

// The values of [MS-NLMP] 4.2.1 and 4.2.4.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func key16(t testing.TB, s string) [16]byte {
	t.Helper()
	return [16]byte(unhex(t, s))
}

func wantHex(t *testing.T, what string, got []byte, want string) {
	t.Helper()
	if w := unhex(t, want); !bytes.Equal(got, w) {
		t.Errorf("%s = %x, want %x", what, got, w)
	}
}

// TestSpecNTLMv2 is [MS-NLMP] 4.2.4, "NTLMv2 Authentication".
func TestSpecNTLMv2(t *testing.T) {
	h := HashPassword("Password")
	wantHex(t, "4.2.2.1.2 NTOWFv1", h[:], "a4f49c406510bdcab6824ee7c30fd852")
	key := ntowfv2(h, appendUpper(nil, "User", upper), "Domain")
	wantHex(t, "4.2.4.1.1 NTOWFv2", key[:], "0c868a403bfd7a93a3001ef22ef02e3f")

	info, rest, err := cutTargetInfo(unhex(t, "02000c0044006f006d00610069006e0001000c005300650072007600650072000000 0000"))
	if err != nil || len(rest) != 0 || len(info) != 2 {
		t.Fatalf("4.2.4 target information: %v, rest %x, %v", info, rest, err)
	}
	r := &ntlmv2Response{clientChallenge: [8]byte(bytes.Repeat([]byte{0xaa}, 8)), targetInfo: info}
	temp := r.marshal()[proofSize:]
	wantHex(t, "4.2.4.1.3 temp", temp, `01010000 00000000 00000000 00000000 aaaaaaaaaaaaaaaa 00000000
		02000c0044006f006d00610069006e00 01000c00530065007200760065007200 00000000 00000000`)
	challenge := [8]byte(unhex(t, "0123456789abcdef"))
	proof := proofOf(key, challenge, temp)
	wantHex(t, "4.2.4.2.2 NTLMv2 response", proof[:], "68cd0ab851e51c96aabc927bebef6a1c")
	base := sessionBaseKey(key, proof)
	wantHex(t, "4.2.4.1.2 session base key", base[:], "8de40ccadbc14a82f15cb0ad0de95ca3")
	random := bytes.Repeat([]byte{0x55}, 16)
	encrypted := exchangeKey(base, random)
	wantHex(t, "4.2.4.2.3 encrypted session key", encrypted[:], "c5dad2544fc9799094ce1ce90bc9d03e")
}

// TestSpecSeal is [MS-NLMP] 4.2.4.4, "GSS_WrapEx Examples".
func TestSpecSeal(t *testing.T) {
	exported := key16(t, strings.Repeat("55", 16))
	sealKey := subkey(exported, clientSealing)
	wantHex(t, "SealKey", sealKey[:], "59f600973cc4960a25480a7c196e4c58")
	signKey := subkey(exported, clientSigning)
	wantHex(t, "SignKey", signKey[:], "4788dc861b4782f35d43fd98fe1a2d39")

	client := newSession(exported, flagSign|flagSeal, 0, true)
	server := newSession(exported, flagSign|flagSeal, 0, false)
	plain := appendUTF16(nil, "Plaintext")
	msg := bytes.Clone(plain)
	sig, err := client.Seal(nil, msg, 0, len(msg))
	if err != nil {
		t.Fatal(err)
	}
	wantHex(t, "data", msg, "54e50165bf1936dc996020c1811b0f06fb5f")
	wantHex(t, "signature", sig, "010000007fb38ec5c55d497600000000")
	if err := server.Unseal(msg, 0, len(msg), sig); err != nil || !bytes.Equal(msg, plain) {
		t.Errorf("server.Unseal: %x, %v", msg, err)
	}
}

// TestUpper has names in both forms.
func TestUpper(t *testing.T) {
	for in, want := range map[string][]string{
		"alice": {"ALICE"}, "jürgen": {"JÜRGEN"}, "straße": {"STRAßE"}, "ÿ": {"Ÿ"}, "ı": {"ı"}, "ſ": {"ſ"},
		"иван": {"ИВАН"}, "𐐨": {"𐐨"}, "ștefan": {"ȘTEFAN", "șTEFAN"}, "გიორგი": {"ᲒᲘᲝᲠᲒᲘ", "გიორგი"}, "µ": {"Μ", "µ"},
	} {
		got := upperForms(in)
		if len(got) != len(want) {
			t.Errorf("%q has %d forms, want %d", in, len(got), len(want))
			continue
		}
		for i, w := range want {
			if s, ok := decodeUTF16(got[i]); !ok || s != w {
				t.Errorf("form %d of %q is %q, want %q", i, in, s, w)
			}
		}
	}
}

// TestRC4Key says that a fresh handle stands at the head of its key stream,
// which SignMechList relies on.
func TestRC4Key(t *testing.T) {
	k := key16(t, strings.Repeat("01", 16))
	c, err := rc4.NewCipher(k[:])
	if err != nil {
		t.Fatal(err)
	}
	a, b := make([]byte, 8), make([]byte, 8)
	c.XORKeyStream(a, a)
	newRC4(k).XORKeyStream(b, b)
	if !bytes.Equal(a, b) {
		t.Error("newRC4 is not RC4 under its key")
	}
}
