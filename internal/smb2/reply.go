package smb2

import (
	"encoding/binary"
	"slices"

	"github.com/seed05845750/bkrp/internal/smb2/wire"
)

// headRoom is what stands in front of the first message of a frame that is
// being made: the header of the frame and room for a transform header.
const headRoom = frameHeader + wire.TransformSize

// reply is the answer to one frame while the goroutine that reads makes it:
// one response, or those of a compound ([MS-SMB2] 3.3.4.1.3).
type reply struct {
	buf   *[]byte
	parts []part
	// sealTo is the session that the whole frame is encrypted for.
	sealTo *session
}

// part is one response of a reply.
type part struct {
	start   int
	credits uint16   // asked for by the request
	signFor *session // nil for a response that is not signed
}

// begin opens a response: its header, with room for what is filled in when
// the reply is sent.
func (r *reply) begin(h *wire.Header) {
	if r.buf == nil {
		r.buf = getBuffer(minBuffer)
		*r.buf = (*r.buf)[:headRoom]
	}
	b := *r.buf
	if n := len(r.parts); n > 0 {
		last := r.parts[n-1].start
		for (len(b)-headRoom)%8 != 0 {
			b = append(b, 0)
		}
		putNextCommand(b[last:], uint32(len(b)-last))
	}
	r.parts = append(r.parts, part{start: len(b), credits: h.Credits})
	*r.buf = h.Append(b)
}

// withdraw takes back what begin opened; the response comes later by itself.
func (r *reply) withdraw() {
	n := len(r.parts) - 1
	start := r.parts[n].start
	r.parts = r.parts[:n]
	*r.buf = (*r.buf)[:start]
	if n > 0 {
		putNextCommand((*r.buf)[r.parts[n-1].start:], 0)
	}
}

// last gives the message that is being made.
func (r *reply) last() []byte { return (*r.buf)[r.parts[len(r.parts)-1].start:] }

// overfull reports whether the answer with size octets of data would make the
// reply to a compound longer than a frame may be.
func (r *call) overfull(size int) bool {
	reply := &r.c.reply
	return len(reply.parts) > 1 && len(*reply.buf)+size > r.c.srv.cfg.Limits.frame()
}

// flush sends what there is.
func (c *conn) flush() {
	r := &c.reply
	if len(r.parts) > 0 {
		c.mu.Lock()
		c.send(r)
		c.mu.Unlock()
	}
	r.drop()
}

// drop forgets what there is.
func (r *reply) drop() {
	if r.buf != nil {
		putBuffer(r.buf)
	}
	r.buf, r.parts, r.sealTo = nil, r.parts[:0], nil
}

// send grants credits, signs, encrypts and writes a reply. The caller holds
// mu.
func (c *conn) send(r *reply) {
	b := *r.buf
	for i, p := range r.parts {
		end := len(b)
		if i+1 < len(r.parts) {
			end = r.parts[i+1].start
		}
		msg := b[p.start:end]
		putCredits(msg, c.window.grant(p.credits, c.credits()))
		if p.signFor != nil && r.sealTo == nil {
			msg[wire.OffsetFlags] |= byte(wire.FlagSigned)
			sign(p.signFor.signer, msg)
		}
	}
	c.ship(r.buf, r.sealTo)
}

// ship writes the messages from headRoom on, encrypted for a session if one is
// given. The caller holds mu.
func (c *conn) ship(buf *[]byte, sealTo *session) {
	if sealTo == nil {
		c.write((*buf)[headRoom-frameHeader:])
		return
	}
	*buf = slices.Grow(*buf, 16)
	sealTo.sealer.seal((*buf)[frameHeader:], sealTo.id)
	c.write(*buf)
}

// These set fields in the header of a response that is already made.
func putTreeID(msg []byte, id uint32)      { binary.LittleEndian.PutUint32(msg[36:], id) }
func putStatus(msg []byte, st wire.Status) { binary.LittleEndian.PutUint32(msg[8:], uint32(st)) }
func putSessionID(msg []byte, id uint64)   { binary.LittleEndian.PutUint64(msg[40:], id) }
func putCredits(msg []byte, n uint16)      { binary.LittleEndian.PutUint16(msg[14:], n) }
func putNextCommand(msg []byte, n uint32)  { binary.LittleEndian.PutUint32(msg[20:], n) }
