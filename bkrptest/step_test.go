package bkrptest

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
)

// message is one of SMB 2 with a body.
func message(command uint16, body []byte) []byte {
	m := make([]byte, headerSize)
	copy(m, "\xFESMB")
	binary.LittleEndian.PutUint16(m[4:], headerSize)
	binary.LittleEndian.PutUint16(m[12:], command)
	return append(m, body...)
}

// write is a WRITE of data ([MS-SMB2] 2.2.21), and read the response to a READ
// (2.2.20).
func write(data []byte) []byte {
	body := make([]byte, 48)
	body[0], body[2] = 49, headerSize+48
	binary.LittleEndian.PutUint32(body[4:], uint32(len(data)))
	return message(commandWrite, append(body, data...))
}

func read(data []byte) []byte {
	body := make([]byte, 16)
	body[0], body[2] = 17, headerSize+16
	binary.LittleEndian.PutUint32(body[4:], uint32(len(data)))
	return message(commandRead, append(body, data...))
}

// compound puts messages into one.
func compound(parts ...[]byte) []byte {
	var all []byte
	for i, p := range parts {
		p = append(p, make([]byte, -len(p)&7)...)
		if i < len(parts)-1 {
			binary.LittleEndian.PutUint32(p[20:], uint32(len(p)))
		}
		all = append(all, p...)
	}
	return all
}

func TestStepsOf(t *testing.T) {
	bind, request, response := []byte{5, 0, pduBind, 3}, []byte{5, 0, pduRequest, 3}, []byte{5, 0, pduResponse, 3}
	for name, tt := range map[string]struct {
		message    []byte
		fromServer bool
		want       []Step
	}{
		"negotiate":           {message(commandNegotiate, nil), false, []Step{Negotiate}},
		"SMB 1":               {[]byte("\xFFSMBr"), false, []Step{Negotiate}},
		"answer to negotiate": {message(commandNegotiate, nil), true, nil},
		"bind":                {write(bind), false, []Step{Bind}},
		"request":             {write(request), false, []Step{Request}},
		"response":            {read(response), true, []Step{Response}},
		"read":                {read(response), false, nil},
		"compound":            {compound(message(commandCreate, nil), write(bind)), false, []Step{Create, Bind}},
		"other data":          {write([]byte("data")), false, nil},
		"cut short":           {write(bind)[:headerSize+48+3], false, nil},
		"encrypted":           {[]byte("\xFDSMB and more"), false, nil},
		"nothing":             {nil, false, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if got := stepsOf(tt.message, tt.fromServer); !slices.Equal(got, tt.want) {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
}

// framed puts messages behind their lengths.
func framed(messages ...[]byte) []byte {
	var stream []byte
	for _, m := range messages {
		stream = append(binary.BigEndian.AppendUint32(stream, uint32(len(m))), m...)
	}
	return stream
}

// TestFramer cuts a stream into pieces of each size: the messages are found, and
// what is passed on ends before the one that is dropped, or within it.
func TestFramer(t *testing.T) {
	messages := [][]byte{[]byte("first"), nil, []byte("second message"), []byte("the last")}
	stream := framed(messages...)
	end := len(framed(messages[:2]...))
	for size := 1; size <= len(stream); size++ {
		var seen [][]byte
		var f framer
		for piece := range slices.Chunk(stream, size) {
			if n, dropped := f.pass(piece, func(m []byte) bool { seen = append(seen, bytes.Clone(m)); return false }); n != len(piece) || dropped {
				t.Fatalf("pieces of %d: %d of %d passed, %v", size, n, len(piece), dropped)
			}
		}
		if !slices.EqualFunc(seen, messages, bytes.Equal) {
			t.Errorf("pieces of %d: %q", size, seen)
		}
		passed := 0
		f = framer{}
		for piece := range slices.Chunk(stream, size) {
			n, dropped := f.pass(piece, func(m []byte) bool { return string(m) == "second message" })
			passed += n
			if dropped {
				break
			}
		}
		if passed < end || passed >= end+4+len("second message") {
			t.Errorf("pieces of %d: %d octets passed, and the message is at %d", size, passed, end)
		}
	}
}

func FuzzStepsOf(f *testing.F) {
	f.Add(compound(message(commandCreate, nil), write([]byte{5, 0, pduBind, 3})), false)
	f.Add(read([]byte{5, 0, pduResponse, 3}), true)
	f.Add([]byte("\xFFSMBr"), false)
	f.Fuzz(func(t *testing.T, m []byte, fromServer bool) {
		for _, s := range stepsOf(m, fromServer) {
			if s <= Connect || s > Response || fromServer != (s == Response) {
				t.Errorf("%v", s)
			}
		}
	})
}
