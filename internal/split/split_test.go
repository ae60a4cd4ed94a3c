package split

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "draw the known answers anew: old shares then prove nothing any more")

// newSplit is a fresh split.
func newSplit(t *testing.T, k, n int) ([]byte, []*Share, *Verifier) {
	t.Helper()
	secret, shares, v, err := New(k, n)
	if err != nil {
		t.Fatal(err)
	}
	if len(secret) != SecretSize || len(shares) != n || v.K() != k || v.N() != n {
		t.Fatalf("%d octets in %d shares, any %d of %d", len(secret), len(shares), v.K(), v.N())
	}
	return secret, shares, v
}

// subset are the shares whose bits are set.
func subset(shares []*Share, bits int) (chosen []*Share) {
	for i, s := range shares {
		if bits>>i&1 == 1 {
			chosen = append(chosen, s)
		}
	}
	return chosen
}

func TestEverySubset(t *testing.T) {
	secret, shares, v := newSplit(t, 3, 5)
	for bits := range 1 << 5 {
		chosen := subset(shares, bits)
		got, bad, err := v.Combine(chosen)
		if len(bad) != 0 {
			t.Fatalf("%05b: %v", bits, bad)
		}
		if len(chosen) < 3 {
			if !errors.Is(err, ErrTooFew) || got != nil {
				t.Errorf("%05b: %v", bits, err)
			}
		} else if err != nil || !bytes.Equal(got, secret) {
			t.Errorf("%05b: another secret (%v)", bits, err)
		}
	}
}

