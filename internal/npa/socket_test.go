package npa

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// sambaSocket is what Samba does when it starts: it removes whatever is at the
// path and listens there itself.
func sambaSocket(t *testing.T, path string) *net.UnixListener {
	t.Helper()
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	t.Cleanup(func() { ln.Close() })
	return ln
}

func echoConfig(dir string) Config {
	return Config{
		Dir: dir, Pipes: []string{"protected_storage"}, PeerUID: uint32(os.Geteuid()),
		Handle: func(_ context.Context, p *Pipe) { io.Copy(writerOnly{p}, p) },
	}
}

func TestTakesTheSocketOfSamba(t *testing.T) {
	for _, alive := range []bool{true, false} {
		dir := samba(t)
		path := filepath.Join(dir, "np", "protected_storage")
		theirs := sambaSocket(t, path)
		if !alive {
			theirs.Close()
		}
		s, err := Listen(echoConfig(dir))
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		go func() { served <- s.Serve(t.Context()) }()
		echo(t, (&started{dir: dir}).open(t, someHello), []byte("ours"))
		// A second one does not take it from the first.
		if _, err := Listen(echoConfig(dir)); err == nil || !strings.Contains(err.Error(), "another server") {
			t.Errorf("a second server: %v", err)
		}
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
		if left, err := os.ReadDir(filepath.Join(dir, "np")); err != nil || len(left) != 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
		// Whoever comes next finds the path free.
		sambaSocket(t, path)
	}
}

func TestTakesTheSocketBack(t *testing.T) {
	s := start(t, Config{})
	before := s.open(t, someHello)
	for range 3 {
		sambaSocket(t, s.path())
		eventually(t, "the path is ours again", func() bool { return !s.sockets[0].lost() })
		echo(t, s.open(t, someHello), []byte("after a restart"))
		echo(t, before, []byte("what was open stays open"))
	}
	if err := os.Remove(s.path()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the path is there again", func() bool { return !s.sockets[0].lost() })
	echo(t, s.open(t, someHello), []byte("after a removal"))
	if n := strings.Count(s.log.String(), "took it back"); n != 4 {
		t.Errorf("%d lines of log, want 4: %s", n, s.log)
	}
}

func TestDirectoryGoneForAWhile(t *testing.T) {
	s := start(t, Config{})
	np := filepath.Join(s.dir, "np")
	if err := os.RemoveAll(np); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a line of log", func() bool { return strings.Contains(s.log.String(), "cannot be taken back") })
	time.Sleep(20 * time.Millisecond) // time for more of them
	if n := strings.Count(s.log.String(), "cannot be taken back"); n != 1 {
		t.Errorf("%d lines of log: %s", n, s.log)
	}
	if err := os.Mkdir(np, 0o700); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the path is ours again", func() bool { return !s.sockets[0].lost() })
	echo(t, s.open(t, someHello), []byte("back"))
}

// At the end the path is removed only if it is still ours.
func TestLeavesTheSocketOfOthers(t *testing.T) {
	dir := samba(t)
	s, err := Listen(echoConfig(dir))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "np", "protected_storage")
	theirs := sambaSocket(t, path)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if conn, err := net.Dial("unix", theirs.Addr().String()); err != nil {
		t.Errorf("the other's socket is gone: %v", err)
	} else {
		conn.Close()
	}
}

func TestListenRefuses(t *testing.T) {
	for _, c := range []struct {
		name    string
		prepare func(t *testing.T, cfg *Config)
		want    string
	}{
		{"no directory", func(t *testing.T, cfg *Config) { os.RemoveAll(filepath.Join(cfg.Dir, "np")) }, "start Samba once"},
		{"a file for a directory", func(t *testing.T, cfg *Config) {
			os.RemoveAll(filepath.Join(cfg.Dir, "np"))
			os.WriteFile(filepath.Join(cfg.Dir, "np"), nil, 0o600)
		}, "is no directory"},
		{"open to others", func(t *testing.T, cfg *Config) { os.Chmod(filepath.Join(cfg.Dir, "np"), 0o711) }, "others may use"},
		{"somebody else's", func(t *testing.T, cfg *Config) { cfg.PeerUID++ }, "belongs to user"},
		{"a file for a socket", func(t *testing.T, cfg *Config) {
			os.WriteFile(filepath.Join(cfg.Dir, "np", "protected_storage"), []byte("precious"), 0o600)
		}, "is no socket"},
		{"path too long", func(t *testing.T, cfg *Config) {
			cfg.Dir = filepath.Join(cfg.Dir, strings.Repeat("x", 100))
			os.MkdirAll(filepath.Join(cfg.Dir, "np"), 0o700)
		}, "too long for a socket's path"},
		{"path for a pipe", func(t *testing.T, cfg *Config) { cfg.Pipes = []string{"../lsarpc"} }, "no name of a pipe"},
		{"capitals", func(t *testing.T, cfg *Config) { cfg.Pipes = []string{"NTSVCS"} }, "no name of a pipe"},
		{"no pipe", func(t *testing.T, cfg *Config) { cfg.Pipes = nil }, "required"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := echoConfig(samba(t))
			c.prepare(t, &cfg)
			s, err := Listen(cfg)
			if err == nil {
				s.Close()
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if b, err := os.ReadFile(filepath.Join(cfg.Dir, "np", "protected_storage")); err == nil && string(b) != "precious" {
				t.Errorf("the file is now %q", b)
			}
		})
	}
}

func TestShutdownLetsCallsEnd(t *testing.T) {
	working, finish := make(chan struct{}), make(chan struct{})
	s := start(t, Config{Handle: func(_ context.Context, p *Pipe) {
		b := make([]byte, 10)
		for {
			n, err := p.Read(b)
			if err != nil {
				return
			}
			close(working)
			<-finish
			p.Write(b[:n])
		}
	}})
	idle, busy, silent := s.open(t, someHello), s.open(t, someHello), s.dial(t)
	send(t, busy, message([]byte("call")))
	<-working
	ended := make(chan error, 1)
	go func() { ended <- s.Shutdown(t.Context()) }()
	refused(t, idle)
	refused(t, silent)
	if _, err := os.Lstat(s.path()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the path is not given up: %v", err)
	}
	select {
	case err := <-ended:
		t.Fatalf("Shutdown did not wait: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	close(finish)
	if got, err := io.ReadAll(busy); err != nil || string(got) != string(message([]byte("call"))) {
		t.Errorf("%q, %v", got, err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestShutdownCutsOff(t *testing.T) {
	working := make(chan struct{})
	s := start(t, Config{Handle: func(ctx context.Context, p *Pipe) {
		p.Read(make([]byte, 10))
		close(working)
		<-ctx.Done()
	}})
	send(t, s.open(t, someHello), message([]byte("call")))
	<-working
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown: %v", err)
	}
}
