package dclocator

import (
	"bytes"
	"errors"
	"testing"
)

// TestRecorded reads what Samba has answered; interop/locator_test.go records
// it again with -update.
func TestRecorded(t *testing.T) {
	for name, answer := range recorded(t) {
		t.Run("D-21 "+name, func(t *testing.T) {
			_, netlogon, err := ParseAnswer(answer)
			if err != nil {
				t.Fatal(err)
			}
			r, err := ParseReply(netlogon)
			if err != nil {
				t.Fatal(err)
			}
			if r.Domain != "bkrp.test" || r.Forest != "bkrp.test" || r.Host != "dc1.bkrp.test" || r.Site != "Default-First-Site-Name" ||
				r.NetBIOSDomain != "BKRP" || r.NetBIOSHost != "DC1" || r.ClientSite != r.Site || r.User != "" {
				t.Errorf("%+v", r)
			}
			if err := judge(r, "BKRP.test", "dc1.BKRP.test"); err != nil {
				t.Error(err)
			}
			// Whatever is cut off, it is no reply any more.
			for n := range netlogon {
				if r, err := ParseReply(netlogon[:n]); err == nil || r != nil {
					t.Errorf("%d octets of it are a reply", n)
				}
			}
			for n := range answer {
				if _, v, err := ParseAnswer(answer[:n]); err == nil && !bytes.Equal(v, netlogon) {
					t.Errorf("%d octets of it are an answer", n)
				}
			}
		})
	}
}

// withNames is a reply of which the names are b; the last of them stands where
// it says.
func withNames(b []byte) []byte {
	r := Reply{NtVersion: ntVersion5EX}
	whole := r.Append(nil)
	out := append(whole[:replyHeader:replyHeader], b...)
	return append(out, whole[len(whole)-replyTail:]...)
}

var badNames = map[string][]byte{
	"a pointer to itself":           {0xC0, 24, 0, 0, 0, 0, 0, 0, 0},
	"a pointer forwards":            {0xC0, 26, 0, 0, 0, 0, 0, 0, 0},
	"a pointer into the header":     {0xC0, 4, 0, 0, 0, 0, 0, 0, 0},
	"a pointer to beyond":           {0xFF, 0xFF, 0, 0, 0, 0, 0, 0, 0},
	"two pointers to each other":    {1, 'a', 0xC0, 28, 1, 'b', 0xC0, 24, 0, 0, 0, 0, 0, 0},
	"a label that leads to itself":  {1, 'a', 0xC0, 24, 0, 0, 0, 0, 0, 0, 0},
	"half a pointer":                {0, 0, 0, 0, 0, 0, 0, 0xC0},
	"a label that does not end":     {0, 0, 0, 0, 0, 0, 0, 63, 'a'},
	"a label of an unknown kind":    append(append([]byte{0x40}, make([]byte, 64)...), 0, 0, 0, 0, 0, 0, 0, 0),
	"a name missing":                {0, 0, 0, 0, 0, 0, 0},
	"a name too many":               {0, 0, 0, 0, 0, 0, 0, 0, 0},
	"a dot inside a label":          {3, 'a', '.', 'b', 0, 0, 0, 0, 0, 0, 0, 0},
	"an escape sequence":            {3, 0x1B, '[', 'm', 0, 0, 0, 0, 0, 0, 0, 0},
	"no UTF-8":                      {1, 0xFF, 0, 0, 0, 0, 0, 0, 0, 0},
	"more than 255 octets":          append(bytes.Repeat([]byte("\x3faaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"), 5), 0, 0, 0, 0, 0, 0, 0, 0),
	"more than 255 octets, pointed": pointedChain(),
}

// pointedChain has names that each are the one before and some more: short on
// the wire, and long when written out.
func pointedChain() []byte {
	b := append([]byte{63}, bytes.Repeat([]byte{'a'}, 63)...)
	b = append(b, 0)
	at := replyHeader
	for range 7 {
		next := replyHeader + len(b)
		b = append(b, 60)
		b = append(b, bytes.Repeat([]byte{'b'}, 60)...)
		b = append(b, 0xC0|byte(at>>8), byte(at))
		at = next
	}
	return b
}

