package bkrpserver_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"github.com/seed05845750/bkrp/bkrpserver"
	"github.com/seed05845750/bkrp/internal/smb2/wire"
)

// replay plays what a recorded client sent after its logon on a session that
// lives: with its ids, and signed or encrypted with its keys.
type replay struct {
	*hostileClient
	recorded recording
	trees    map[uint32]uint32
	files    map[wire.FileID]wire.FileID
	// answers are the recorded responses by message id, and asked the recorded
	// ids of the live ones.
	answers map[uint64][]byte
	asked   map[uint64]uint64
}

func newReplay(c *hostileClient, r recording) *replay {
	x := &replay{c, r, map[uint32]uint32{}, map[wire.FileID]wire.FileID{}, map[uint64][]byte{}, map[uint64]uint64{}}
	for _, f := range r.frames {
		hd, err := wire.ParseHeader(f.data)
		if err == nil && !f.fromClient && hd.Status == wire.StatusSuccess {
			x.answers[hd.MessageID] = f.data
		}
	}
	return x
}

// fit gives a copy of a recorded frame with the ids of the live session; nil
// for one that belongs to the logon.
func (x *replay) fit(f []byte) []byte {
	if hd, err := wire.ParseHeader(f); err != nil || hd.Command <= wire.SessionSetup {
		return nil
	}
	f = bytes.Clone(f)
	for rest := f; len(rest) > 0; {
		hd, err := wire.ParseHeader(rest)
		if err != nil {
			break
		}
		msg := rest
		if n := int(hd.NextCommand); n != 0 && n < len(rest) {
			msg, rest = rest[:n], rest[n:]
		} else {
			rest = nil
		}
		x.asked[x.next] = hd.MessageID
		binary.LittleEndian.PutUint64(msg[wire.OffsetMessageID:], x.next)
		binary.LittleEndian.PutUint64(msg[40:], x.session)
		if tree, ok := x.trees[hd.TreeID]; ok && !hd.Is(wire.FlagAsync) {
			binary.LittleEndian.PutUint32(msg[36:], tree)
		}
		x.next += uint64(max(1, hd.CreditCharge))
		for old, live := range x.files {
			if i := bytes.Index(msg[wire.HeaderSize:], fileIDOctets(old)); i >= 0 {
				copy(msg[wire.HeaderSize+i:], fileIDOctets(live))
			}
		}
	}
	return f
}

func fileIDOctets(id wire.FileID) []byte {
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, id.Persistent), id.Volatile)
}

// learn takes trees and files from a live response, by the recorded one to the
// same request.
func (x *replay) learn(hd wire.Header, msg []byte) {
	old := x.answers[x.asked[hd.MessageID]]
	oldHeader, err := wire.ParseHeader(old)
	if err != nil || hd.Status != wire.StatusSuccess || oldHeader.Command != hd.Command {
		return
	}
	switch hd.Command {
	case wire.TreeConnect:
		x.trees[oldHeader.TreeID] = hd.TreeID
	case wire.Create:
		a, err1 := wire.ParseCreateResponse(old)
		b, err2 := wire.ParseCreateResponse(msg)
		if err1 == nil && err2 == nil {
			x.files[a.FileID] = b.FileID
		}
	}
}

// afterLogon sends the frames of a recording, spoilt and then signed, by
// someone who has logged on.
func (h *hostileRun) afterLogon(m *mutator) error {
	c, err := logonHostile(h.addr, manners[m.IntN(len(manners))])
	if err != nil {
		return err
	}
	defer c.close()
	x := newReplay(c, h.recordings[m.IntN(len(h.recordings))])
	frames := x.recorded.client()
	if m.one(6) {
		frames = m.shuffle(frames)
	}
	// Some spoil all they send, some wait until they have got somewhere.
	rate := []int{1, 4, 12}[m.IntN(3)]
	for _, f := range frames {
		if f = x.fit(f); f == nil {
			continue
		}
		if !m.one(rate) {
			if err := errors.Join(x.send(f), x.barrier(x.learn)); err != nil {
				return survived(err)
			}
			continue
		}
		if err := h.replayed(x, m, f); err != nil {
			return survived(err)
		}
	}
	return c.finish()
}

// TestReplay plays the recordings unspoilt: if they did not get past the first
// requests any more, the hostile test would be about nothing.
func TestReplay(t *testing.T) {
	d := startHostileDomain(t, bkrpserver.Config{})
	defer d.stop()
	played := 0
	for _, r := range loadRecordings(t) {
		for _, m := range manners {
			c, err := logonHostile(d.addr, m)
			if err != nil {
				t.Fatal(err)
			}
			x := newReplay(c, r)
			sent := 0
			for _, f := range r.client() {
				if f = x.fit(f); f == nil {
					continue
				}
				sent++
				if err := x.send(f); err != nil {
					t.Fatal(err)
				}
				hd, _ := wire.ParseHeader(f)
				if err := x.barrier(x.learn); err != nil && hd.Command != wire.Logoff {
					t.Errorf("%s, %v, frame %d: %v", r.name, m, sent, err)
					break
				}
			}
			if sent > 0 && len(x.trees) == 0 {
				t.Errorf("%s, %v: %d frames and no tree", r.name, m, sent)
			}
			played += len(x.files)
			if err := c.finish(); err != nil {
				t.Errorf("%s, %v: %v", r.name, m, err)
			}
			c.close()
		}
	}
	if played < 40 {
		t.Errorf("%d pipes were opened by all recordings", played)
	}
}

