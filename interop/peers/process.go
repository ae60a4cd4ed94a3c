package peers

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Process is a program that may be ended by SIGKILL at any moment, and is at the
// latest when this process ends, however that comes about. It is safe for
// concurrent use.
type Process struct {
	mu    sync.Mutex
	cmd   *exec.Cmd // the shell around it; nil once it has ended
	stdin io.Closer
	pid   int
}

// untilKilled runs a program, says its process's number, and kills it when
// standard input ends.
const untilKilled = `"$@" </dev/null 3>&- & echo $! >&3; exec >&- 3>&-
cat >/dev/null
kill -KILL $! 2>/dev/null
wait $! 2>/dev/null; true`

// StartProcess runs a program. What it writes to standard output and standard
// error goes to these; each may be nil.
func StartProcess(stdout, stderr io.Writer, args ...string) (*Process, error) {
	number, say, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", args[0], err)
	}
	defer number.Close()
	cmd := exec.Command("bash", append([]string{"-c", untilKilled, "until-killed"}, args...)...)
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles, cmd.WaitDelay = stdout, stderr, []*os.File{say}, 5*time.Second
	stdin, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	say.Close()
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", args[0], err)
	}
	p := &Process{cmd: cmd, stdin: stdin}
	line, err := bufio.NewReader(number).ReadString('\n')
	if err == nil {
		p.pid, err = strconv.Atoi(strings.TrimSpace(line))
	}
	if err != nil {
		_ = p.Kill()
		return nil, fmt.Errorf("starting %s: its process's number: %w", args[0], err)
	}
	return p, nil
}

// Kill ends the program by SIGKILL and waits for it. To do it again is no error.
func (p *Process) Kill() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return nil
	}
	p.stdin.Close()
	err := p.cmd.Wait()
	p.cmd = nil
	return err
}

// Signal sends the program a signal, such as SIGSTOP or SIGCONT.
func (p *Process) Signal(signal syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return os.ErrProcessDone
	}
	return syscall.Kill(p.pid, signal)
}
