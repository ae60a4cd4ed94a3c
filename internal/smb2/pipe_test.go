package smb2

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/internal/smb2/wire"
)

func readData(t *testing.T, msg []byte) []byte {
	t.Helper()
	r, err := wire.ParseReadResponse(msg)
	if err != nil {
		t.Fatal(err)
	}
	return r.Data
}

// TestMessages has messages that are longer than what the client takes.
func TestMessages(t *testing.T) {
	_, addr := startServer(t, Config{})
	c := logon(t, addr, Dialect311, testUser)
	id := c.open("echo")
	m := message(1000)
	h, msg := c.do(wire.Ioctl, transceiveBody(id, m, 300))
	resp, err := wire.ParseIoctlResponse(msg)
	if h.Status != wire.StatusBufferOverflow || err != nil || !bytes.Equal(resp.Output, m[:300]) {
		t.Fatalf("transceive: %v, %v", h.Status, err)
	}
	c.want(wire.StatusPipeBusy, wire.Ioctl, transceiveBody(id, m, 300))

	peek := func(most uint32) (wire.Status, []byte) {
		req := wire.IoctlRequest{Code: wire.FSCTLPipePeek, FileID: id, MaxOutput: most, Flags: wire.IsFSCTL}
		h, msg := c.do(wire.Ioctl, req.Append(nil))
		if h.Status.IsError() {
			return h.Status, nil
		}
		r, err := wire.ParseIoctlResponse(msg)
		if err != nil {
			t.Fatal(err)
		}
		return h.Status, r.Output
	}
	st, out := peek(2000)
	if st != wire.StatusSuccess || len(out) != 16+700 || binary.LittleEndian.Uint32(out[4:]) != 700 || !bytes.Equal(out[16:], m[300:]) {
		t.Errorf("peek: %v, %d octets", st, len(out))
	}
	if st, out := peek(20); st != wire.StatusBufferOverflow || len(out) != 20 {
		t.Errorf("short peek: %v, %d octets", st, len(out))
	}
	if st, _ := peek(15); st != wire.StatusBufferTooSmall {
		t.Errorf("shorter peek: %v", st)
	}

	h, msg = c.do(wire.Read, readBody(id, 400))
	if h.Status != wire.StatusBufferOverflow || !bytes.Equal(readData(t, msg), m[300:700]) {
		t.Errorf("read of the rest: %v", h.Status)
	}
	h, msg = c.do(wire.Read, readBody(id, 400))
	if h.Status != wire.StatusSuccess || !bytes.Equal(readData(t, msg), m[700:]) {
		t.Errorf("read of the end: %v", h.Status)
	}
	h, msg = c.do(wire.Read, readBody(id, 0))
	if h.Status != wire.StatusSuccess || len(readData(t, msg)) != 0 {
		t.Errorf("read of nothing: %v", h.Status)
	}
	c.echo(id)
}

// setMode sets the read mode of a pipe.
func (c *client) setMode(id wire.FileID, mode byte) {
	c.t.Helper()
	req := wire.SetInfoRequest{InfoType: wire.InfoFile, Class: wire.FilePipeInformation, FileID: id,
		Data: []byte{mode, 0, 0, 0, 0, 0, 0, 0}}
	c.want(wire.StatusSuccess, wire.SetInfo, req.Append(nil))
}

func TestByteMode(t *testing.T) {
	_, addr := startServer(t, Config{Pipes: map[string]PipeFunc{"two": func(ctx context.Context, p *Pipe) {
		p.Write([]byte("first"))
		p.Write([]byte("second"))
		io.Copy(io.Discard, p)
	}}})
	c := logon(t, addr, Dialect311, testUser)
	id := c.open("two")
	c.setMode(id, 0)
	c.want(wire.StatusInvalidReadMode, wire.Ioctl, transceiveBody(id, message(4), 300))
	var got []byte
	for len(got) < 11 {
		h, msg := c.do(wire.Read, readBody(id, 8))
		if h.Status != wire.StatusSuccess {
			t.Fatal(h.Status)
		}
		got = append(got, readData(t, msg)...)
	}
	if string(got) != "firstsecond" {
		t.Errorf("read %q", got)
	}
	c.setMode(id, 1)
}

