package wire

import (
	"bytes"
	"encoding/hex"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/seed05845750/bkrp/dtyp"
)

// samples reads the messages of a published sample of the package above.
func samples(t testing.TB, name string) map[string][]byte {
	t.Helper()
	text, err := os.ReadFile("../testdata/" + name + ".txt")
	if err != nil {
		t.Fatal(err)
	}
	v := make(map[string][]byte)
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && key != "#" {
			if v[key], err = hex.DecodeString(value); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(v) == 0 {
		t.Fatal(name, "is empty")
	}
	return v
}

// message puts a header in front of a body.
func message(body []byte) []byte {
	return append((&Header{Command: Echo, MessageID: 7}).Append(nil), body...)
}

// inverse fuzzes one parser of messages: what it accepts, marshalled, parses
// to the same value and the same octets again.
func inverse[T any](f *testing.F, parse func([]byte) (T, error), marshal func(T) []byte, seeds ...T) {
	f.Helper()
	for _, v := range seeds {
		msg := message(marshal(v))
		got, err := parse(msg)
		if err != nil || !reflect.DeepEqual(got, v) {
			f.Fatalf("%+v comes back as %+v, %v", v, got, err)
		}
		f.Add(msg)
		f.Add(msg[:len(msg)-1])
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		v, err := parse(msg)
		if err != nil {
			return
		}
		first := message(marshal(v))
		again, err := parse(first)
		if err != nil || !reflect.DeepEqual(again, v) {
			t.Fatalf("%+v comes back as %+v, %v", v, again, err)
		}
		if second := message(marshal(again)); !bytes.Equal(first, second) {
			t.Fatalf("marshals to %x and %x", first, second)
		}
	})
}

// bodyOf makes a marshaller of an Append method with a value to point at.
func bodyOf[T any, P interface {
	*T
	Append([]byte) []byte
}](v T) []byte {
	return P(&v).Append(nil)
}

func FuzzHeader(f *testing.F) {
	for _, s := range []string{"preauth-311", "encryption-300", "encryption-311"} {
		for _, msg := range samples(f, s) {
			f.Add(msg)
		}
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		h, err := ParseHeader(msg)
		if err != nil {
			return
		}
		if got := h.Append(nil); !bytes.Equal(got, msg[:HeaderSize]) {
			t.Fatalf("%x comes back as %x", msg[:HeaderSize], got)
		}
	})
}

func FuzzTransform(f *testing.F) {
	for _, s := range []string{"encryption-300", "encryption-311"} {
		v := samples(f, s)
		f.Add(v["request-encrypted"])
		f.Add(v["response-encrypted"])
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		tr, rest, err := ParseTransform(msg)
		if err != nil {
			return
		}
		got := append(tr.Append(nil), rest...)
		copy(got[40:42], msg[40:42]) // reserved
		if !bytes.Equal(got, msg) {
			t.Fatalf("%x comes back as %x", msg, got)
		}
	})
}

var seedContexts = []NegotiateContext{
	{Type: ContextPreauth, Data: PreauthCapabilities{Hashes: []uint16{1}, Salt: []byte("salt")}.Append(nil)},
	{Type: ContextEncryption, Data: AppendAlgorithms(nil, 2, 1)},
	{Type: 5, Data: []byte("name.of.a.server")},
}

func FuzzNegotiateRequest(f *testing.F) {
	f.Add(samples(f, "preauth-311")["negotiate-request"])
	inverse(f, ParseNegotiateRequest, func(r *NegotiateRequest) []byte { return r.Append(nil) },
		&NegotiateRequest{SecurityMode: 1, Capabilities: 0x44, ClientGUID: dtyp.GUID{1, 2}, Dialects: []Dialect{Dialect202, Dialect210}},
		&NegotiateRequest{SecurityMode: 1, Dialects: []Dialect{Dialect302, Dialect311}, Contexts: seedContexts})
}

