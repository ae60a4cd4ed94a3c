package smb2

import (
	"context"
	"io"
	"testing"

	"github.com/seed05845750/bkrp/internal/smb2/wire"
)

// TestReadFreesFullPipe has a PipeFunc that waits for the client to read, with
// its pipe full of what the client wrote: as soon as the client reads, it may
// write again, whether or not the PipeFunc has got round to it.
func TestReadFreesFullPipe(t *testing.T) {
	const size = 60000
	_, addr := startServer(t, Config{Pipes: map[string]PipeFunc{"talk": func(_ context.Context, p *Pipe) {
		for range 2 {
			if _, err := p.Write(make([]byte, size)); err != nil {
				return
			}
		}
		io.Copy(io.Discard, p)
	}}})
	c := logon(t, addr, Dialect311, testUser)
	for range 50 {
		id := c.open("talk")
		c.want(wire.StatusSuccess, wire.Write, writeBody(id, make([]byte, 65536)))
		c.want(wire.StatusInsufficientResources, wire.Write, writeBody(id, make([]byte, 10)))
		got := c.statuses(c.one(wire.Read, 0, readBody(id, size)), c.one(wire.Write, 0, writeBody(id, make([]byte, 10))))
		if got[0] != wire.StatusSuccess || got[1] != wire.StatusSuccess {
			t.Fatal(got)
		}
		c.want(wire.StatusSuccess, wire.Close, (&wire.CloseRequest{FileID: id}).Append(nil))
	}
}

// TestReplyFitsFrame has a compound read more than goes into a frame: what
// does not is refused and stays where it is.
func TestReplyFitsFrame(t *testing.T) {
	const size = 60000
	written := make(chan struct{}, 2)
	_, addr := startServer(t, Config{Pipes: map[string]PipeFunc{"talk": func(_ context.Context, p *Pipe) {
		p.Write(make([]byte, size))
		written <- struct{}{}
		io.Copy(io.Discard, p)
	}}})
	c := logon(t, addr, Dialect311, testUser)
	one, two := c.open("talk"), c.open("talk")
	<-written
	<-written
	peek := wire.IoctlRequest{Code: wire.FSCTLPipePeek, FileID: two, MaxOutput: size + 16, Flags: wire.IsFSCTL}
	got := c.statuses(c.one(wire.Read, 0, readBody(one, size)), c.one(wire.Read, 0, readBody(two, size)),
		c.one(wire.Ioctl, 0, peek.Append(nil)))
	const full = wire.StatusInsufficientResources
	if got[0] != wire.StatusSuccess || got[1] != full || got[2] != full {
		t.Errorf("statuses %v", got)
	}
	c.want(wire.StatusSuccess, wire.Read, readBody(two, size))
}

// TestOpensPerUser counts opens of a user on all connections, and gives them
// back.
func TestOpensPerUser(t *testing.T) {
	_, addr := startServer(t, Config{Limits: Limits{OpensPerUser: 3}})
	a, b, other := logon(t, addr, Dialect311, testUser), logon(t, addr, Dialect210, testUser), logon(t, addr, Dialect311, "bob")
	a.open("echo")
	a.open("echo")
	b.open("echo")
	b.want(wire.StatusTooManyOpenedFiles, wire.Create, createBody("echo"))
	other.echo(other.open("echo"))
	a.nc.Close()
	eventually(t, func() bool {
		h, _ := b.do(wire.Create, createBody("echo"))
		return h.Status == wire.StatusSuccess
	})
}

// TestCompoundFillsPipe writes more in one frame than a pipe holds: its PipeFunc
// is told in time of what came first.
func TestCompoundFillsPipe(t *testing.T) {
	const size, writes = 1000, 10
	read := make(chan int64, 1)
	_, addr := startServer(t, Config{Limits: Limits{PipeBuffer: size}, Pipes: map[string]PipeFunc{
		"sink": func(_ context.Context, p *Pipe) {
			n, _ := io.CopyN(io.Discard, p, size*writes)
			read <- n
		},
	}})
	c := logon(t, addr, Dialect311, testUser)
	id := c.open("sink")
	var requests []func() (wire.Header, []byte)
	for range writes {
		requests = append(requests, c.one(wire.Write, 0, writeBody(id, make([]byte, size))))
	}
	for i, st := range c.statuses(requests...) {
		if st != wire.StatusSuccess {
			t.Errorf("write %d: %v", i, st)
		}
	}
	if n := <-read; n != size*writes {
		t.Errorf("%d octets of %d came", n, size*writes)
	}
}