// TestEnd has the server end a pipe: what it wrote can be read, then nothing.
func TestEnd(t *testing.T) {
	_, addr := startServer(t, Config{Pipes: map[string]PipeFunc{"bye": func(ctx context.Context, p *Pipe) {
		p.Write([]byte("bye"))
	}}})
	c := logon(t, addr, Dialect311, testUser)
	id := c.open("bye")
	h, msg := c.do(wire.Read, readBody(id, 100))
	if h.Status != wire.StatusSuccess || string(readData(t, msg)) != "bye" {
		t.Fatal(h.Status)
	}
	c.want(wire.StatusPipeBroken, wire.Read, readBody(id, 100))
	c.want(wire.StatusPipeBroken, wire.Write, writeBody(id, []byte("x")))
	c.want(wire.StatusPipeBroken, wire.Ioctl, transceiveBody(id, []byte("x"), 100))
	h, msg = c.do(wire.Close, (&wire.CloseRequest{FileID: id, Flags: wire.PostQueryAttributes}).Append(nil))
	if r, err := wire.ParseCloseResponse(msg); h.Status != wire.StatusSuccess || err != nil || r.Attributes != 0x80 {
		t.Errorf("close: %v, %v, %+v", h.Status, err, r)
	}
	c.want(wire.StatusFileClosed, wire.Close, (&wire.CloseRequest{FileID: id}).Append(nil))
}

// TestPending has reads that wait: interim responses, cancels, ends.
func TestPending(t *testing.T) {
	for _, d := range []Dialect{Dialect202, Dialect300, Dialect311} {
		for _, encrypt := range []bool{false, true} {
			if encrypt && d < Dialect300 {
				continue
			}
			inBubble(t, Config{}, func(t *testing.T, _ *Server, connect func() *client) { testPending(t, connect(), d, encrypt) })
		}
	}
}

func testPending(t *testing.T, c *client, d Dialect, encrypt bool) {
	c.cipher, c.signing = wire.AES256GCM, wire.AESGMAC
	c.negotiate(d)
	if st := c.authenticate(testUser, testPassword, 0); st != wire.StatusSuccess {
		t.Fatal(st)
	}
	c.connectTree()
	if encrypt {
		c.encrypt, c.sign = true, false
	}
	id := c.open("echo")

	c.sendFrame(c.pack(c.header(wire.Read), readBody(id, 100)))
	h, _, err := c.recv()
	if err != nil || h.Status != wire.StatusPending || !h.Is(wire.FlagAsync) || h.AsyncID == 0 || h.Credits == 0 {
		t.Fatalf("interim response: %+v, %v", h, err)
	}
	async := h.AsyncID
	// The two answers come as they are ready.
	c.sendFrame(c.pack(c.header(wire.Write), writeBody(id, message(20))))
	for range 2 {
		h, msg := c.final()
		read := h.AsyncID == async && h.Credits == 0 && h.Command == wire.Read && bytes.Equal(readData(t, msg), message(20))
		if h.Status != wire.StatusSuccess || !read && h.Command != wire.Write {
			t.Fatalf("final response: %+v", h)
		}
		if read {
			async = ^async // not twice
		}
	}

	cancel := func(h wire.Header) {
		c.next--
		c.sendFrame(c.pack(h, wire.AppendEmpty(nil)))
	}
	// By message id, before the interim response; and by async id.
	c.sendFrame(c.pack(c.header(wire.Read), readBody(id, 100)))
	waiting := c.next - 1
	h = c.header(wire.Cancel)
	h.MessageID = waiting
	cancel(h)
	if h, _, _ := c.recv(); h.Status != wire.StatusCancelled || h.Is(wire.FlagAsync) {
		t.Errorf("cancelled by message id: %+v", h)
	}
	c.sendFrame(c.pack(c.header(wire.Read), readBody(id, 100)))
	first, _, _ := c.recv()
	h = c.header(wire.Cancel)
	h.MessageID, h.Flags, h.AsyncID = 0, wire.FlagAsync, first.AsyncID
	if !encrypt {
		c.sign = false
		cancel(h) // is ignored, as it is not signed
		c.next++
		c.sign = true
	}
	cancel(h)
	if h, _, _ := c.recv(); h.Status != wire.StatusCancelled || h.AsyncID != first.AsyncID {
		t.Errorf("cancelled by async id: %+v", h)
	}

	// The end of the open ends what waits for it.
	c.sendFrame(c.pack(c.header(wire.Read), readBody(id, 100)))
	c.sendFrame(c.pack(c.header(wire.Close), (&wire.CloseRequest{FileID: id}).Append(nil)))
	if h, _, _ := c.recv(); h.Command != wire.Read || h.Status != wire.StatusFileClosed {
		t.Errorf("read of a closed open: %+v", h)
	}
	if h, _, _ := c.recv(); h.Command != wire.Close || h.Status != wire.StatusSuccess {
		t.Errorf("close: %+v", h)
	}
}

