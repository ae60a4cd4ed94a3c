package smb2

import (
	"slices"
	"sync"
	"time"

	"github.com/seed05845750/bkrp/internal/smb2/wire"
)

// interimAfter is how long a request waits at least, and at most twice that,
// before the client is told so by an interim response ([MS-SMB2] 3.3.4.2).
// Nearly all calls are answered sooner and cost one response and no timer.
const interimAfter = 100 * time.Millisecond

// waiter is a READ or a FSCTL_PIPE_TRANSCEIVE that waits for its pipe. All of
// it is guarded by conn.mu.
type waiter struct {
	pipe      *Pipe
	command   wire.Command
	most      uint32 // what the client takes back, in octets
	messageID uint64
	charge    uint16
	credits   uint16
	related   wire.HeaderFlags
	processID uint32
	encrypted bool
	// asyncID is not zero when the interim response has been sent.
	asyncID uint64
	// old says that the ticker has seen it before.
	old bool
}

// wait makes the request one that waits for p. The caller holds conn.mu. A
// request in the middle of a related chain cannot wait, as those after it
// would have to, too.
func (r *call) wait(p *Pipe, most uint32) (*waiter, wire.Status) {
	c := r.c
	if r.chained {
		return nil, wire.StatusInternalError
	}
	if len(c.waiting) >= c.srv.cfg.Limits.Outstanding {
		return nil, wire.StatusInsufficientResources
	}
	w := &waiter{
		pipe:      p,
		command:   r.Command,
		most:      most,
		messageID: r.MessageID,
		charge:    r.CreditCharge,
		credits:   r.Credits,
		related:   r.Flags & wire.FlagRelated,
		processID: r.ProcessID,
		encrypted: r.encrypted,
	}
	c.waiting = append(c.waiting, w)
	c.ticker.start(c)
	return w, wire.StatusPending
}

// header is the header of a response to the request.
func (w *waiter) header(st wire.Status) wire.Header {
	h := wire.Header{
		CreditCharge: w.charge,
		Status:       st,
		Command:      w.command,
		Flags:        wire.FlagResponse | w.related,
		MessageID:    w.messageID,
		SessionID:    w.pipe.session.id,
	}
	if w.asyncID != 0 {
		h.Flags |= wire.FlagAsync
		h.AsyncID = w.asyncID
		return h
	}
	h.ProcessID, h.TreeID = w.processID, w.pipe.tree
	h.Credits = w.pipe.session.conn.window.grant(w.credits, w.pipe.session.conn.credits())
	return h
}

// answer sends the response. The caller holds conn.mu and has taken the
// request off its pipe.
func (w *waiter) answer(st wire.Status, data []byte) {
	x := w.pipe.session
	c := x.conn
	c.unlist(w)
	h := w.header(st)
	buf := getBuffer(headRoom + wire.HeaderSize + 64 + len(data))
	defer putBuffer(buf)
	b := h.Append((*buf)[:headRoom])
	switch {
	case st.IsError():
		b = wire.AppendError(b)
	case w.command == wire.Read:
		resp := wire.ReadResponse{Data: data}
		b = resp.Append(b)
	default:
		resp := wire.IoctlResponse{Code: wire.FSCTLPipeTransceive, FileID: w.pipe.id, Output: data}
		b = resp.Append(b)
	}
	*buf = b
	w.ship(buf, true)
}

// unlist takes w off the requests that wait. The caller holds mu.
func (c *conn) unlist(w *waiter) {
	i := slices.Index(c.waiting, w)
	if i < 0 {
		return
	}
	last := len(c.waiting) - 1
	c.waiting[i] = c.waiting[last]
	c.waiting[last] = nil
	c.waiting = c.waiting[:last]
}

// withdraw takes back a request that was made to wait, because of an error,
// and gives the status of its response: the error, unless the request was
// answered meanwhile or by an interim response. The caller holds conn.mu.
func (w *waiter) withdraw(st wire.Status) wire.Status {
	c, p := w.pipe.session.conn, w.pipe
	p.waiters = slices.DeleteFunc(p.waiters, func(o *waiter) bool { return o == w })
	switch {
	case !slices.Contains(c.waiting, w):
		return wire.StatusPending
	case w.asyncID != 0:
		w.answer(st, nil)
		return wire.StatusPending
	}
	c.unlist(w)
	return st
}

// interim tells the client that the answer takes a while. It is not signed:
// with AES-GMAC two messages with the same id must not be ([MS-SMB2]
// 3.3.4.1.1).
func (w *waiter) interim() {
	c := w.pipe.session.conn
	c.asyncID++
	h := w.header(wire.StatusPending)
	w.asyncID = c.asyncID
	h.Flags |= wire.FlagAsync
	h.AsyncID = w.asyncID
	buf := getBuffer(minBuffer)
	defer putBuffer(buf)
	*buf = wire.AppendError(h.Append((*buf)[:headRoom]))
	w.ship(buf, false)
}

func (w *waiter) ship(buf *[]byte, signed bool) {
	x := w.pipe.session
	if w.encrypted {
		x.conn.ship(buf, x)
		return
	}
	if signed {
		msg := (*buf)[headRoom:]
		msg[wire.OffsetFlags] |= byte(wire.FlagSigned)
		sign(x.signer, msg)
	}
	x.conn.ship(buf, nil)
}

// cancel does what CANCEL asks for ([MS-SMB2] 3.3.5.16), which has no response
// of its own and uses no message id. One that is not signed or encrypted as
// its session asks for is ignored.
func (r *call) cancel() {
	c := r.c
	c.mu.Lock()
	x := c.findSession(r.SessionID)
	usable := x != nil && x.valid
	c.mu.Unlock()
	if !usable || r.authenticate(x) != wire.StatusSuccess {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range c.waiting {
		match := w.messageID == r.MessageID
		if r.Is(wire.FlagAsync) {
			match = w.asyncID != 0 && w.asyncID == r.AsyncID
		}
		if match && w.pipe.session == x {
			w.pipe.waiters = slices.DeleteFunc(w.pipe.waiters, func(o *waiter) bool { return o == w })
			w.answer(wire.StatusCancelled, nil)
			return
		}
	}
}

// ticker is the timer of a connection's interim responses. It runs only while
// requests wait.
type ticker struct {
	timer   *time.Timer
	armed   bool
	stopped bool
	running sync.WaitGroup // the function of the timer
}

// start arms the timer unless it is. The caller holds conn.mu.
func (t *ticker) start(c *conn) {
	if t.armed || t.stopped {
		return
	}
	t.armed = true
	t.running.Add(1)
	if t.timer == nil {
		t.timer = time.AfterFunc(interimAfter, c.tick)
		return
	}
	t.timer.Reset(interimAfter)
}

// stop ends it. The caller holds conn.mu and waits for running afterwards,
// without it.
func (t *ticker) stop() {
	t.stopped = true
	if t.armed && t.timer.Stop() {
		t.running.Done()
	}
	t.armed = false
}

// tick sends the interim responses that are due.
func (c *conn) tick() {
	defer c.ticker.running.Done()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ticker.armed = false
	again := false
	for _, w := range c.waiting {
		switch {
		case w.asyncID != 0:
		case w.old:
			w.interim()
		default:
			w.old = true
			again = true
		}
	}
	if again {
		c.ticker.start(c)
	}
}
