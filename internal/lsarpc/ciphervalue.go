package lsarpc

import "github.com/seed05845750/bkrp/internal/ndr"

// writeCipherValue writes a unique pointer to an LSAPR_CR_CIPHER_VALUE
// (2.2.6.1), NULL for nil.
func writeCipherValue(w *ndr.Writer, sealed []byte) {
	w.Referent(sealed != nil)
	if sealed == nil {
		return
	}
	w.AlignPointer()
	w.U32(uint32(len(sealed)))
	w.U32(uint32(len(sealed)))
	w.Referent(true)
	w.ConformantVarying(len(sealed), len(sealed))
	w.Octets(sealed)
}

// skipCipherValue reads a unique pointer to an LSAPR_CR_CIPHER_VALUE, which
// means nothing on the way in.
func skipCipherValue(r *ndr.Reader) {
	if !r.Referent() {
		return
	}
	r.AlignPointer()
	length, maximum := r.U32(), r.U32()
	if !r.Referent() {
		r.CheckCount("MaximumLength", uint64(maximum), 0)
		return
	}
	allocated, n := r.ConformantVarying(1)
	r.Octets(n)
	r.CheckCount("Length", uint64(length), n)
	if r.Err() == nil && allocated != uint64(maximum) {
		r.Fail("MaximumLength is %d for an array of %d", maximum, allocated)
	}
}