// TestBackPressure has a client that writes and a pipe that does not read, and
// the other way round.
func TestBackPressure(t *testing.T) {
	release := make(chan struct{})
	total := make(chan int, 1)
	_, addr := startServer(t, Config{
		Limits: Limits{PipeBuffer: 10000},
		Pipes: map[string]PipeFunc{
			"slow": func(ctx context.Context, p *Pipe) {
				<-release
				n, _ := io.Copy(io.Discard, io.LimitReader(p, 100000))
				total <- int(n)
			},
			"loud": func(ctx context.Context, p *Pipe) {
				for {
					if _, err := p.Write(make([]byte, 6000)); err != nil {
						return
					}
				}
			},
		}})
	c := logon(t, addr, Dialect311, testUser)
	id := c.open("slow")
	for range 20 {
		c.sendFrame(c.pack(c.header(wire.Write), writeBody(id, make([]byte, 5000))))
	}
	c.final()
	c.final()
	c.nc.SetReadDeadline(time.Now().Add(150 * time.Millisecond))
	if h, _, err := c.recv(); err == nil || err == errGone {
		t.Errorf("a third write is answered with %v, %v; want it to wait", h.Status, err)
	}
	c.nc.SetReadDeadline(time.Now().Add(hangTime))
	close(release)
	for range 18 {
		if h, _ := c.final(); h.Status != wire.StatusSuccess {
			t.Fatal(h.Status)
		}
	}
	if n := <-total; n != 100000 {
		t.Errorf("the pipe got %d octets", n)
	}

	// A pipe that waits for the client to read, and a client that only writes.
	loud := c.open("loud")
	var st wire.Status
	for range 10 {
		h, _ := c.do(wire.Write, writeBody(loud, make([]byte, 5000)))
		if st = h.Status; st != wire.StatusSuccess {
			break
		}
	}
	if st != wire.StatusInsufficientResources {
		t.Errorf("writing to a pipe that is stuck: %v", st)
	}
	c.want(wire.StatusSuccess, wire.Close, (&wire.CloseRequest{FileID: loud}).Append(nil))
}

