package dclocator

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"
)

// recorded are the datagrams with which real domain controllers answered.
func recorded(t testing.TB) map[string][]byte {
	t.Helper()
	names, err := filepath.Glob("testdata/*.hex")
	if err != nil || len(names) == 0 {
		t.Fatalf("no recorded answers in testdata (%v)", err)
	}
	answers := make(map[string][]byte)
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		b, err := hex.DecodeString(string(bytes.Join(bytes.Fields(text), nil)))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		answers[filepath.Base(name)] = b
	}
	return answers
}

func FuzzParseReply(f *testing.F) {
	for _, answer := range recorded(f) {
		_, netlogon, err := ParseAnswer(answer)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(netlogon)
	}
	for _, b := range badNames {
		f.Add(withNames(b))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseReply(b)
		if err != nil {
			if r != nil {
				t.Fatal("half a reply beside an error")
			}
			return
		}
		for _, name := range r.names() {
			if len(*name) > maxName {
				t.Fatalf("a name of %d octets", len(*name))
			}
		}
		want := *r
		want.NtVersion &^= ntVersionWithIP | ntVersionClosest
		again, err := ParseReply(r.Append(nil))
		if err != nil || *again != want {
			t.Fatalf("%+v comes back as %+v, %v", want, again, err)
		}
	})
}

func FuzzParseAnswer(f *testing.F) {
	for _, answer := range recorded(f) {
		f.Add(answer)
	}
	f.Add(AppendAnswer(nil, 1, nil))
	f.Add(AppendAnswer(nil, 1<<31-1, []byte("value")))
	f.Fuzz(func(t *testing.T, b []byte) {
		id, netlogon, err := ParseAnswer(b)
		if err != nil {
			return
		}
		gotID, got, err := ParseAnswer(AppendAnswer(nil, id, netlogon))
		if err != nil || gotID != id || !bytes.Equal(got, netlogon) || (got == nil) != (netlogon == nil) {
			t.Fatalf("%d, %x comes back as %d, %x, %v", id, netlogon, gotID, got, err)
		}
	})
}

func FuzzParsePing(f *testing.F) {
	f.Add(Ping{ID: 1, Domain: "bkrp.test", NtVer: askedVersion}.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParsePing(b)
		if err != nil {
			return
		}
		if again, err := ParsePing(p.Append(nil)); err != nil || again != p {
			t.Fatalf("%+v comes back as %+v, %v", p, again, err)
		}
	})
}
