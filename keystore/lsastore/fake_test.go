package lsastore

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/dcerpc"
	"github.com/seed05845750/bkrp/internal/lsaclient"
	"github.com/seed05845750/bkrp/internal/lsasecret"
	"github.com/seed05845750/bkrp/internal/ndr"
)

// The methods of the fake, by their operation numbers.
const (
	opClose    = 0
	opCreate   = 16
	opOpen     = 28
	opSet      = 29
	opQuery    = 30
	opStore    = 42
	opRetrieve = 43
	opPolicy   = 44
)

const statusInternalError lsaclient.Status = 0xC00000E5

var fakeKey = []byte("0123456789abcdef")

// errCut is what a method returns to have the connection end.
var errCut = errors.New("cut")

// fakeLSA is the LSA of a domain controller, in memory: secrets whose value may
// be missing, as many connections as wanted, and faults at the test's command.
type fakeLSA struct {
	// samba leaves out the two methods that Samba does not have.
	samba bool

	mu      sync.Mutex
	secrets map[string][]byte // nil is a secret without a value
	log     []uint16          // the methods that were called
	names   []string          // of the secrets written, in their order
	dials   int
	// fault, if set, is asked before each method what it ends with.
	fault func(op uint16) error
	// after, if set, runs after each method, with mu held.
	after func(op uint16)
	conns []net.Conn

	serving sync.WaitGroup
}

func newFake(t *testing.T) *fakeLSA {
	f := &fakeLSA{secrets: map[string][]byte{}}
	t.Cleanup(f.serving.Wait)
	return f
}

// backend is one on the fake.
func (f *fakeLSA) backend(t *testing.T) *Backend {
	t.Helper()
	b := newBackend(5*time.Millisecond, 20*time.Second, f.dial)
	t.Cleanup(func() { b.Close() })
	return b
}

func (f *fakeLSA) dial(ctx context.Context) (*conn, error) {
	ours, theirs := net.Pipe()
	f.mu.Lock()
	f.dials++
	f.conns = append(f.conns, theirs)
	f.mu.Unlock()
	id := lsaclient.Interface()
	server := &dcerpc.Server{Interfaces: []dcerpc.Interface{{
		UUID: id.UUID, Major: id.Major, Minor: id.Minor, MinAuthLevel: dcerpc.LevelNone, Opnums: 64,
		NewState: func() any { return &[]string{} },
		Handle: func(_ context.Context, c *dcerpc.Call) ([]byte, error) {
			out, err := f.handle(c)
			if errors.Is(err, errCut) {
				theirs.Close()
			}
			return out, err
		},
	}}}
	f.serving.Go(func() { server.ServeConn(context.Background(), theirs, dcerpc.Transport{}) })
	c, err := bind(ctx, dcerpc.NewClient(ours, dcerpc.ClientConfig{Interface: id}), fakeKey)
	if err != nil {
		ours.Close()
		return nil, err
	}
	c.close = func() { ours.Close() }
	c.watch = func(ctx context.Context) func() {
		stop := context.AfterFunc(ctx, func() { ours.SetDeadline(time.Unix(1, 0)) })
		return func() { stop() }
	}
	return c, nil
}

// cut ends all connections.
func (f *fakeLSA) cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.conns {
		c.Close()
	}
}

// count is how often a method was called.
func (f *fakeLSA) count(op uint16) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, called := range f.log {
		if called == op {
			n++
		}
	}
	return n
}

func (f *fakeLSA) handle(c *dcerpc.Call) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.log = append(f.log, c.Opnum)
	if f.fault != nil {
		err := f.fault(c.Opnum)
		var status lsaclient.Status
		if errors.As(err, &status) {
			return failure(c.Opnum, status), nil
		}
		if err != nil {
			return nil, err
		}
	}
	if f.samba && (c.Opnum == opStore || c.Opnum == opRetrieve) {
		return nil, dcerpc.FaultOpRange
	}
	out, err := f.execute(c.Opnum, ndr.NewReader(c.Stub, c.Encoding), c.State.(*[]string))
	if f.after != nil {
		f.after(c.Opnum)
	}
	return out, err
}

// execute runs a method. The handle of a secret is its place in opened, from 1.
func (f *fakeLSA) execute(op uint16, r ndr.Reader, opened *[]string) ([]byte, error) {
	if op == opPolicy {
		return handleResult(0, 0), nil
	}
	handle := r.Octets(20)
	if r.Err() != nil {
		return nil, r.Err()
	}
	secret := ""
	if i := int(handle[4]); i > 0 && i <= len(*opened) {
		secret = (*opened)[i-1]
	}
	var name string
	if op == opCreate || op == opOpen || op == opStore || op == opRetrieve {
		r.U32() // Length, MaximumLength
		if !r.Referent() {
			return nil, ndr.ErrStub
		}
		name, _, _ = r.UTF16()
	}
	_, exists := f.secrets[name]
	switch op {
	case opClose:
		return handleResult(0, 0), nil
	case opCreate, opOpen:
		switch {
		case op == opCreate && exists:
			return failure(op, lsaclient.StatusNameCollision), nil
		case op == opOpen && !exists:
			return failure(op, lsaclient.StatusNameNotFound), nil
		case op == opCreate:
			f.secrets[name] = nil
		}
		*opened = append(*opened, name)
		return handleResult(byte(len(*opened)), 0), nil
	case opSet, opStore:
		if op == opStore {
			secret = name
		}
		value, err := lsasecret.Open(fakeKey, readSealed(&r))
		if err != nil {
			return nil, err
		}
		f.secrets[secret] = value
		f.names = append(f.names, secret)
		return failure(op, 0), nil
	case opQuery:
		return f.value(f.secrets[secret], true)
	case opRetrieve:
		if f.secrets[name] == nil { // it does not tell why
			return failure(op, lsaclient.StatusNameNotFound), nil
		}
		return f.value(f.secrets[name], false)
	}
	return nil, dcerpc.FaultOpRange
}

func readSealed(r *ndr.Reader) []byte {
	r.Align(4)
	r.Referent()
	r.U32()
	r.U32()
	r.Referent()
	_, n := r.ConformantVarying(1)
	return r.Octets(n)
}

func (f *fakeLSA) value(value []byte, query bool) ([]byte, error) {
	var w ndr.Writer
	if query {
		w.Referent(true)
	}
	w.Referent(value != nil)
	if value != nil {
		sealed, err := lsasecret.Seal(fakeKey, value)
		if err != nil {
			return nil, err
		}
		w.U32(uint32(len(sealed)))
		w.U32(uint32(len(sealed)))
		w.Referent(true)
		w.ConformantVarying(len(sealed), len(sealed))
		w.Octets(sealed)
	}
	if query {
		for range 3 {
			w.Referent(false)
		}
	}
	w.U32(0)
	return w.Buffer(), nil
}

func handleResult(number byte, status lsaclient.Status) []byte {
	var w ndr.Writer
	w.U32(0)
	w.GUID(dtyp.GUID{number})
	w.U32(uint32(status))
	return w.Buffer()
}

// failure is the results of a method that has none but its status.
func failure(op uint16, status lsaclient.Status) []byte {
	switch op {
	case opClose, opCreate, opOpen, opPolicy:
		return handleResult(0, status)
	}
	words := map[uint16]int{opQuery: 4, opRetrieve: 1}[op]
	var w ndr.Writer
	w.Octets(bytes.Repeat([]byte{0}, 4*words))
	w.U32(uint32(status))
	return w.Buffer()
}