func TestInfo(t *testing.T) {
	_, addr := startServer(t, Config{})
	c := logon(t, addr, Dialect311, testUser)
	id := c.open("echo")
	query := func(typ, class uint8, most uint32) (wire.Status, []byte) {
		req := wire.QueryInfoRequest{InfoType: typ, Class: class, MaxOutput: most, FileID: id}
		h, msg := c.do(wire.QueryInfo, req.Append(nil))
		if h.Status.IsError() {
			return h.Status, nil
		}
		r, err := wire.ParseQueryInfoResponse(msg)
		if err != nil {
			t.Fatal(err)
		}
		return h.Status, r.Data
	}
	for class, size := range map[uint8]int{
		wire.FileBasicInformation: 40, wire.FileStandardInformation: 24, wire.FileInternalInformation: 8,
		wire.FileEAInformation: 4, wire.FileAccessInformation: 4, wire.FilePositionInformation: 8,
		wire.FileModeInformation: 4, wire.FileAlignmentInformation: 4, wire.FileAllInformation: 100 + 10,
		wire.FilePipeInformation: 8, wire.FilePipeLocalInformation: 40, wire.FileNetworkOpenInformation: 56,
	} {
		if st, b := query(wire.InfoFile, class, 1000); st != wire.StatusSuccess || len(b) != size {
			t.Errorf("class %d: %v, %d octets, want %d", class, st, len(b), size)
		}
		if st, _ := query(wire.InfoFile, class, uint32(size-1)); st != wire.StatusInfoLengthMismatch {
			t.Errorf("class %d, short: %v", class, st)
		}
	}
	if st, _ := query(wire.InfoFile, 99, 1000); st != wire.StatusInvalidInfoClass {
		t.Error("unknown class:", st)
	}
	if st, _ := query(2, 5, 1000); st != wire.StatusInvalidDeviceRequest {
		t.Error("file system:", st)
	}
	if st, _ := query(wire.InfoFile, wire.FileBasicInformation, 1<<20); st != wire.StatusInvalidParameter {
		t.Error("too large:", st)
	}
	set := func(class uint8, data ...byte) []byte {
		r := wire.SetInfoRequest{InfoType: wire.InfoFile, Class: class, Data: data, FileID: id}
		return r.Append(nil)
	}
	c.want(wire.StatusNotSupported, wire.SetInfo, set(wire.FileBasicInformation, make([]byte, 40)...))
	c.want(wire.StatusInfoLengthMismatch, wire.SetInfo, set(wire.FilePipeInformation, 0))
	c.want(wire.StatusInvalidParameter, wire.SetInfo, set(wire.FilePipeInformation, 2, 0, 0, 0, 0, 0, 0, 0))
}