func FuzzNegotiateResponse(f *testing.F) {
	f.Add(samples(f, "preauth-311")["negotiate-response"])
	inverse(f, ParseNegotiateResponse, func(r *NegotiateResponse) []byte { return r.Append(nil) },
		&NegotiateResponse{SecurityMode: 3, Dialect: Dialect210, MaxRead: 65536, SystemTime: 5, Token: []byte("hint")},
		&NegotiateResponse{SecurityMode: 3, Dialect: Dialect311, Token: []byte("hint"), Contexts: seedContexts})
}

func FuzzPreauth(f *testing.F) {
	f.Add(seedContexts[0].Data)
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := ParsePreauth(data)
		if err != nil {
			return
		}
		if got := p.Append(nil); !bytes.HasPrefix(data, got) {
			t.Fatalf("%x comes back as %x", data, got)
		}
	})
}

func FuzzAlgorithms(f *testing.F) {
	f.Add(seedContexts[1].Data)
	f.Fuzz(func(t *testing.T, data []byte) {
		ids, err := ParseAlgorithms(data)
		if err != nil {
			return
		}
		if got := AppendAlgorithms(nil, ids...); !bytes.HasPrefix(data, got) {
			t.Fatalf("%x comes back as %x", data, got)
		}
	})
}

func FuzzSMB1Negotiate(f *testing.F) {
	f.Add((&SMB1NegotiateRequest{Dialects: []string{"NT LM 0.12", SMB1Name202, SMB1NameWildcard}}).Append(nil))
	f.Fuzz(func(t *testing.T, msg []byte) {
		r, err := ParseSMB1Negotiate(msg)
		if err != nil {
			return
		}
		again, err := ParseSMB1Negotiate(r.Append(nil))
		if err != nil || !reflect.DeepEqual(again, r) {
			t.Fatalf("%+v comes back as %+v, %v", r, again, err)
		}
	})
}

func FuzzSessionSetupRequest(f *testing.F) {
	v := samples(f, "preauth-311")
	f.Add(v["session-setup-request-1"])
	f.Add(v["session-setup-request-2"])
	inverse(f, ParseSessionSetupRequest, bodyOf,
		SessionSetupRequest{Flags: 1, SecurityMode: 2, Capabilities: 3, PreviousSessionID: 4, Token: []byte("token")}, SessionSetupRequest{})
}

func FuzzSessionSetupResponse(f *testing.F) {
	f.Add(samples(f, "preauth-311")["session-setup-response-1"])
	inverse(f, ParseSessionSetupResponse, bodyOf, SessionSetupResponse{Flags: 4, Token: []byte("token")}, SessionSetupResponse{})
}

func FuzzTreeConnectRequest(f *testing.F) {
	inverse(f, ParseTreeConnectRequest, bodyOf, TreeConnectRequest{Path: AppendUTF16(nil, `\\dc1\IPC$`)}, TreeConnectRequest{})
}

func FuzzTreeConnectResponse(f *testing.F) {
	inverse(f, ParseTreeConnectResponse, bodyOf, TreeConnectResponse{ShareType: 2, ShareFlags: 0x30, Capabilities: 1, MaximalAccess: 0x1f01ff})
}

func FuzzCreateRequest(f *testing.F) {
	context := []byte{0, 0, 0, 0, 16, 0, 4, 0, 0, 0, 24, 0, 2, 0, 0, 0, 'M', 'x', 'A', 'c', 0, 0, 0, 0, 1, 2}
	two := append([]byte{32, 0, 0, 0}, context[4:]...)
	two = append(append(two, make([]byte, 6)...), context...)
	inverse(f, ParseCreateRequest, bodyOf,
		CreateRequest{Impersonation: 2, DesiredAccess: 3, Attributes: 4, ShareAccess: 5, Disposition: 1, Options: 6, Name: AppendUTF16(nil, "pipe")},
		CreateRequest{Name: AppendUTF16(nil, "x"), Contexts: context}, CreateRequest{OplockLevel: 9, Contexts: two}, CreateRequest{})
}

