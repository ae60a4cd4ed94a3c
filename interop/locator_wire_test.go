package interop

import (
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"
	"unicode/utf16"

	"github.com/seed05845750/bkrp/internal/dclocator/locatortest"
)

// wire stands before an SMB server, and notes in the log of the domain what
// clients do, as it stands on the wire: SMB is signed there and not encrypted,
// and RPC's headers are in the clear.
type wire struct {
	name, addr string
	domain     *locatortest.Domain
	target     string

	mu sync.Mutex
	// cutAt ends a connection when a request of RPC comes, instead of passing
	// it on.
	cutAt bool
}

// startWire listens for the domain controller called name.
func startWire(t *testing.T, domain *locatortest.Domain, name, target string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{name: name, domain: domain, addr: l.Addr().String(), target: target}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { w.serve(client) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		running.Wait()
	})
	return w
}

// cut has connections ended at the next request, or not any more.
func (w *wire) cut(on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cutAt = on
}

func (w *wire) serve(client net.Conn) {
	defer client.Close()
	w.domain.Note("%s connect", w.name)
	server, err := net.Dial("tcp", w.target)
	if err != nil {
		return
	}
	defer server.Close()
	var down sync.WaitGroup
	down.Go(func() {
		io.Copy(client, server)
		client.Close()
	})
	for {
		frame, err := readFrame(client)
		if err != nil || !w.pass(frame[4:]) {
			break
		}
		if _, err := server.Write(frame); err != nil {
			break
		}
	}
	server.Close()
	client.Close()
	down.Wait()
}

func readFrame(r io.Reader) ([]byte, error) {
	head := make([]byte, 4)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	frame := append(head, make([]byte, binary.BigEndian.Uint32(head)&0xFFFFFF)...)
	_, err := io.ReadFull(r, frame[4:])
	return frame, err
}

// Commands of [MS-SMB2] 2.2.1 and PDU types of [C706] 12.6.3.1.
const (
	smbCreate, smbWrite, smbIoctl = 5, 9, 11
	pduRequest, pduBind           = 0, 11
)

// pass notes what a message of the client's is, and says whether it goes on.
func (w *wire) pass(msg []byte) bool {
	if len(msg) < 64+57 || string(msg[:4]) != "\xfeSMB" {
		return true
	}
	body := msg[64:]
	switch binary.LittleEndian.Uint16(msg[12:]) {
	case smbCreate: // 2.2.13: the impersonation level (C-3.2.4-10), and the name
		level := binary.LittleEndian.Uint32(body[4:])
		at, size := binary.LittleEndian.Uint16(body[44:]), binary.LittleEndian.Uint16(body[46:])
		if int(at)+int(size) > len(msg) {
			return true
		}
		name := make([]uint16, size/2)
		for i := range name {
			name[i] = binary.LittleEndian.Uint16(msg[int(at)+2*i:])
		}
		w.domain.Note("%s open %s at level %d", w.name, string(utf16.Decode(name)), level)
	case smbWrite: // 2.2.21
		return w.pdu(cutOut(msg, uint32(binary.LittleEndian.Uint16(body[2:])), binary.LittleEndian.Uint32(body[4:])))
	case smbIoctl: // 2.2.31
		return w.pdu(cutOut(msg, binary.LittleEndian.Uint32(body[24:]), binary.LittleEndian.Uint32(body[28:])))
	}
	return true
}

func cutOut(msg []byte, at, size uint32) []byte {
	if uint64(at)+uint64(size) > uint64(len(msg)) {
		return nil
	}
	return msg[at : at+size]
}

// pdu notes a PDU of RPC that begins an exchange.
func (w *wire) pdu(b []byte) bool {
	if len(b) < 24 || b[0] != 5 {
		return true
	}
	switch b[2] {
	case pduBind:
		auth := len(b) - 8 - int(binary.LittleEndian.Uint16(b[10:]))
		if auth < 16 {
			w.domain.Note("%s bind without authentication", w.name)
			return true
		}
		w.domain.Note("%s bind with auth type %d, level %d", w.name, b[auth], b[auth+1])
	case pduRequest:
		w.domain.Note("%s request", w.name)
		w.mu.Lock()
		defer w.mu.Unlock()
		return !w.cutAt
	}
	return true
}