// TestOtherCommands has requests that make no sense here refused.
func TestOtherCommands(t *testing.T) {
	_, addr := startServer(t, Config{})
	c := logon(t, addr, Dialect311, testUser)
	id := c.open("echo")
	c.want(wire.StatusSuccess, wire.Echo, wire.AppendEmpty(nil))
	c.want(wire.StatusSuccess, wire.Flush, (&wire.FlushRequest{FileID: id}).Append(nil))
	for _, cmd := range []wire.Command{wire.Lock, wire.QueryDirectory, wire.ChangeNotify, wire.OplockBreak} {
		c.want(wire.StatusInvalidDeviceRequest, cmd, make([]byte, 48))
	}
	c.want(wire.StatusInvalidParameter, 99, make([]byte, 48))
	ioctl := func(code, flags uint32, input []byte) []byte {
		r := wire.IoctlRequest{Code: code, FileID: wire.RelatedFileID, Input: input, MaxOutput: 100, Flags: flags}
		return r.Append(nil)
	}
	wait := func(name string) []byte {
		n := wire.AppendUTF16(nil, name)
		b := binary.LittleEndian.AppendUint32(make([]byte, 8), uint32(len(n)))
		return append(append(b, 0, 0), n...)
	}
	c.want(wire.StatusFSDriverRequired, wire.Ioctl, ioctl(wire.FSCTLDFSGetReferrals, wire.IsFSCTL, nil))
	c.want(wire.StatusInvalidDeviceRequest, wire.Ioctl, ioctl(0x001401FC, wire.IsFSCTL, nil))
	c.want(wire.StatusNotSupported, wire.Ioctl, ioctl(wire.FSCTLPipeTransceive, 0, nil))
	c.want(wire.StatusFileClosed, wire.Ioctl, ioctl(wire.FSCTLPipeTransceive, wire.IsFSCTL, nil))
	c.want(wire.StatusSuccess, wire.Ioctl, ioctl(wire.FSCTLPipeWait, wire.IsFSCTL, wait("ECHO")))
	c.want(wire.StatusObjectNameNotFound, wire.Ioctl, ioctl(wire.FSCTLPipeWait, wire.IsFSCTL, wait("other")))
	c.want(wire.StatusInvalidParameter, wire.Ioctl, ioctl(wire.FSCTLPipeWait, wire.IsFSCTL, wait("ECHO")[:15]))

	for name, st := range map[string]wire.Status{
		`\PIPE\echo`: wire.StatusSuccess, `\echo`: wire.StatusSuccess, "EcHo": wire.StatusSuccess,
		"": wire.StatusObjectNameNotFound, "echo\\x": wire.StatusObjectNameNotFound, "..\\echo": wire.StatusObjectNameNotFound,
		"echo\x00": wire.StatusObjectNameInvalid, string(make([]byte, 300)): wire.StatusObjectNameNotFound,
	} {
		c.want(st, wire.Create, createBody(name))
	}
	odd := createBody("echo")
	binary.LittleEndian.PutUint16(odd[46:], 7)
	c.want(wire.StatusInvalidParameter, wire.Create, odd)
	bad := createBody("echo")
	bad[4] = 4
	c.want(wire.StatusBadImpersonationLevel, wire.Create, bad)
	bad = createBody("echo")
	bad[40] = wire.DirectoryFile
	c.want(wire.StatusNotADirectory, wire.Create, bad)
	bad = createBody("echo")
	bad[36] = 9
	c.want(wire.StatusInvalidParameter, wire.Create, bad)
	for _, path := range []string{`\\dc1\C$`, `\\dc1`, `\\dc1\IPC$\x`} {
		c.want(wire.StatusBadNetworkName, wire.TreeConnect, (&wire.TreeConnectRequest{Path: wire.AppendUTF16(nil, path)}).Append(nil))
	}
	c.want(wire.StatusInvalidParameter, wire.TreeConnect, (&wire.TreeConnectRequest{Path: wire.AppendUTF16(nil, "IPC$")}).Append(nil))
	c.want(wire.StatusInvalidParameter, wire.TreeConnect, make([]byte, 9))

	lying := transceiveBody(id, message(10), 100)
	for at, v := range map[int]uint32{24: 64, 28: 1 << 30, 44: 1 << 30} {
		b := bytes.Clone(lying)
		binary.LittleEndian.PutUint32(b[at:], v)
		c.want(wire.StatusInvalidParameter, wire.Ioctl, b)
	}
	c.want(wire.StatusInvalidParameter, wire.Read, readBody(id, 1<<20))
	c.echo(id)

	c.want(wire.StatusSuccess, wire.TreeDisconnect, wire.AppendEmpty(nil))
	c.want(wire.StatusNetworkNameDeleted, wire.Read, readBody(id, 10))
	c.want(wire.StatusSuccess, wire.Logoff, wire.AppendEmpty(nil))
	c.want(wire.StatusUserSessionDeleted, wire.Echo, wire.AppendEmpty(nil))
}

// TestPipeStaysEncrypted has a client open a pipe in an encrypted message and
// go on in the clear: what Pipe.Encrypted promises has to hold for all that the
// pipe carries, also where encryption is not demanded.
func TestPipeStaysEncrypted(t *testing.T) {
	_, addr := startServer(t, Config{})
	c := logon(t, addr, Dialect302, testUser)
	sealed := func(yes bool) { c.encrypt, c.sign = yes, !yes }
	sealed(true)
	id := c.open("echo")
	c.echo(id)
	sealed(false)
	for _, r := range []struct {
		cmd  wire.Command
		body []byte
	}{
		{wire.Write, writeBody(id, message(30))},
		{wire.Read, readBody(id, 100)},
		{wire.Ioctl, transceiveBody(id, message(30), 100)},
		{wire.Close, (&wire.CloseRequest{FileID: id}).Append(nil)},
	} {
		c.want(wire.StatusAccessDenied, r.cmd, r.body)
	}
	other := c.open("echo")
	c.echo(other)
	sealed(true)
	c.echo(id)
	c.echo(other) // more than was promised
}