func FuzzCreateResponse(f *testing.F) {
	inverse(f, ParseCreateResponse, bodyOf, CreateResponse{Action: 1, FileID: FileID{5, 6},
		FileAttributes: FileAttributes{Creation: 1, LastAccess: 2, LastWrite: 3, Change: 4, AllocationSize: 4096, EndOfFile: 7, Attributes: 0x80}})
}

func FuzzCloseRequest(f *testing.F) {
	inverse(f, ParseCloseRequest, bodyOf, CloseRequest{Flags: 1, FileID: FileID{1, 2}})
}

func FuzzCloseResponse(f *testing.F) {
	inverse(f, ParseCloseResponse, bodyOf, CloseResponse{Flags: 1, FileAttributes: FileAttributes{Attributes: 0x80}})
}

func FuzzFlushRequest(f *testing.F) {
	inverse(f, ParseFlushRequest, bodyOf, FlushRequest{FileID: FileID{1, 2}})
}

func FuzzReadRequest(f *testing.F) {
	inverse(f, ParseReadRequest, bodyOf, ReadRequest{Length: 100, Offset: 5, FileID: FileID{1, 2}, MinimumCount: 1, Channel: 1})
}

func FuzzReadResponse(f *testing.F) {
	inverse(f, ParseReadResponse, bodyOf, ReadResponse{Data: []byte("data")}, ReadResponse{})
}

func FuzzWriteRequest(f *testing.F) {
	v := samples(f, "encryption-300")["request"]
	r, err := ParseWriteRequest(v)
	if err != nil || string(r.Data) != "Smb3 encryption testing" {
		f.Fatalf("the sample's write is %q, %v", r.Data, err)
	}
	f.Add(v)
	inverse(f, ParseWriteRequest, bodyOf, WriteRequest{Offset: 5, FileID: FileID{1, 2}, Channel: 1, Data: []byte("data")}, WriteRequest{})
}

func FuzzWriteResponse(f *testing.F) {
	v := samples(f, "encryption-311")["response"]
	if r, err := ParseWriteResponse(v); err != nil || r.Count != 23 {
		f.Fatalf("the sample's write response is %+v, %v", r, err)
	}
	f.Add(v)
	inverse(f, ParseWriteResponse, bodyOf, WriteResponse{Count: 23})
}

func FuzzIoctlRequest(f *testing.F) {
	inverse(f, ParseIoctlRequest, bodyOf,
		IoctlRequest{Code: FSCTLPipeTransceive, FileID: FileID{1, 2}, Input: []byte("data"), MaxInput: 1, MaxOutput: 4280, Flags: 1}, IoctlRequest{})
}

func FuzzIoctlResponse(f *testing.F) {
	inverse(f, ParseIoctlResponse, bodyOf, IoctlResponse{Code: FSCTLPipeTransceive, FileID: FileID{1, 2}, Output: []byte("data")}, IoctlResponse{})
}

func FuzzPipeWait(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 'x', 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if w, err := ParsePipeWait(b); err == nil && (len(w.Name) > len(b)-14 || !bytes.HasPrefix(b[14:], w.Name)) {
			t.Fatalf("%x: name %x", b, w.Name)
		}
	})
}

func FuzzValidateNegotiation(f *testing.F) {
	v := ValidateNegotiation{Capabilities: 1, ClientGUID: dtyp.GUID{2}, SecurityMode: 3, Dialects: []Dialect{Dialect202, Dialect302}}
	f.Add(v.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := ParseValidateNegotiation(b)
		if err != nil {
			return
		}
		if got := v.Append(nil); !bytes.HasPrefix(b, got) {
			t.Fatalf("%x comes back as %x", b, got)
		}
	})
}