func TestBadNames(t *testing.T) {
	if _, err := ParseReply(withNames(make([]byte, 8))); err != nil {
		t.Fatalf("eight empty names: %v", err)
	}
	for name, b := range badNames {
		t.Run(name, func(t *testing.T) {
			if r, err := ParseReply(withNames(b)); !errors.Is(err, ErrReply) {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
}

func TestBadReplies(t *testing.T) {
	good := (&Reply{Domain: "bkrp.test", NtVersion: askedVersion}).Append(nil)
	for name, bend := range map[string]func(b []byte) []byte{
		"opcode of another structure": func(b []byte) []byte { b[0] = 0x13; return b },
		"NtVersion without 5EX":       func(b []byte) []byte { b[len(b)-8] = 1; return b },
		"tokens":                      func(b []byte) []byte { b[len(b)-1] = 0; return b },
		"an address that is not there": func(b []byte) []byte {
			b[len(b)-8] |= ntVersionWithIP
			return b
		},
		"an octet too many": func(b []byte) []byte { return append(b, 0xFF) },
		"nothing":           func([]byte) []byte { return nil },
	} {
		if r, err := ParseReply(bend(bytes.Clone(good))); !errors.Is(err, ErrReply) || r != nil {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	t.Run("with an address and the next site", func(t *testing.T) {
		b := bytes.Clone(good[:len(good)-replyTail])
		b = append(b, 16)
		b = append(b, make([]byte, 16)...)
		b = append(b, 4, 'S', 'i', 't', 'e', 0)
		b = append(b, ntVersion5EX|ntVersionWithIP|ntVersionClosest, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF)
		if r, err := ParseReply(b); err != nil || r.Domain != "bkrp.test" {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

func TestAnswers(t *testing.T) {
	// Windows writes every length in four octets.
	long := []byte("\x30\x84\x00\x00\x00\x2d\x02\x01\x07\x64\x84\x00\x00\x00\x24\x04\x00\x30\x84\x00\x00\x00\x1c" +
		"\x30\x84\x00\x00\x00\x16\x04\x08netlogon\x31\x84\x00\x00\x00\x06\x04\x04\x01\x02\x03\x04" +
		"\x30\x84\x00\x00\x00\x10\x02\x01\x07\x65\x84\x00\x00\x00\x07\x0a\x01\x00\x04\x00\x04\x00")
	if id, v, err := ParseAnswer(long); err != nil || id != 7 || !bytes.Equal(v, []byte{1, 2, 3, 4}) {
		t.Errorf("%d, %x, %v", id, v, err)
	}
	if id, v, err := ParseAnswer(AppendAnswer(nil, 9, nil)); err != nil || id != 9 || v != nil {
		t.Errorf("no attribute: %d, %x, %v", id, v, err)
	}
	good := AppendAnswer(nil, 7, []byte("value"))
	for name, b := range map[string][]byte{
		"nothing":                 nil,
		"a length without end":    []byte("\x30\x80\x02\x01\x07\x00\x00"),
		"a length of 4 GiB":       []byte("\x30\x84\xff\xff\xff\xff\x02\x01\x07"),
		"a length of five octets": []byte("\x30\x85\x00\x00\x00\x00\x03\x02\x01\x07"),
		"a negative number":       []byte("\x30\x0a\x02\x01\xff\x65\x05\x0a\x01\x00\x04\x00"),
		"a question":              Ping{ID: 7, Domain: "bkrp.test"}.Append(nil),
		"the entry twice":         append(bytes.Clone(good[:len(good)-14]), good...),
		"an end of another":       append(bytes.Clone(good[:len(good)-14]), AppendAnswer(nil, 8, nil)...),
		"two values":              []byte("\x30\x1f\x02\x01\x07\x64\x1a\x04\x00\x30\x16\x30\x14\x04\x08netlogon\x31\x08\x04\x02aa\x04\x02bb"),
	} {
		if _, v, err := ParseAnswer(b); !errors.Is(err, ErrReply) || v != nil {
			t.Errorf("%s: %x, %v", name, v, err)
		}
	}
}

func TestPing(t *testing.T) {
	p := Ping{ID: 0x12345678, Domain: "bkrp.test", NtVer: askedVersion}
	b := p.Append(nil)
	want := "\x30\x4e\x02\x04\x12\x34\x56\x78\x63\x46\x04\x00\x0a\x01\x00\x0a\x01\x00\x02\x01\x00\x02\x01\x00\x01\x01\x00" +
		"\xa0\x27\xa3\x16\x04\x09DnsDomain\x04\x09bkrp.test\xa3\x0d\x04\x05NtVer\x04\x04\x06\x00\x00\x00" +
		"\x30\x0a\x04\x08Netlogon"
	if string(b) != want {
		t.Errorf("%q", b)
	}
	if got, err := ParsePing(b); err != nil || got != p {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestJudge(t *testing.T) {
	good := Reply{Domain: "bkrp.test", Host: "dc1.bkrp.test", Flags: FlagDS | FlagWritable}
	for name, tt := range map[string]struct {
		bend func(r *Reply)
		want error
	}{
		"good":                          {func(*Reply) {}, nil},
		"C-3.2.4-02 not writable":       {func(r *Reply) { r.Flags &^= FlagWritable }, errReadOnly},
		"C-3.2.4-02 keeps some secrets": {func(r *Reply) { r.Flags |= FlagSelectSecret }, errReadOnly},
		"another domain":                {func(r *Reply) { r.Domain = "other.test" }, errOtherDomain},
		"a naming context":              {func(r *Reply) { r.Flags |= FlagNDNC }, errOtherDomain},
		"another name":                  {func(r *Reply) { r.Host = "dc2.bkrp.test" }, errOtherName},
		"paused":                        {func(r *Reply) { r.Paused = true }, errPaused},
	} {
		r := good
		tt.bend(&r)
		if err := judge(&r, "Bkrp.Test", "DC1.bkrp.test"); err != tt.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReplyIsCompressed(t *testing.T) {
	r := Reply{Forest: "bkrp.test", Domain: "bkrp.test", Host: "dc1.bkrp.test", NtVersion: askedVersion}
	if b := r.Append(nil); bytes.Count(b, []byte("bkrp")) != 1 {
		t.Errorf("%q", b)
	}
}
