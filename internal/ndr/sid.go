package ndr

import "github.com/seed05845750/bkrp/dtyp"

// SID reads an RPC_SID ([MS-DTYP] 2.4.2.3): the count of its sub-authorities as
// a conformant structure has it, in front, then the SID.
func (r *Reader) SID() dtyp.SID {
	n := r.Count(4)
	r.Align(4)
	revision, count := r.U8(), int(r.U8())
	var authority uint64
	for range 6 {
		authority = authority<<8 | uint64(r.U8())
	}
	if revision != 1 || count != n || count > dtyp.MaxSubAuthorities {
		r.Fail("SID of revision %d with %d of %d sub-authorities", revision, count, n)
		return dtyp.SID{}
	}
	sub := make([]uint32, count)
	for i := range sub {
		sub[i] = r.U32()
	}
	if r.Err() != nil {
		return dtyp.SID{}
	}
	sid, err := dtyp.NewSID(authority, sub...)
	if err != nil {
		r.Fail("%v", err)
	}
	return sid
}

// SID writes an RPC_SID, the inverse of Reader.SID.
func (w *Writer) SID(sid dtyp.SID) {
	sub := sid.SubAuthorities()
	w.Count(len(sub))
	w.Align(4)
	w.U8(1)
	w.U8(uint8(len(sub)))
	for shift := 40; shift >= 0; shift -= 8 {
		w.U8(uint8(sid.Authority() >> shift))
	}
	for _, v := range sub {
		w.U32(v)
	}
}
