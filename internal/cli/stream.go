package cli

import (
	"io"
	"os"
	"sync"

	"golang.org/x/term"
)

// Stream is what a program prints to, standard output or standard error. It knows
// whether that is a terminal, whether it may be coloured, and keeps what is printed
// apart from a line of progress on the same terminal. Any other writer is no
// terminal, and is never coloured.
type Stream struct {
	w       io.Writer
	file    *os.File // w, if it is a file
	console *console

	// terminal is one where a person reads. It obeys escape sequences if steered,
	// and the person has nothing against colours if colorful.
	terminal, steered, colorful bool
}

// console is what the streams of one program share.
type console struct {
	when colorWhen

	mu sync.Mutex
	// progress is where progress is shown, nil for nowhere, and shown says that its
	// line stands there now.
	progress *Stream
	shown    bool
	// begun says that something else has begun a line on a terminal.
	begun bool
}

// Streams makes the streams of a program of what it was given.
func Streams(stdout, stderr io.Writer) (out, err *Stream) {
	c := new(console)
	return newStream(stdout, c), newStream(stderr, c)
}

func newStream(w io.Writer, c *console) *Stream {
	s := &Stream{w: w, console: c}
	if s.file, _ = w.(*os.File); s.file == nil {
		return s
	}
	s.terminal = term.IsTerminal(int(s.file.Fd()))
	s.steered = s.terminal && obeysEscapes(s.file, os.Getenv("TERM"))
	s.colorful = s.steered && os.Getenv("NO_COLOR") == "" // https://no-color.org
	return s
}

// Write writes p, in the place of a line of progress that stands there.
func (s *Stream) Write(p []byte) (int, error) {
	if !s.terminal {
		return s.w.Write(p)
	}
	s.console.mu.Lock()
	defer s.console.mu.Unlock()
	s.console.erase()
	if len(p) > 0 {
		s.console.begun = p[len(p)-1] != '\n'
	}
	return s.w.Write(p)
}

// colored tells whether what is printed to the stream is to have colours.
func (s *Stream) colored() bool {
	switch {
	case s == nil, s.console.when == colorNever:
		return false
	case s.console.when == colorAlways:
		return true
	}
	return s.colorful
}

// width is the number of cells in a line of the terminal, or 0 if it is not known.
func (s *Stream) width() int {
	width, _, err := term.GetSize(int(s.file.Fd()))
	if err != nil {
		return 0
	}
	return width
}

// File is the file that is written to by w, or nil if there is none.
func File(w io.Writer) *os.File {
	if s, ok := w.(*Stream); ok {
		return s.file
	}
	f, _ := w.(*os.File)
	return f
}

// IsTerminal tells whether w is a terminal, where octets that are no text do
// not belong.
func IsTerminal(w io.Writer) bool {
	f := File(w)
	return f != nil && term.IsTerminal(int(f.Fd()))
}
