package bkrpserver_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/dcerpc"
	"github.com/seed05845750/bkrp/internal/ndr"
)

// Operation numbers of [MS-LSAD] 3.1.4 and [MS-LSAT] 3.1.4.
const (
	lsaClose               = 0
	lsaLookupNames         = 14
	lsaLookupSids          = 15
	lsaOpenSecret          = 28
	lsaQuerySecret         = 30
	lsaRetrievePrivateData = 43
	lsaOpenPolicy2         = 44
	lsaGetUserName         = 45
)

var lsaOperations = []uint16{lsaClose, lsaLookupNames, lsaLookupSids, lsaOpenSecret, lsaOpenSecret, lsaQuerySecret,
	lsaRetrievePrivateData, lsaOpenPolicy2, lsaGetUserName}

// badLSA makes LSA calls whose stubs are spoilt, and some that are not.
func (h *hostileRun) badLSA(m *mutator) error {
	b, err := h.bind(m, "lsarpc", lsaSyntax)
	if err != nil {
		return err
	}
	enc := b.rpc.Encoding()
	policy, err := b.rpc.Call(context.Background(), lsaOpenPolicy2, lsaStub(lsaOpenPolicy2, nil, h.sid, enc))
	if err != nil || len(policy) != 24 {
		return errors.Join(fmt.Errorf("LsarOpenPolicy2: %d octets, %w", len(policy), err), b.end())
	}
	handles := [][]byte{policy[:20]}
	for range 12 {
		opnum := lsaOperations[m.IntN(len(lsaOperations))]
		stub := lsaStub(opnum, handles[m.IntN(len(handles))], h.sid, enc)
		if !m.one(3) {
			h.spoilt.Add(1)
			stub = m.mutate(stub)
		}
		if m.one(12) {
			opnum = uint16(m.IntN(140))
		}
		var fault dcerpc.Fault
		out, err := b.rpc.Call(context.Background(), opnum, stub[:min(len(stub), 16<<10)])
		if err != nil && !errors.As(err, &fault) {
			break
		}
		if len(out) == 24 {
			handles = append(handles, out[:20])
		}
	}
	return b.end()
}

// lsaStub is the stub of a call that the server answers.
func lsaStub(opnum uint16, handle []byte, sid dtyp.SID, enc ndr.Encoding) []byte {
	w := ndr.NewWriter(append([]byte(nil), handle...), enc)
	switch opnum {
	case lsaOpenPolicy2:
		w = ndr.NewWriter(nil, enc)
		w.Referent(false)
		w.U32(24) // ObjectAttributes
		w.Referent(false)
		w.Referent(false)
		w.U32(0)
		w.Referent(false)
		w.Referent(false)
		w.U32(0x800)
	case lsaGetUserName:
		w = ndr.NewWriter(nil, enc)
		w.Referent(false)
		w.Referent(false)
		w.Referent(true)
		w.Referent(false)
	case lsaLookupNames:
		names := []string{`BKRP\alice`, "nobody"}
		w.U32(uint32(len(names)))
		w.Count(len(names))
		for _, n := range names {
			writeStringHead(&w, n)
		}
		for _, n := range names {
			w.UTF16(n)
		}
		writeLookupTail(&w)
	case lsaLookupSids:
		w.U32(1)
		w.Referent(true)
		w.Count(1)
		w.Referent(true)
		w.Count(len(sid.SubAuthorities()))
		b, _ := sid.AppendBinary(nil)
		w.Octets(b)
		writeLookupTail(&w)
	case lsaOpenSecret:
		writeStringHead(&w, "G$BCKUPKEY_P")
		w.UTF16("G$BCKUPKEY_P")
		w.Align(4)
		w.U32(2)
	case lsaQuerySecret:
		w.Referent(true)
		w.Referent(false)
		w.Referent(true)
		w.U64(0)
		w.Referent(false)
		w.Referent(false)
	case lsaRetrievePrivateData:
		writeStringHead(&w, "G$BCKUPKEY_PREFERRED")
		w.UTF16("G$BCKUPKEY_PREFERRED")
		w.Referent(false)
	}
	return w.Buffer()
}

// writeStringHead is RPC_UNICODE_STRING without what it points to.
func writeStringHead(w *ndr.Writer, s string) {
	size := uint16(2 * ndr.UTF16Len(s))
	w.AlignPointer()
	w.U16(size)
	w.U16(size)
	w.Referent(true)
}

// writeLookupTail is what the two lookups end with.
func writeLookupTail(w *ndr.Writer) {
	w.AlignPointer()
	w.U32(0)
	w.Referent(false)
	w.Enum(1)
	w.U32(0)
}
