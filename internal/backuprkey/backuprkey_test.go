package backuprkey

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/ndr"
)

var retrieve = dtyp.MustParseGUID("018ff48a-eaba-40c6-8f6d-72370240e967")

type vector struct {
	name    string
	enc     ndr.Encoding
	request bool
	data    []byte
	status  uint32
	stub    []byte
}

// vectors reads the stubs of testdata, made by impacket.
func vectors(t testing.TB) []vector {
	t.Helper()
	f, err := os.Open("testdata/impacket.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var vs []vector
	for s := bufio.NewScanner(f); s.Scan(); {
		w := strings.Fields(s.Text())
		if len(w) != 5 || w[0] == "#" {
			continue
		}
		n, err1 := strconv.Atoi(w[2])
		status, err2 := strconv.Atoi(w[3])
		stub, err3 := hex.DecodeString(w[4])
		if err := errors.Join(err1, err2, err3); err != nil {
			t.Fatal(err)
		}
		v := vector{
			name: strings.Join(w[:3], " "), enc: ndr.Encoding{NDR64: w[0] == "ndr64"},
			request: w[1] == "request", status: uint32(status), stub: stub, data: make([]byte, n),
		}
		for i := range v.data {
			v.data[i] = byte(i)
		}
		vs = append(vs, v)
	}
	if len(vs) != 24 {
		t.Fatalf("%d vectors, want 24", len(vs))
	}
	return vs
}

func TestImpacketStubs(t *testing.T) {
	for _, v := range vectors(t) {
		t.Run("S-3.1.4.1-02 "+v.name, func(t *testing.T) {
			var got []byte
			if v.request {
				q, err := ParseRequest(v.stub, v.enc)
				if err != nil || q.Action != retrieve || !bytes.Equal(q.Data, v.data) || q.Param != 0 {
					t.Fatalf("ParseRequest = %+v, %v", q, err)
				}
				got = q.Append(nil, v.enc)
			} else {
				p, err := ParseResponse(v.stub, v.enc)
				if err != nil || !bytes.Equal(p.Data, v.data) || p.Status != v.status {
					t.Fatalf("ParseResponse = %+v, %v", p, err)
				}
				got = p.Append(nil, v.enc)
			}
			if want := canonical(v); !bytes.Equal(got, want) {
				t.Errorf("marshalled\n%x, want\n%x", got, want)
			}
		})
	}
}

// canonical is the vector with what the peer may choose as we choose it: the
// referent identifier, and the filling of the gap, 0xBF with impacket.
func canonical(v vector) []byte {
	want := bytes.Clone(v.stub)
	if !v.request && len(v.data) > 0 {
		copy(want, []byte{0, 0, 2, 0})
	}
	for i := len(want) - 9; i >= 0 && want[i] == 0xbf; i-- {
		want[i] = 0
	}
	return want
}

func TestSizesOfEmptyStubs(t *testing.T) {
	for _, tt := range []struct {
		enc               ndr.Encoding
		request, response int
	}{
		{ndr.Encoding{}, 28, 12},
		{ndr.Encoding{NDR64: true}, 32, 16},
	} {
		if n := len(Request{Action: retrieve}.Append(nil, tt.enc)); n != tt.request {
			t.Errorf("%+v: request of %d octets, want %d", tt.enc, n, tt.request)
		}
		if n := len(Response{Status: 0xd}.Append(nil, tt.enc)); n != tt.response {
			t.Errorf("%+v: response of %d octets, want %d", tt.enc, n, tt.response)
		}
		if n := len(Response{Data: make([]byte, 61)}.Append(nil, tt.enc)); n > ResponseSize(61) {
			t.Errorf("%+v: response of %d octets, above ResponseSize", tt.enc, n)
		}
	}
}

func TestRefusedRequests(t *testing.T) {
	good := Request{Action: retrieve, Data: []byte("12345")}.Append(nil, ndr.Encoding{})
	with := func(off int, v byte) []byte {
		b := bytes.Clone(good)
		b[off] = v
		return b
	}
	for _, tt := range []struct {
		name string
		stub []byte
	}{
		{"W-2.2-01 cbDataIn below max_count", with(28, 4)},
		{"W-2.2-01 cbDataIn above max_count", with(28, 6)},
		{"W-2.2-01 max_count beyond the stub", with(16, 0xff)},
		{"W-2.2-01 max_count of 2 GiB", with(19, 0x80)},
		{"A-18 referent before the array", append(append(bytes.Clone(good[:16]), 0, 0, 2, 0), good[16:]...)},
		{"trailing octets", append(bytes.Clone(good), 0)},
		{"nothing", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := ParseRequest(tt.stub, ndr.Encoding{}); !errors.Is(err, ndr.ErrStub) {
				t.Errorf("ParseRequest = %v, want ndr.ErrStub", err)
			}
		})
	}
	for n := range good {
		if _, err := ParseRequest(good[:n], ndr.Encoding{}); !errors.Is(err, ndr.ErrStub) {
			t.Errorf("the first %d octets: %v", n, err)
		}
	}
	t.Run("W-2.2-02 NDR read as NDR64", func(t *testing.T) {
		if _, err := ParseRequest(good, ndr.Encoding{NDR64: true}); !errors.Is(err, ndr.ErrStub) {
			t.Errorf("ParseRequest = %v, want ndr.ErrStub", err)
		}
	})
}

func TestRefusedResponses(t *testing.T) {
	for name, stub := range map[string][]byte{
		"S-3.1.3-07 NULL with a length": {0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0},
		"pcbDataOut differs":            {0, 0, 2, 0, 1, 0, 0, 0, 9, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := ParseResponse(stub, ndr.Encoding{}); !errors.Is(err, ndr.ErrStub) {
				t.Errorf("ParseResponse = %v, want ndr.ErrStub", err)
			}
		})
	}
}

func FuzzRequest(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(v.stub, v.enc.NDR64, false)
	}
	f.Add(Request{Action: retrieve, Data: []byte("abc")}.Append(nil, ndr.Encoding{BigEndian: true}), false, true)
	f.Fuzz(func(t *testing.T, stub []byte, ndr64, big bool) {
		enc := ndr.Encoding{NDR64: ndr64, BigEndian: big}
		q, err := ParseRequest(stub, enc)
		if err != nil {
			return
		}
		again, err := ParseRequest(q.Append(nil, enc), enc)
		if err != nil || again.Action != q.Action || !bytes.Equal(again.Data, q.Data) || again.Param != q.Param {
			t.Fatalf("%+v came back as %+v, %v", q, again, err)
		}
	})
}

func FuzzResponse(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(v.stub, v.enc.NDR64, false)
	}
	f.Fuzz(func(t *testing.T, stub []byte, ndr64, big bool) {
		enc := ndr.Encoding{NDR64: ndr64, BigEndian: big}
		p, err := ParseResponse(stub, enc)
		if err != nil {
			return
		}
		again, err := ParseResponse(p.Append(nil, enc), enc)
		if err != nil || (again.Data == nil) != (p.Data == nil) || !bytes.Equal(again.Data, p.Data) || again.Status != p.Status {
			t.Fatalf("%+v came back as %+v, %v", p, again, err)
		}
	})
}
