// Package lsaclient calls the few methods of the Local Security Authority that
// the BackupKey protocol leans on, from [MS-LSAD] and [MS-LSAT]: who the caller
// is, and the secrets in which a domain keeps its keys. Package lsarpc is the
// server's end of them.
package lsaclient

import (
	"context"
	"errors"
	"fmt"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/dcerpc"
	"github.com/seed05845750/bkrp/internal/ndr"
)

// Pipe is the pipe of the interface ([MS-LSAD] 2.1).
const Pipe = "lsarpc"

// Interface names the interface ([MS-LSAD] 1.9). It is to be bound in 32-bit
// NDR, which every server has.
func Interface() dcerpc.SyntaxID {
	return dcerpc.SyntaxID{UUID: dtyp.GUID{
		0x78, 0x57, 0x34, 0x12, 0x34, 0x12, 0xcd, 0xab, 0xef, 0x00, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab}}
}

// The methods, by their operation numbers.
const (
	opClose               = 0
	opLookupNames         = 14
	opCreateSecret        = 16
	opOpenSecret          = 28
	opSetSecret           = 29
	opQuerySecret         = 30
	opStorePrivateData    = 42
	opRetrievePrivateData = 43
	opOpenPolicy2         = 44
	opGetUserName         = 45
)

// ErrResponse is an answer that the protocol does not allow; no part of it is
// used.
var ErrResponse = errors.New("lsaclient: response breaks the protocol")

// Client calls the LSA over a connection that is bound to Interface. It is used
// by one goroutine at a time.
type Client struct {
	rpc        *dcerpc.Client
	sessionKey []byte
}

// New makes a client. sessionKey is that of the transport, which the values of
// secrets are encrypted under; it may be nil if there is nothing to do with
// secrets.
func New(rpc *dcerpc.Client, sessionKey []byte) *Client {
	return &Client{rpc: rpc, sessionKey: sessionKey}
}

// Status is the NTSTATUS of a method that did not succeed ([MS-ERREF] 2.3).
type Status uint32

// The codes that callers tell apart.
const (
	StatusAccessDenied  Status = 0xC0000022
	StatusNameNotFound  Status = 0xC0000034 // STATUS_OBJECT_NAME_NOT_FOUND
	StatusNameCollision Status = 0xC0000035 // STATUS_OBJECT_NAME_COLLISION
)

// Error gives the code, and what it means where that is known.
func (s Status) Error() string {
	what := ""
	switch s {
	case StatusAccessDenied:
		what = "access denied: the account may not do this"
	case StatusNameNotFound:
		what = "no such object"
	case StatusNameCollision:
		what = "an object of that name exists"
	}
	if what != "" {
		return fmt.Sprintf("lsaclient: server answered NTSTATUS 0x%08X (%s)", uint32(s), what)
	}
	return fmt.Sprintf("lsaclient: server answered NTSTATUS 0x%08X", uint32(s))
}

// method is a call in the making.
type method struct {
	name  string
	opnum uint16
	in    ndr.Writer
}

func (c *Client) method(name string, opnum uint16) *method {
	return &method{name: name, opnum: opnum, in: ndr.NewWriter(nil, c.rpc.Encoding())}
}

// call makes the call and hands the response, up to its status, to read.
func (c *Client) call(ctx context.Context, m *method, read func(*ndr.Reader)) error {
	out, err := c.rpc.Call(ctx, m.opnum, m.in.Buffer())
	if err != nil {
		return fmt.Errorf("calling %s: %w", m.name, err)
	}
	defer clear(out) // it may hold a secret, weakly encrypted
	r := ndr.NewReader(out, c.rpc.Encoding())
	read(&r)
	status := Status(r.U32())
	if err := r.Done(); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrResponse, m.name, err)
	}
	if status != 0 {
		return fmt.Errorf("calling %s: %w", m.name, status)
	}
	return nil
}

// Handle is a context handle ([C706] 14, ndr_context_handle), 20 octets.
type Handle [20]byte

func readHandle(r *ndr.Reader) (h Handle) {
	r.Align(4)
	copy(h[:], r.Octets(len(h)))
	return h
}

// [MS-DTYP] 2.3.10 RPC_UNICODE_STRING, with what it points to behind it.
func writeUnicodeString(w *ndr.Writer, text string) {
	n := 2 * ndr.UTF16Len(text)
	w.AlignPointer()
	w.U16(uint16(n))
	w.U16(uint16(n))
	w.Referent(true)
	w.UTF16(text)
}

func readUnicodeString(r *ndr.Reader) string {
	length := r.U16()
	r.U16()
	if !r.Referent() {
		return ""
	}
	text, _, units := r.UTF16()
	r.CheckCount("Length", uint64(length/2), units)
	return text
}