// replayed sends one frame of a replay and waits until it is worked off.
func (h *hostileRun) replayed(x *replay, m *mutator, f []byte) error {
	var err error
	switch n := m.IntN(24); {
	case n == 0:
		h.spoilt.Add(1)
		return x.forge(m, f)
	case n == 1:
		h.spoilt.Add(1)
		if err := x.sendRaw(m.lie(x.protect(f))); err != nil {
			return err
		}
		if err := x.finish(); err != nil {
			return err
		}
		return errGone
	case n == 2: // twice
		h.spoilt.Add(1)
		b := withLength(x.protect(f))
		err = x.sendRaw(append(bytes.Clone(b), b...))
	case n == 3 && x.aead != nil: // what is behind the transform header
		h.spoilt.Add(1)
		err = x.sendRaw(withLength(m.mutate(x.protect(f))))
	case n < 8 || len(f) <= wire.HeaderSize:
		h.spoilt.Add(1)
		err = x.send(m.mutate(f))
	case n < 12:
		h.spoilt.Add(1)
		f = bytes.Clone(f)
		m.setField(f[:wire.HeaderSize])
		err = x.send(f)
	default: // behind a good header
		h.spoilt.Add(1)
		err = x.send(append(f[:wire.HeaderSize:wire.HeaderSize], m.mutate(f[wire.HeaderSize:])...))
	}
	if err != nil {
		return err
	}
	return x.barrier(x.learn)
}

// forge sends a good request without a signature or with a wrong one. It may
// not be served ([MS-SMB2] 3.3.5.2.4).
func (x *replay) forge(m *mutator, f []byte) error {
	f = bytes.Clone(f)
	if m.one(2) {
		x.sign(f)
		f[wire.OffsetSignature+m.IntN(16)] ^= 1 << m.IntN(8)
	}
	hd, _ := wire.ParseHeader(f)
	if err := x.sendRaw(withLength(f)); err != nil {
		return err
	}
	var served error
	err := x.barrier(func(got wire.Header, _ []byte) {
		if got.MessageID == hd.MessageID && got.Command == hd.Command && !got.Status.IsError() {
			served = fmt.Errorf("command %d without a good signature: %v", got.Command, got.Status)
		}
	})
	return errors.Join(served, err)
}

// oddOrders makes requests one by one, each good or nearly so, in orders that
// make no sense: compounds, CANCEL, LOGOFF, credits that nobody has.
func (h *hostileRun) oddOrders(m *mutator) error {
	c, err := logonHostile(h.addr, manners[m.IntN(len(manners))])
	if err != nil {
		return err
	}
	defer c.close()
	if err := c.connectTree(); err != nil {
		return err
	}
	id, err := c.open("protected_storage")
	if err != nil {
		return err
	}
	o := orders{c, m, []wire.FileID{id, wire.RelatedFileID}, h.plainBind}
	for range 4 + m.IntN(8) {
		for range 1 + m.IntN(5) {
			h.spoilt.Add(1)
			if err := c.send(o.frame()); err != nil {
				return err
			}
		}
		if err := c.barrier(o.learn); err != nil {
			return survived(err)
		}
	}
	return c.finish()
}

type orders struct {
	*hostileClient
	*mutator
	files []wire.FileID
	// bind is a PDU that the server answers, so that there is something to
	// read.
	bind []byte
}

// data is something to write to a pipe.
func (o *orders) data() []byte {
	if o.one(2) {
		return o.bind
	}
	return o.junk(o.IntN(3000))
}

func (o *orders) learn(hd wire.Header, msg []byte) {
	if hd.Command != wire.Create || hd.Status != wire.StatusSuccess {
		return
	}
	if p, err := wire.ParseCreateResponse(msg); err == nil {
		o.files = append(o.files, p.FileID)
	}
}

