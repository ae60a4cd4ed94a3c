package doctest

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Shell is a bash that commands are typed into: variables, the directory and the
// umask of one stay for the next. It ends with the test.
type Shell struct {
	t       testing.TB
	within  []string
	env     []string
	dir     string // of the files by which it is spoken to
	stdin   io.Writer
	status  *bufio.Reader
	count   int
	stopped bool
}

// NewShell starts a shell in a directory with nothing but an environment. Its
// command is put behind that of within, which may make a namespace for it.
func NewShell(t testing.TB, dir string, env []string, within ...string) *Shell {
	t.Helper()
	s := &Shell{t: t, within: within, env: env, dir: t.TempDir()}
	status, say, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := s.exec("bash", "--noprofile", "--norc")
	cmd.Dir, cmd.ExtraFiles = dir, []*os.File{say}
	var stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &stderr, &stderr, 10*time.Second
	stdin, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	say.Close()
	if err != nil {
		status.Close()
		t.Fatalf("starting a shell: %v", err)
	}
	s.stdin, s.status = stdin, bufio.NewReader(status)
	t.Cleanup(func() {
		stdin.Close()
		if err := cmd.Wait(); err != nil && !s.stopped {
			t.Errorf("the shell: %v: %s", err, &stderr)
		}
		status.Close()
	})
	// A variable that is not set, or a failure in a pipe, would pass unseen.
	s.Run("set -u -o pipefail", "")
	return s
}

func (s *Shell) exec(args ...string) *exec.Cmd {
	args = append(append([]string(nil), s.within...), args...)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = s.env
	return cmd
}

// Result is what came of a command.
type Result struct {
	Stdout, Stderr string
	Code           int
}

// Run types a command, with a text as its standard input.
func (s *Shell) Run(command, stdin string) Result {
	s.t.Helper()
	s.count++
	file := func(suffix string) string { return filepath.Join(s.dir, strconv.Itoa(s.count)+suffix) }
	for suffix, text := range map[string]string{".sh": command, ".in": stdin} {
		if err := os.WriteFile(file(suffix), []byte(text), 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
	line := strings.NewReplacer("FILE", file("")).Replace(
		`eval "$(<FILE.sh)" <FILE.in >FILE.out 2>FILE.err 3>&-; echo $? >&3` + "\n")
	_, err := io.WriteString(s.stdin, line)
	var status string
	if err == nil {
		status, err = s.status.ReadString('\n')
	}
	read := func(suffix string) string {
		text, err := os.ReadFile(file(suffix))
		if err != nil {
			s.t.Fatal(err)
		}
		return string(text)
	}
	if err != nil {
		s.stopped = true
		s.t.Fatalf("the shell ended over %q: %s", command, read(".err"))
	}
	code, err := strconv.Atoi(strings.TrimSpace(status))
	if err != nil {
		s.t.Fatal(err)
	}
	return Result{Stdout: read(".out"), Stderr: read(".err"), Code: code}
}

// Must runs a command that has to succeed, and gives what it wrote to standard
// output.
func (s *Shell) Must(command, stdin string) string {
	s.t.Helper()
	r := s.Run(command, stdin)
	if r.Code != 0 {
		s.t.Fatalf("%s: exit code %d\n%s%s", command, r.Code, r.Stdout, r.Stderr)
	}
	return r.Stdout
}

// Server is a command that goes on until it is stopped.
type Server struct {
	// Said is the first line that it wrote to standard output.
	Said string

	t    testing.TB
	cmd  *exec.Cmd
	log  *log
	stop func()
}

// Serve runs a command in the shell's directory, with what the shell exports, waits
// for the first line of its output, and interrupts it at the end of the test at the
// latest.
func (s *Shell) Serve(command string) *Server {
	s.t.Helper()
	cmd := s.exec("bash", "-c", "exec "+command)
	cmd.Dir = strings.TrimSuffix(s.Must("pwd", ""), "\n")
	cmd.Env = strings.Split(strings.TrimSuffix(s.Must("env -0", ""), "\x00"), "\x00")
	v := &Server{t: s.t, cmd: cmd, log: new(log)}
	cmd.Stderr, cmd.WaitDelay = v.log, 10*time.Second
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		s.t.Fatalf("%s: %v", command, err)
	}
	lines := bufio.NewReader(stdout)
	line, err := lines.ReadString('\n')
	v.Said = strings.TrimSuffix(line, "\n")
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		_, _ = io.Copy(v.log, lines)
	}()
	v.stop = sync.OnceFunc(func() {
		_ = cmd.Process.Signal(syscall.SIGINT)
		insist := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
		defer insist.Stop()
		<-drained
		if err := cmd.Wait(); err != nil {
			s.t.Errorf("%s, interrupted: %v\n%s", command, err, v.log)
		}
	})
	s.t.Cleanup(v.stop)
	if err != nil {
		v.stop()
		s.t.Fatalf("%s ended without a word: %s", command, v.log)
	}
	return v
}

// Stop interrupts the server, as Ctrl-C does, and waits for its end, which has to be
// a good one.
func (v *Server) Stop() { v.stop() }

// PID is the number of its process.
func (v *Server) PID() int { return v.cmd.Process.Pid }

// Log is what it has written to standard error so far.
func (v *Server) Log() string { return v.log.String() }

// log is a buffer for two goroutines.
type log struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// GoEnvironment is what the go command needs in a shell to find its caches, whose
// home is another one there.
func GoEnvironment(t testing.TB) (env []string) {
	t.Helper()
	for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOFLAGS", "GOPROXY", "GOSUMDB", "GONOSUMDB", "GOPRIVATE", "GOTOOLCHAIN"} {
		value, err := exec.Command("go", "env", name).Output()
		if err != nil {
			t.Fatalf("go env %s: %v", name, err)
		}
		env = append(env, name+"="+strings.TrimSpace(string(value)))
	}
	return env
}
