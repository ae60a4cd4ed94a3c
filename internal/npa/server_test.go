package npa

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// samba is a directory as Samba has it.
func samba(t *testing.T) string {
	t.Helper()
	// t.TempDir's names may be too long for a socket.
	dir, err := os.MkdirTemp("", "npa-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Mkdir(filepath.Join(dir, "np"), 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// lines is a log that many goroutines may write and a test reads.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// started is a server that serves, and its log.
type started struct {
	*Server
	dir string
	log *lines
}

func (s *started) path() string { return filepath.Join(s.dir, "np", "protected_storage") }

// start serves cfg until the test ends. Where cfg does not say otherwise, each
// open of a pipe gets its own octets back.
func start(t *testing.T, cfg Config) *started {
	t.Helper()
	s := &started{dir: samba(t), log: new(lines)}
	cfg.Dir = s.dir
	if cfg.Pipes == nil {
		cfg.Pipes = []string{"protected_storage"}
	}
	if cfg.Handle == nil {
		cfg.Handle = func(_ context.Context, p *Pipe) { io.Copy(writerOnly{p}, p) }
	}
	if cfg.PeerUID == 0 {
		cfg.PeerUID = uint32(os.Geteuid())
	}
	cfg.Limits.Watch = time.Millisecond
	cfg.Log = slog.New(slog.NewTextHandler(s.log, nil))
	var err error
	if s.Server, err = Listen(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return s
}

// writerOnly hides what would make io.Copy clever.
type writerOnly struct{ io.Writer }

// dial connects as smbd does, without a hello.
func (s *started) dial(t *testing.T) net.Conn {
	t.Helper()
	conn, err := net.Dial("unix", s.path())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(hangTime))
	return conn
}

// open opens the pipe.
func (s *started) open(t *testing.T, h Hello) net.Conn {
	t.Helper()
	conn := s.dial(t)
	send(t, conn, newHello(h, 5000))
	got := make([]byte, 36)
	if _, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, appendReply(nil, h.Level)) {
		t.Fatalf("reply %x, %v", got, err)
	}
	return conn
}

func send(t *testing.T, conn net.Conn, b []byte) {
	t.Helper()
	if _, err := conn.Write(b); err != nil {
		t.Fatal(err)
	}
}

func message(b []byte) []byte {
	return append(binary.LittleEndian.AppendUint16(nil, uint16(len(b))), b...)
}

// echo sends a message and wants its octets back.
func echo(t *testing.T, conn net.Conn, b []byte) {
	t.Helper()
	send(t, conn, message(b))
	if got := receive(t, conn, len(b)); !bytes.Equal(got, b) {
		t.Fatalf("%x came back for %x", got, b)
	}
}

// receive reads messages until they have n octets.
func receive(t *testing.T, conn net.Conn, n int) (got []byte) {
	t.Helper()
	for len(got) < n {
		head := make([]byte, 2)
		if _, err := io.ReadFull(conn, head); err != nil {
			t.Fatal(err)
		}
		m := make([]byte, binary.LittleEndian.Uint16(head))
		if _, err := io.ReadFull(conn, m); err != nil {
			t.Fatal(err)
		}
		got = append(got, m...)
	}
	return got
}

// refused wants the connection to end without a word.
func refused(t *testing.T, conn net.Conn) {
	t.Helper()
	if b, err := io.ReadAll(conn); len(b) != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("answered by %x, %v", b, err)
	}
}

// hangTime tells what hangs from what is slow, as everything may be on a busy
// machine. Nothing that goes well waits for it to be over.
const hangTime = 2 * time.Minute

