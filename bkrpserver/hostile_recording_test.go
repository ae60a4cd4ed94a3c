package bkrpserver_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// recordingDir has one file for each recorded connection. It is made anew by
// TestRecord.
const recordingDir = "testdata/recordings"

// frame is one frame of a recorded connection, without its length.
type frame struct {
	fromClient bool
	data       []byte
}

// recording is one connection of a real client to this server. In a file each
// frame stands behind '>' when it is the client's, '<' when it is the server's,
// and its length as a big-endian number of 4 octets.
type recording struct {
	name   string
	frames []frame
}

const (
	fromClientMark = '>'
	fromServerMark = '<'
)

func parseRecording(name string, b []byte) (recording, error) {
	r := recording{name: name}
	for len(b) > 0 {
		if len(b) < 5 || b[0] != fromClientMark && b[0] != fromServerMark {
			return r, fmt.Errorf("%s: not a recording at %d octets from its end", name, len(b))
		}
		n := binary.BigEndian.Uint32(b[1:])
		if uint64(n) > uint64(len(b)-5) {
			return r, fmt.Errorf("%s: a frame of %d octets in %d", name, n, len(b)-5)
		}
		r.frames = append(r.frames, frame{b[0] == fromClientMark, b[5 : 5+n]})
		b = b[5+n:]
	}
	return r, nil
}

func (r *recording) append(dst []byte) []byte {
	for _, f := range r.frames {
		mark := byte(fromServerMark)
		if f.fromClient {
			mark = fromClientMark
		}
		dst = binary.BigEndian.AppendUint32(append(dst, mark), uint32(len(f.data)))
		dst = append(dst, f.data...)
	}
	return dst
}

// client are the frames that the client sent.
func (r *recording) client() [][]byte {
	var frames [][]byte
	for _, f := range r.frames {
		if f.fromClient {
			frames = append(frames, f.data)
		}
	}
	return frames
}

// loadRecordings reads them all, and fails if there are none.
func loadRecordings(t *testing.T) []recording {
	t.Helper()
	names, err := filepath.Glob(recordingDir + "/*.smb")
	if err != nil || len(names) < 10 {
		t.Fatalf("%d recordings in %s (%v): make them by -hostile.record", len(names), recordingDir, err)
	}
	var all []recording
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		r, err := parseRecording(strings.TrimSuffix(filepath.Base(name), ".smb"), b)
		if err != nil {
			t.Fatal(err)
		}
		if len(r.client()) < 3 {
			t.Fatalf("%s has %d frames of a client", name, len(r.client()))
		}
		all = append(all, r)
	}
	return all
}

// recorder is a proxy in front of a server that keeps what passes.
type recorder struct {
	l       net.Listener
	target  string
	running sync.WaitGroup

	mu          sync.Mutex
	connections []*recording
}

func startRecorder(t *testing.T, target string) *recorder {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{l: l, target: target}
	r.running.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			r.running.Go(func() {
				if err := r.pass(client); err != nil {
					t.Errorf("recording: %v", err)
				}
			})
		}
	})
	return r
}

// stop waits for the connections, and gives what they carried.
func (r *recorder) stop() []*recording {
	r.l.Close()
	r.running.Wait()
	return r.connections
}

func (r *recorder) pass(client net.Conn) error {
	defer client.Close()
	server, err := net.Dial("tcp", r.target)
	if err != nil {
		return err
	}
	defer server.Close()
	kept := new(recording)
	r.mu.Lock()
	r.connections = append(r.connections, kept)
	r.mu.Unlock()
	var back sync.WaitGroup
	back.Go(func() {
		r.copy(kept, false, client, server)
		client.Close()
	})
	r.copy(kept, true, server, client)
	server.Close()
	back.Wait()
	return nil
}

// copy passes frames on until one end is closed.
func (r *recorder) copy(kept *recording, fromClient bool, dst io.Writer, src io.Reader) {
	for {
		f, err := readFrame(src)
		if err != nil {
			return
		}
		r.mu.Lock()
		kept.frames = append(kept.frames, frame{fromClient, f})
		r.mu.Unlock()
		if _, err := dst.Write(withLength(f)); err != nil {
			return
		}
	}
}

var errFrameHead = errors.New("not the head of a frame")

// readFrame reads one frame of Direct TCP ([MS-SMB2] 2.1).
func readFrame(src io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(src, head[:]); err != nil {
		return nil, err
	}
	if head[0] != 0 {
		return nil, errFrameHead
	}
	f := make([]byte, binary.BigEndian.Uint32(head[:]))
	_, err := io.ReadFull(src, f)
	return f, err
}

// withLength puts the head of Direct TCP in front of a frame.
func withLength(f []byte) []byte {
	return append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(f)), uint32(len(f))), f...)
}

func TestRecordingFormat(t *testing.T) {
	for _, r := range loadRecordings(t) {
		b := r.append(nil)
		again, err := parseRecording(r.name, b)
		if err != nil || !bytes.Equal(again.append(nil), b) {
			t.Errorf("%s does not come back: %v", r.name, err)
		}
		if _, err := parseRecording(r.name, b[:len(b)-1]); err == nil {
			t.Errorf("%s cut short is taken for whole", r.name)
		}
	}
}