// frame is a request, or a compound of some.
func (o *orders) frame() []byte {
	var frame []byte
	n := 1
	if o.one(3) {
		n += o.IntN(40)
	}
	for i := range n {
		start, next := len(frame), o.next
		cmd, body := o.request()
		frame = append(frame, o.message(cmd, body)...)
		msg := frame[start:]
		if cmd == wire.Cancel { // names a message and has no id of its own
			o.next = next
			binary.LittleEndian.PutUint64(msg[wire.OffsetMessageID:], next-min(next, o.Uint64N(12)))
		}
		if i > 0 && !o.one(4) {
			msg[wire.OffsetFlags] |= byte(wire.FlagRelated)
		}
		if o.one(6) {
			o.spoilHeader(msg)
		}
		if i+1 == n {
			break
		}
		for (len(frame)-start)%8 != 0 {
			frame = append(frame, 0)
		}
		distance := uint32(len(frame) - start)
		if o.one(20) {
			distance = uint32(o.extreme(len(frame)))
		}
		binary.LittleEndian.PutUint32(frame[start+wire.OffsetNextCommand:], distance)
	}
	return frame
}

// spoilHeader changes one field of a header: credits, flags or an id.
func (o *orders) spoilHeader(msg []byte) {
	switch o.IntN(6) {
	case 0:
		binary.LittleEndian.PutUint16(msg[6:], uint16(o.extreme(64))) // CreditCharge
	case 1:
		binary.LittleEndian.PutUint16(msg[14:], uint16(o.extreme(64))) // CreditRequest
	case 2:
		msg[wire.OffsetFlags] ^= 1 << o.IntN(8)
	case 3:
		binary.LittleEndian.PutUint64(msg[wire.OffsetMessageID:], o.next+o.Uint64N(600)-o.Uint64N(40))
	case 4:
		binary.LittleEndian.PutUint32(msg[36:], uint32(o.extreme(2))) // TreeId
	default:
		binary.LittleEndian.PutUint64(msg[40:], o.session+o.Uint64N(3)) // SessionId
	}
}

// request is one command with a body that is good or nearly so.
func (o *orders) request() (wire.Command, []byte) {
	id := o.files[o.IntN(len(o.files))]
	if o.one(12) {
		id.Volatile += o.Uint64N(4)
	}
	switch n := o.IntN(40); {
	case n < 8:
		q := wire.ReadRequest{FileID: id, Length: uint32(o.extreme(4280)) & 0x1ffff, MinimumCount: uint32(o.IntN(2))}
		return wire.Read, q.Append(nil)
	case n < 12:
		q := wire.WriteRequest{FileID: id, Data: o.data(), Offset: o.extreme(9)}
		return wire.Write, q.Append(nil)
	case n < 16:
		q := wire.IoctlRequest{Code: wire.FSCTLPipeTransceive, FileID: id, Flags: wire.IsFSCTL,
			Input: o.data(), MaxOutput: uint32(o.extreme(4280)) & 0x1ffff}
		return wire.Ioctl, q.Append(nil)
	case n < 18:
		codes := []uint32{wire.FSCTLPipePeek, wire.FSCTLPipeWait, wire.FSCTLValidateNegotiation, wire.FSCTLDFSGetReferrals, o.Uint32()}
		q := wire.IoctlRequest{Code: codes[o.IntN(len(codes))], FileID: id, Flags: wire.IsFSCTL, Input: o.junk(o.IntN(60)), MaxOutput: 4280}
		return wire.Ioctl, q.Append(nil)
	case n < 23:
		names := []string{"protected_storage", "lsarpc", "NTSVCS", `\pipe\lsarpc`, "", "x", string(make([]byte, 200))}
		q := wire.CreateRequest{Impersonation: uint32(o.IntN(5)), DesiredAccess: 0x12019f, ShareAccess: 7, Disposition: uint32(o.IntN(6)),
			Name: wire.AppendUTF16(nil, names[o.IntN(len(names))])}
		return wire.Create, q.Append(nil)
	case n < 26:
		q := wire.CloseRequest{FileID: id, Flags: uint16(o.IntN(2))}
		return wire.Close, q.Append(nil)
	case n < 29:
		return wire.Cancel, wire.AppendEmpty(nil)
	case n < 31:
		q := wire.QueryInfoRequest{InfoType: byte(o.IntN(5)), Class: byte(o.IntN(64)), MaxOutput: uint32(o.extreme(64)), FileID: id}
		return wire.QueryInfo, q.Append(nil)
	case n < 33:
		q := wire.FlushRequest{FileID: id}
		return wire.Flush, q.Append(nil)
	case n < 34:
		q := wire.TreeConnectRequest{Path: wire.AppendUTF16(nil, `\\x\IPC$`)}
		return wire.TreeConnect, q.Append(nil)
	case n < 35:
		q := wire.SessionSetupRequest{Token: o.junk(o.IntN(300)), PreviousSessionID: o.session, Flags: byte(o.IntN(2))}
		return wire.SessionSetup, q.Append(nil)
	case n == 35 && o.one(3):
		return wire.Logoff, wire.AppendEmpty(nil)
	case n == 36 && o.one(2):
		return wire.TreeDisconnect, wire.AppendEmpty(nil)
	case n == 37 && o.one(4):
		return wire.Negotiate, o.junk(60)
	case n == 38:
		return wire.Command(o.IntN(40)), o.junk(o.IntN(200))
	}
	return wire.Echo, wire.AppendEmpty(nil)
}