// eventually waits for something that another goroutine brings about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(hangTime); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func TestPipe(t *testing.T) {
	type seen struct{ name, local, remote string }
	opened := make(chan seen, 1)
	s := start(t, Config{
		Pipes: []string{"ntsvcs", "protected_storage"},
		Handle: func(_ context.Context, p *Pipe) {
			opened <- seen{p.Name(), p.LocalAddr().String(), p.RemoteAddr().String()}
			b := make([]byte, 100_000)
			for {
				n, err := p.Read(b)
				if err != nil {
					return
				}
				if _, err := p.Write(b[:n]); err != nil {
					return
				}
			}
		},
	})
	info, err := os.Stat(s.path())
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket has mode %v, %v", info.Mode(), err)
	}
	conn := s.open(t, someHello)
	if got, want := <-opened, (seen{"protected_storage", "[2001:db8::1]:445", "192.0.2.7:49152"}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	for _, n := range []int{1, pipeBuffer - 2, 5840} {
		echo(t, conn, bytes.Repeat([]byte{byte(n)}, n))
	}
	// Two messages at once, and one in pieces.
	send(t, conn, append(message([]byte("one")), message([]byte("two"))...))
	for _, piece := range []string{"\x05", "\x00t", "h", "ree"} {
		send(t, conn, []byte(piece))
	}
	if got := receive(t, conn, len("onetwothree")); string(got) != "onetwothree" {
		t.Errorf("got %q", got)
	}
}

func TestLongestMessage(t *testing.T) {
	result := make(chan error, 2)
	s := start(t, Config{Handle: func(_ context.Context, p *Pipe) {
		b := make([]byte, maxMessage+1)
		_, err := p.Write(b)
		result <- err
		n, err := p.Write(b[:maxMessage])
		if n != maxMessage {
			t.Errorf("wrote %d octets", n)
		}
		result <- err
		p.Write(nil)
	}})
	conn := s.open(t, someHello)
	if err := <-result; err == nil {
		t.Error("a message of 65536 octets is sent")
	}
	got, err := io.ReadAll(conn)
	if err != nil || !bytes.Equal(got, message(make([]byte, maxMessage))) {
		t.Errorf("%d octets, %v", len(got), err)
	}
	if err := <-result; err != nil {
		t.Errorf("a message of 65535 octets: %v", err)
	}
}

