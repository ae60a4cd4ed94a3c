package keystore

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
)

func FuzzParseUseRecord(f *testing.F) {
	r := &useRecord{Since: time.Unix(0, 0).UTC(), Writer: dtyp.GUID{1}, Seq: 7, useCount: useCount{
		Wraps: 1, Unwraps: 5, Retrieves: 3, Last: time.Unix(1e9, 0).UTC(), Days: []dayCount{{20000, 2}, {20089, 3}},
	}}
	value, err := r.marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(value)
	f.Add([]byte(`{"version":1,"since":"2026-01-01T00:00:00Z","writer":"00000000-0000-0000-0000-000000000000","seq":0,"days":[{"day":2,"unwraps":1},{"day":1,"unwraps":1}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseUseRecord("use", b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("error is %v, want ErrCorrupt", err)
			}
			return
		}
		b, err = r.marshal()
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseUseRecord("use", b)
		if err != nil {
			t.Fatalf("what was read does not write and read again: %v", err)
		}
		if second, err := again.marshal(); err != nil || !bytes.Equal(b, second) {
			t.Fatalf("%s became %s, %v", b, second, err)
		}
		r.add(&again.useCount)
		if len(r.Days) != len(again.Days) {
			t.Fatalf("days were lost: %v", r.Days)
		}
	})
}

func FuzzParseWhoRecord(f *testing.F) {
	r := newWhoRecord()
	for _, text := range []string{"S-1-5-18", "S-1-5-21-1-2-3-1104", "S-1-5-21-1-2-3-1105", "S-1-5"} {
		r.add(dtyp.MustParseSID(text), 20000)
	}
	r.lost = true
	value, err := r.marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(value)
	f.Add([]byte{whoVersion, whoMore})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseWhoRecord("who", b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("error is %v, want ErrCorrupt", err)
			}
			return
		}
		if again, err := r.marshal(); err != nil || !bytes.Equal(again, b) || r.size != len(b) {
			t.Fatalf("%x became %x of %d, %v", b, again, r.size, err)
		}
	})
}

func FuzzUseEntry(f *testing.F) {
	f.Add(useEntry(dtyp.GUID{1}, "local"))
	f.Add(useEntry(dtyp.GUID{2}, serverName("dc1.example.com/x")))
	f.Add("use/0/local")
	f.Fuzz(func(t *testing.T, name string) {
		guid, ok := useGUID(name)
		if ok && name != useEntry(guid, name[len(useEntry(guid, "")):]) {
			t.Fatalf("%q became that of key %v", name, guid)
		}
		if s := serverName(name); !isServerName(s) || s == "local" && name != "" {
			t.Fatalf("a server called %q has entries of %q", name, s)
		}
	})
}

// A bucket takes callers until its value is full, and says then that there were
// more; what it has stays and is brought up to date.
func TestWhoRecordFull(t *testing.T) {
	r := newWhoRecord()
	long := make([]uint32, dtyp.MaxSubAuthorities)
	var first dtyp.SID
	for i := uint32(0); !r.more; i++ {
		long[0] = i
		sid, err := dtyp.NewSID(5, long...)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = sid
		}
		if !r.add(sid, 20000) {
			t.Fatalf("caller %d was not taken", i)
		}
	}
	sid, _ := dtyp.NewSID(5, 1)
	if len(r.days) != (maxWhoSize-whoHeaderSize)/(dtyp.MaxSIDSize+whoDaySize) || !r.add(first, 20001) || r.add(first, 20000) || r.add(sid, 1) && !r.more {
		t.Errorf("there are %d callers", len(r.days))
	}
	value, err := r.marshal()
	if err != nil || len(value) > maxWhoSize || len(value)+valueHeaderSize+aeadOverhead > MaxValueSize {
		t.Fatalf("%d octets, %v", len(value), err)
	}
	again, err := parseWhoRecord("who", value)
	if err != nil || !reflect.DeepEqual(again, r) {
		t.Errorf("does not read again: %v", err)
	}
}