func TestThresholds(t *testing.T) {
	for _, tt := range []struct {
		k, n int
		ok   bool
	}{{2, 2, true}, {2, 32, true}, {32, 32, true}, {1, 2, false}, {0, 0, false}, {3, 2, false}, {2, 33, false}, {-1, 5, false}} {
		secret, shares, v, err := New(tt.k, tt.n)
		if !tt.ok {
			if !errors.Is(err, ErrThreshold) {
				t.Errorf("%d of %d: %v", tt.k, tt.n, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		var texts []string
		for _, s := range shares[tt.n-tt.k:] {
			texts = append(texts, s.Text())
		}
		read, bad := ParseShares(texts...)
		got, worse, err := v.Combine(read)
		if err != nil || len(bad)+len(worse) != 0 || !bytes.Equal(got, secret) {
			t.Errorf("%d of %d: %v %v %v", tt.k, tt.n, bad, worse, err)
		}
	}
}

// What hands do to a share on its way from paper leaves it good.
func TestTolerance(t *testing.T) {
	_, shares, _ := newSplit(t, 2, 3)
	text := shares[1].Text()
	if len(text) != 99 {
		t.Errorf("a share has %d characters", len(text))
	}
	for name, typed := range map[string]string{
		"as printed":     text,
		"upper case":     strings.ToUpper(text),
		"no hyphens":     strings.ReplaceAll(text, "-", ""),
		"spaces":         "  " + strings.ReplaceAll(text, "-", "  ") + "\t",
		"three lines":    text[:40] + "\r\n" + text[40:70] + "\n   " + text[70:] + "\n",
		"with a comment": "# share 2\n" + text + "\n# keep it\n",
	} {
		got, bad := ParseShares(typed)
		if len(bad) != 0 || len(got) != 1 || got[0].Text() != text {
			t.Errorf("%s: %v, %v", name, got, bad)
		}
	}
	if got, bad := ParseShares("", "# nothing\n\n"); len(got)+len(bad) != 0 {
		t.Errorf("nothing: %v, %v", got, bad)
	}
	if got, bad := ParseShares(strings.Repeat(text+"\n", 1000)); len(got) != 0 || len(bad) != 1 {
		t.Errorf("too much: %d and %d", len(got), len(bad))
	}
}

// Every single mistyped character is noticed, and the share named by its place.
func TestDamage(t *testing.T) {
	_, shares, v := newSplit(t, 2, 3)
	texts := []string{shares[0].Text(), shares[1].Text()}
	symbols := texts[1]
	for i := range symbols {
		if symbols[i] == '-' {
			continue
		}
		for _, c := range "q7x!b" {
			if byte(c) == symbols[i] {
				continue
			}
			damaged := symbols[:i] + string(c) + symbols[i+1:]
			read, bad := ParseShares(texts[0], damaged)
			if len(read) != 1 || len(bad) != 1 || bad[0].Position != 2 {
				t.Fatalf("place %d: %v, %v", i, read, bad)
			}
			if e := bad[0].Err; !errors.Is(e, ErrChecksum) && !(i < 10 && errors.Is(e, ErrShareFormat)) {
				t.Fatalf("place %d: %v", i, e)
			}
		}
	}
	for name, typed := range map[string]string{
		"cut":     symbols[:60],
		"doubled": symbols + "q",
		"no head": symbols[11:],
	} {
		read, bad := ParseShares(typed)
		if len(read) != 0 || len(bad) != 1 || !errors.Is(bad[0], ErrShareFormat) {
			t.Errorf("%s: %v, %v", name, read, bad)
		}
	}
	read, _ := ParseShares(texts[0])
	if _, _, err := v.Combine(read); !errors.Is(err, ErrTooFew) {
		t.Errorf("one of two: %v", err)
	}
}

// A share that somebody made up, with a right checksum, is found by the
// commitments and named; it harms nobody who has enough others.
func TestForgery(t *testing.T) {
	secret, shares, v := newSplit(t, 3, 5)
	forge := func(i int, change func(*Share)) *Share {
		s := *shares[i]
		change(&s)
		read, bad := ParseShares(s.Text())
		if len(bad) != 0 {
			t.Fatal(bad)
		}
		return read[0]
	}
	for name, forged := range map[string]*Share{
		"value":           forge(1, func(s *Share) { s.value[0] ^= 1 }),
		"above the order": forge(1, func(s *Share) { s.value = [32]byte(bytes.Repeat([]byte{0xff}, 32)) }),
		"another's value": forge(1, func(s *Share) { s.value = shares[2].value }),
		"k":               forge(1, func(s *Share) { s.k = 2 }),
		"n":               forge(1, func(s *Share) { s.n = 9 }),
	} {
		t.Run(name, func(t *testing.T) {
			got, bad, err := v.Combine([]*Share{shares[0], forged, shares[2]})
			if !errors.Is(err, ErrTooFew) || !errors.Is(err, ErrForged) || got != nil {
				t.Errorf("two good ones: %v", err)
			}
			if len(bad) != 1 || bad[0].Index != 2 || !strings.Contains(err.Error(), "share 2 ") {
				t.Errorf("named: %v in %v", bad, err)
			}
			got, bad, err = v.Combine([]*Share{forged, shares[0], shares[4], shares[2]})
			if err != nil || len(bad) != 1 || !bytes.Equal(got, secret) {
				t.Errorf("three good ones: %v, %v", bad, err)
			}
		})
	}
}

func TestMixedAndTwice(t *testing.T) {
	secret, shares, v := newSplit(t, 2, 3)
	_, others, _ := newSplit(t, 2, 3)
	_, bad, err := v.Combine([]*Share{shares[0], others[1]})
	if !errors.Is(err, ErrOtherSplit) || len(bad) != 1 || bad[0].Index != 2 {
		t.Errorf("mixed: %v", err)
	}
	_, bad, err = v.Combine([]*Share{shares[0], shares[0]})
	if !errors.Is(err, ErrDuplicate) || len(bad) != 1 || bad[0].Index != 1 {
		t.Errorf("twice: %v", err)
	}
	got, bad, err := v.Combine([]*Share{shares[0], others[0], shares[0], shares[2]})
	if err != nil || len(bad) != 2 || !bytes.Equal(got, secret) {
		t.Errorf("enough: %v, %v", bad, err)
	}
}

func TestVerifierRefusals(t *testing.T) {
	_, shares, v := newSplit(t, 2, 3)
	b := v.AppendBinary(nil)
	for i := range b {
		damaged := bytes.Clone(b)
		damaged[i] ^= 0x10
		other, err := ParseVerifier(damaged)
		if err != nil {
			if !errors.Is(err, ErrVerifier) {
				t.Fatalf("octet %d: %v", i, err)
			}
			continue
		}
		if _, _, err := other.Combine(shares); !errors.Is(err, ErrOtherSplit) {
			t.Fatalf("octet %d: %v", i, err)
		}
	}
	for name, bad := range map[string][]byte{
		"nothing": nil, "short": b[:len(b)-1], "long": append(bytes.Clone(b), 0),
		"identity": append(bytes.Clone(b[:len(b)-32]), make([]byte, 32)...),
	} {
		if _, err := ParseVerifier(bad); !errors.Is(err, ErrVerifier) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// No way of printing shows a share, and no error either.
func TestRedaction(t *testing.T) {
	_, shares, v := newSplit(t, 2, 3)
	s := shares[0]
	text := s.Text()
	_, bad := ParseShares(text[:len(text)-1]+"b", text[:90])
	_, worse, err := v.Combine([]*Share{s, s})
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "share", s, "shares", shares, "bad", bad, "worse", worse, "err", err)
	js, _ := json.Marshal(struct{ Share any }{s})
	all := fmt.Sprintf("%v %+v %#v %s %x %v %v %s %s", s, s, s, s, s, bad, worse, js, log.String())
	for _, secret := range []string{text[60:80], strings.ReplaceAll(text, "-", "")[60:80], hex.EncodeToString(s.value[:8]), fmt.Sprint(s.value[:4])[1:8]} {
		if strings.Contains(all, secret) {
			t.Errorf("%q shows in %s", secret, all)
		}
	}
	if want := "share 1 of 3 (any 2) of " + v.ID(); s.String() != want {
		t.Errorf("%q", s)
	}
	s.Clear()
	if s.value != [32]byte{} {
		t.Error("not cleared")
	}
}

// known is testdata/known-3of5.json.
type known struct {
	Secret, Verifier, ID string
	Shares               []string
}

// Shares lie on paper for years: those that were made once are read for ever.
func TestKnownAnswer(t *testing.T) {
	name := filepath.Join("testdata", "known-3of5.json")
	if *update {
		secret, shares, v := newSplit(t, 3, 5)
		k := known{Secret: hex.EncodeToString(secret), Verifier: hex.EncodeToString(v.AppendBinary(nil)), ID: v.ID()}
		for _, s := range shares {
			k.Shares = append(k.Shares, s.Text())
		}
		b, err := json.MarshalIndent(k, "", "\t")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	k := readKnown(t)
	octets, err := hex.DecodeString(k.Verifier)
	if err != nil {
		t.Fatal(err)
	}
	v, err := ParseVerifier(octets)
	if err != nil {
		t.Fatal(err)
	}
	shares, bad := ParseShares(k.Shares...)
	if v.ID() != k.ID || len(bad) != 0 || len(shares) != 5 {
		t.Fatalf("split %s, %d shares, %v", v.ID(), len(shares), bad)
	}
	for i, s := range shares {
		if s.Text() != k.Shares[i] || s.Index() != i+1 || s.SplitID() != k.ID {
			t.Errorf("share %d reads as %v", i+1, s)
		}
	}
	slices.Reverse(shares)
	secret, bad, err := v.Combine(shares)
	if err != nil || len(bad) != 0 || hex.EncodeToString(secret) != k.Secret {
		t.Errorf("combined: %v, %v", bad, err)
	}
}

func readKnown(t testing.TB) (k known) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "known-3of5.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &k); err != nil {
		t.Fatal(err)
	}
	return k
}

// The valid and the invalid strings of BIP 350.
func TestBech32m(t *testing.T) {
	for text, valid := range map[string]bool{
		"a1lqfn3a": true,
		"an83characterlonghumanreadablepartthatcontainsthetheexcludedcharactersbioandnumber11sg7hg6": true,
		"abcdef1l7aum6echk45nj3s0wdvt2fg8x9yrzpqzd3ryx":                                              true,
		"split1checkupstagehandshakeupstreamerranterredcaperredlc445v":                               true,
		"?1v759aa": true,
		"m1vuxwez": false, // a wrong checksum
		"a12uel5l": false, // Bech32, not Bech32m
	} {
		head, tail := text[:strings.LastIndexByte(text, '1')], text[strings.LastIndexByte(text, '1')+1:]
		var symbols []byte
		for i := range tail {
			symbols = append(symbols, byte(symbolOf(tail[i])))
		}
		if checksumFits(head, symbols) != valid {
			t.Errorf("%s: valid is %v", text, !valid)
		}
		if again := appendChecksum(head, slices.Clone(symbols[:len(symbols)-6])); bytes.Equal(again, symbols) != valid {
			t.Errorf("%s: checksum % x", text, again[len(again)-6:])
		}
	}
}

func FuzzParseShares(f *testing.F) {
	k := readKnown(f)
	for _, s := range k.Shares {
		f.Add(s)
	}
	f.Add(strings.Join(k.Shares, "\n"))
	f.Add("# x\nbkrpshare1")
	octets, _ := hex.DecodeString(k.Verifier)
	v, err := ParseVerifier(octets)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		shares, bad := ParseShares(text)
		for _, b := range bad {
			if b.Position == 0 || b.Error() == "" {
				t.Errorf("an error without a place: %v", b)
			}
		}
		for _, s := range shares {
			again, bad := ParseShares(s.Text())
			if len(bad) != 0 || len(again) != 1 || again[0].Text() != s.Text() {
				t.Errorf("%v reads as %v, %v", s, again, bad)
			}
		}
		if secret, _, err := v.Combine(shares); err == nil && hex.EncodeToString(secret) != k.Secret {
			t.Error("another secret")
		}
	})
}

func FuzzParseVerifier(f *testing.F) {
	octets, _ := hex.DecodeString(readKnown(f).Verifier)
	f.Add(octets)
	f.Add(octets[:40])
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := ParseVerifier(b)
		if err != nil {
			if !errors.Is(err, ErrVerifier) {
				t.Error(err)
			}
			return
		}
		if !bytes.Equal(v.AppendBinary(nil), b) {
			t.Error("marshals to other octets")
		}
	})
}