func TestEndOfPipe(t *testing.T) {
	for _, c := range []struct {
		name string
		send []byte
		want error
	}{
		{"between messages", nil, io.EOF},
		{"in a length", []byte{3}, io.ErrUnexpectedEOF},
		{"in a message", []byte{3, 0, 'a'}, io.ErrUnexpectedEOF},
		{"after a length", []byte{3, 0}, io.ErrUnexpectedEOF},
		{"empty message", []byte{0, 0}, errEmptyMessage},
	} {
		t.Run(c.name, func(t *testing.T) {
			ended := make(chan error, 1)
			s := start(t, Config{Handle: func(_ context.Context, p *Pipe) {
				_, err := io.ReadFull(p, make([]byte, 5))
				for err == nil {
					_, err = p.Read(make([]byte, 5))
				}
				if len(c.send) == 3 && errors.Is(err, io.ErrUnexpectedEOF) {
					_, err = p.Read(make([]byte, 5)) // not taken for a good end
				}
				ended <- err
			}})
			conn := s.open(t, someHello)
			send(t, conn, c.send)
			conn.Close()
			if err := <-ended; !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

func TestPeerIsNotSmbd(t *testing.T) {
	dir := samba(t)
	log := new(lines)
	uid := uint32(os.Geteuid())
	s, err := Listen(Config{
		Dir: dir, Pipes: []string{"protected_storage"}, PeerUID: uid,
		Handle: func(context.Context, *Pipe) { t.Error("let in") },
		Log:    slog.New(slog.NewTextHandler(log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	s.cfg.PeerUID++ // whoever connects below is somebody else
	served := make(chan error, 1)
	go func() { served <- s.Serve(t.Context()) }()
	for range 3 {
		refused(t, (&started{dir: dir}).dial(t))
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	if n := strings.Count(log.String(), "not smbd"); n != 1 {
		t.Errorf("%d lines of log for three refusals: %s", n, log)
	}
}

func TestHelloRefusedByServer(t *testing.T) {
	for _, c := range []struct {
		name  string
		hello []byte
		want  string
	}{
		{"level", func() []byte { b := newHello(someHello, 0); b[8], b[12] = 99, 99; return b }(), "smbd speaks level 99, this program 7 to 8"},
		{"noise", []byte("GET / HTTP/1.0\r\n\r\n"), "malformed hello"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := start(t, Config{Handle: func(context.Context, *Pipe) { t.Error("let in") }})
			conn := s.dial(t)
			send(t, conn, c.hello)
			refused(t, conn)
			eventually(t, "a line of log", func() bool { return strings.Contains(s.log.String(), c.want) })
		})
	}
	t.Run("never comes", func(t *testing.T) {
		s := start(t, Config{Limits: Limits{HelloTimeout: 20 * time.Millisecond}})
		refused(t, s.dial(t))
	})
}

func TestTimeouts(t *testing.T) {
	for _, c := range []struct {
		name   string
		limits Limits
		send   []byte
	}{
		{"idle", Limits{IdleTimeout: 20 * time.Millisecond}, nil},
		{"stalled", Limits{StallTimeout: 20 * time.Millisecond}, []byte{9, 0, 'a'}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := start(t, Config{Limits: c.limits})
			conn := s.open(t, someHello)
			if len(c.send) > 0 { // the idle one may be closed by now
				send(t, conn, c.send)
			}
			if _, err := io.ReadAll(conn); err != nil {
				t.Errorf("not closed: %v", err)
			}
		})
	}
	t.Run("answers that nobody reads", func(t *testing.T) {
		ended := make(chan error, 1)
		s := start(t, Config{
			Limits: Limits{StallTimeout: 20 * time.Millisecond},
			Handle: func(_ context.Context, p *Pipe) {
				for {
					if _, err := p.Write(make([]byte, maxMessage)); err != nil {
						ended <- err
						return
					}
				}
			},
		})
		s.open(t, someHello)
		if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
	})
}

func TestLimits(t *testing.T) {
	s := start(t, Config{Limits: Limits{Pipes: 3, PipesPerAddress: 2}})
	one, other := someHello, someHello
	other.Client = someHello.Server
	first := s.open(t, one)
	s.open(t, one)
	third := s.dial(t)
	send(t, third, newHello(one, 0))
	refused(t, third) // the client has two already
	eventually(t, "the refused one is counted out", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.Server.open) == 2
	})
	s.open(t, other)
	refused(t, s.dial(t)) // the server has three
	first.Close()
	eventually(t, "there is room again", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.Server.open) == 2
	})
	echo(t, s.open(t, one), []byte("again"))
}

func TestPanicStaysInItsPipe(t *testing.T) {
	s := start(t, Config{Handle: func(_ context.Context, p *Pipe) {
		b := make([]byte, 1)
		p.Read(b)
		p.Write(b[:b[0]]) // out of range when it is 2
	}})
	good, bad := s.open(t, someHello), s.open(t, someHello)
	send(t, bad, message([]byte{2}))
	if _, err := io.ReadAll(bad); err != nil {
		t.Error(err)
	}
	echo(t, good, []byte{1})
	eventually(t, "a line of log", func() bool { return strings.Contains(s.log.String(), "panic while serving") })
}

func FuzzPipe(f *testing.F) {
	f.Add(append(message([]byte("one")), message([]byte("two"))...), 1)
	f.Add(message(make([]byte, 600)), 512)
	f.Add([]byte{0, 0}, 3)
	f.Fuzz(func(t *testing.T, in []byte, size int) {
		var want []byte
		for rest := in; len(rest) >= 2; {
			n := int(binary.LittleEndian.Uint16(rest))
			if n == 0 {
				break
			}
			body := rest[2:min(len(rest), 2+n)]
			want, rest = append(want, body...), rest[2+len(body):]
		}
		p := newPipe("fuzz", Hello{}, bytesConn{Reader: bytes.NewReader(in)}, Limits{}.withDefaults())
		b := make([]byte, 1+uint(size)%2000)
		var got []byte
		for {
			n, err := p.Read(b)
			got = append(got, b[:n]...)
			if err != nil {
				break
			}
		}
		if !bytes.Equal(got, want) {
			t.Errorf("read %x, want %x", got, want)
		}
	})
}

// bytesConn is a connection by which octets came and nothing goes.
type bytesConn struct {
	net.Conn
	*bytes.Reader
}

func (c bytesConn) Read(b []byte) (int, error)      { return c.Reader.Read(b) }
func (c bytesConn) Write(b []byte) (int, error)     { return len(b), nil }
func (c bytesConn) SetReadDeadline(time.Time) error { return nil }