func FuzzQueryInfoRequest(f *testing.F) {
	inverse(f, ParseQueryInfoRequest, bodyOf, QueryInfoRequest{InfoType: 1, Class: 5, MaxOutput: 100, Additional: 2, Flags: 3, FileID: FileID{1, 2}})
}

func FuzzQueryInfoResponse(f *testing.F) {
	inverse(f, ParseQueryInfoResponse, bodyOf, QueryInfoResponse{Data: []byte("data")}, QueryInfoResponse{})
}

func FuzzSetInfoRequest(f *testing.F) {
	inverse(f, ParseSetInfoRequest, bodyOf, SetInfoRequest{InfoType: 1, Class: 23, Data: []byte("datadata"), Additional: 2, FileID: FileID{1, 2}}, SetInfoRequest{})
}

// TestShortBodies has every parser refuse a body without its fixed part, and
// one with another structure size.
func TestShortBodies(t *testing.T) {
	erase := func(f any) func([]byte) error {
		return func(msg []byte) error {
			out := reflect.ValueOf(f).Call([]reflect.Value{reflect.ValueOf(msg)})
			err, _ := out[len(out)-1].Interface().(error)
			return err
		}
	}
	parsers := map[int][]any{
		36: {ParseNegotiateRequest}, 65: {ParseNegotiateResponse}, 25: {ParseSessionSetupRequest},
		9:  {ParseSessionSetupResponse, ParseTreeConnectRequest, ParseQueryInfoResponse, ParseError},
		16: {ParseTreeConnectResponse}, 57: {ParseCreateRequest, ParseIoctlRequest}, 89: {ParseCreateResponse},
		24: {ParseCloseRequest, ParseFlushRequest}, 60: {ParseCloseResponse}, 4: {ParseEmpty},
		49: {ParseReadRequest, ParseWriteRequest, ParseIoctlResponse}, 17: {ParseReadResponse, ParseWriteResponse},
		41: {ParseQueryInfoRequest}, 33: {ParseSetInfoRequest},
	}
	for size, list := range parsers {
		for _, p := range list {
			msg := message(make([]byte, size))
			le.PutUint16(msg[HeaderSize:], uint16(size))
			if size == 36 {
				msg[HeaderSize+2] = 1 // needs a dialect
				msg = append(msg, 0, 0)
			}
			if err := erase(p)(msg); err != nil {
				t.Errorf("size %d: %v", size, err)
			}
			if err := erase(p)(msg[:HeaderSize+size&^1-1]); err != ErrMalformed {
				t.Errorf("size %d, short: %v", size, err)
			}
			msg[HeaderSize]++
			if err := erase(p)(msg); err != ErrMalformed {
				t.Errorf("size %d, said to be %d: %v", size, size+1, err)
			}
		}
	}
}

// TestSpan has offsets and lengths that lie.
func TestSpan(t *testing.T) {
	msg := make([]byte, 100)
	for _, c := range []struct {
		offset, length uint32
		ok             bool
	}{
		{72, 28, true}, {72, 29, false}, {71, 1, false}, {100, 0, true}, {5, 0, true}, {99, 1, true},
		{100, 1, false}, {1<<32 - 1, 1, false}, {72, 1<<32 - 1, false}, {1<<32 - 1, 1<<32 - 1, false},
	} {
		b, err := span(msg, c.offset, c.length, 8)
		if (err == nil) != c.ok || err == nil && len(b) != int(c.length) {
			t.Errorf("%d octets at %d: %d, %v", c.length, c.offset, len(b), err)
		}
	}
}

func TestUTF16(t *testing.T) {
	for _, s := range []string{"", "pipe", "Grüße", "𝄞"} {
		if got, err := DecodeUTF16(AppendUTF16(nil, s)); err != nil || got != s {
			t.Errorf("%q comes back as %q, %v", s, got, err)
		}
	}
	if _, err := DecodeUTF16([]byte{1, 2, 3}); err != ErrMalformed {
		t.Error("an odd length is accepted:", err)
	}
}
