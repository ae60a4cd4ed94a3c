package npa

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/seed05845750/bkrp/internal/ndr"
)

// recordedHello is what a real smbd sent.
func recordedHello(t testing.TB) []byte {
	t.Helper()
	text, err := os.ReadFile("testdata/hello7.hex")
	if err != nil {
		t.Fatal(err)
	}
	var digits strings.Builder
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "#") {
			digits.WriteString(strings.TrimSpace(line))
		}
	}
	b, err := hex.DecodeString(digits.String())
	if err != nil || len(b) == 0 {
		t.Fatalf("%d octets, %v", len(b), err)
	}
	return b
}

// newHello is a hello as smbd would make it, with token in the place of the
// security token.
func newHello(h Hello, token int) []byte {
	w := ndr.NewWriter(nil, ndr.Encoding{})
	w.Octets([]byte{0, 0, 0, 0})
	w.Octets([]byte(magic))
	w.U32(h.Level)
	w.U32(h.Level)
	w.U8(transportPipe)
	text := func(s string) {
		w.ConformantVarying(len(s)+1, len(s)+1)
		w.Octets(append([]byte(s), 0))
	}
	w.Referent(true)
	w.Referent(true)
	w.U16(h.Client.Port())
	w.Referent(true)
	w.Referent(true)
	w.U16(h.Server.Port())
	w.Referent(true)
	text("client")
	text(h.Client.Addr().String())
	text("dc1")
	text(h.Server.Addr().String())
	b := append(w.Buffer(), bytes.Repeat([]byte{0xEE}, token)...)
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

var someHello = Hello{
	Level:  8,
	Client: netip.MustParseAddrPort("192.0.2.7:49152"),
	Server: netip.MustParseAddrPort("[2001:db8::1]:445"),
}

func TestHelloOfSamba417(t *testing.T) {
	want := Hello{
		Level:  7,
		Client: netip.MustParseAddrPort("127.0.0.1:39668"),
		Server: netip.MustParseAddrPort("127.0.0.42:445"),
	}
	b := recordedHello(t)
	got, err := ParseHello(b)
	if err != nil || got != want {
		t.Fatalf("%+v, %v, want %+v", got, err, want)
	}
	// From a stream, however it comes; what follows stays in it.
	for name, stream := range map[string]io.Reader{
		"at once":     bytes.NewReader(append(b, "next"...)),
		"octet-wise":  iotest.OneByteReader(bytes.NewReader(append(b, "next"...))),
		"with an EOF": iotest.DataErrReader(bytes.NewReader(append(b, "next"...))),
	} {
		got, err := readHello(stream)
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if rest, _ := io.ReadAll(stream); string(rest) != "next" {
			t.Errorf("%s: left in the stream: %q", name, rest)
		}
	}
}

func TestHelloOfLaterLevel(t *testing.T) {
	// Many groups: more than is held.
	b := newHello(someHello, 100_000)
	stream := bytes.NewReader(append(b, "next"...))
	got, err := readHello(stream)
	if err != nil || got != someHello {
		t.Fatalf("%+v, %v, want %+v", got, err, someHello)
	}
	if rest, _ := io.ReadAll(stream); string(rest) != "next" {
		t.Errorf("left in the stream: %d octets", len(rest))
	}
}

func TestHelloWithoutAddresses(t *testing.T) {
	b := newHello(someHello, 0)
	for _, at := range []int{0x14, 0x18, 0x20, 0x24} {
		copy(b[at:], []byte{0, 0, 0, 0})
	}
	got, err := ParseHello(b[:0x30])
	if err != nil || got.Client.IsValid() || got.Server.IsValid() || got.Level != someHello.Level {
		t.Errorf("%+v, %v", got, err)
	}
	p := &Pipe{hello: got}
	if p.RemoteAddr() != nil || p.LocalAddr() != nil {
		t.Errorf("addresses %v, %v of a client that has none", p.RemoteAddr(), p.LocalAddr())
	}
}

func TestHelloRefused(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(b []byte) []byte
		want   error
	}{
		{"empty", func(b []byte) []byte { return nil }, io.EOF},
		{"only a length", func(b []byte) []byte { return b[:4] }, io.EOF},
		{"cut short in the addresses", func(b []byte) []byte { return b[:60] }, io.ErrUnexpectedEOF},
		{"cut short in the token", func(b []byte) []byte { return b[:len(b)-1] }, io.ErrUnexpectedEOF},
		{"length of nothing", func(b []byte) []byte { clear(b[:4]); return b }, ErrHello},
		{"length before the addresses end", func(b []byte) []byte { binary.BigEndian.PutUint32(b, 60); return b }, ErrHello},
		{"endless", func(b []byte) []byte { binary.BigEndian.PutUint32(b, 1<<32-1); return b }, ErrHello},
		{"other magic", func(b []byte) []byte { b[4] = 'n'; return b }, ErrHello},
		{"older level", func(b []byte) []byte { b[8], b[12] = 6, 6; return b }, ErrLevel},
		{"newer level", func(b []byte) []byte { b[8], b[12] = 9, 9; return b }, ErrLevel},
		{"two levels", func(b []byte) []byte { b[12] = 7; return b }, ErrHello},
		{"TCP", func(b []byte) []byte { b[16] = 2; return b }, ErrHello},
		{"more than the maximum", func(b []byte) []byte { b[0x38]++; return b }, ErrHello},
		{"offset", func(b []byte) []byte { b[0x34] = 1; return b }, ErrHello},
		{"no terminator", func(b []byte) []byte { b[0x3C+len("client")] = 'x'; return b }, ErrHello},
		{"name beyond the head", func(b []byte) []byte {
			binary.LittleEndian.PutUint32(b[0x30:], 3000)
			binary.LittleEndian.PutUint32(b[0x38:], 3000)
			return b
		}, ErrHello},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, err := readHello(bytes.NewReader(c.change(newHello(someHello, 4000))))
			if !errors.Is(err, c.want) || h != (Hello{}) {
				t.Errorf("%+v, %v, want %v", h, err, c.want)
			}
		})
	}
}

// What ndrdump prints of these octets is what they are meant to be, and it
// makes the same of them again.
func TestReply(t *testing.T) {
	const want = "00000020" + "4e50414d" + "07000000" + "07000000" + "0200" + "ff05" + "00000000" + "0010000000000000" + "00000000"
	if got := hex.EncodeToString(appendReply(nil, 7)); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func FuzzParseHello(f *testing.F) {
	f.Add(recordedHello(f))
	f.Add(newHello(someHello, 10))
	f.Fuzz(func(t *testing.T, b []byte) {
		whole, err := readHello(bytes.NewReader(b))
		if err == nil {
			if again, err := ParseHello(b[:min(len(b), helloHead)]); err != nil || again != whole {
				t.Fatalf("from the stream %+v, from its head %+v, %v", whole, again, err)
			}
		}
		h, err := ParseHello(b)
		if err != nil {
			if h != (Hello{}) {
				t.Fatalf("%+v beside %v", h, err)
			}
			return
		}
		if !h.Client.IsValid() || !h.Server.IsValid() {
			return
		}
		if again, err := ParseHello(newHello(h, 0)); err != nil || again != h {
			t.Fatalf("%+v comes back as %+v, %v", h, again, err)
		}
	})
}
