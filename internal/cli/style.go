package cli

import (
	"fmt"
	"io"
	"strings"
)

// Style is how text looks on a terminal that may be coloured. It is never all that
// tells something: words say the same.
type Style uint8

const (
	Plain Style = iota
	Bold
	Dim
	Red
	Green
	Yellow
	Cyan
)

// rendition has the parameters of SGR (ECMA-48 8.3.117) for each style.
var rendition = [...]string{Bold: "1", Dim: "2", Red: "31", Green: "32", Yellow: "33", Cyan: "36"}

// paint gives text its style, if colored. It is clean already.
func (s Style) paint(text string, colored bool) string {
	if !colored || s == Plain || text == "" {
		return text
	}
	return "\x1b[" + rendition[s] + "m" + text + "\x1b[0m"
}

// Paint gives text, as OneLine shows it, the style that it is to have on w.
func Paint(w io.Writer, style Style, text string) string {
	s, _ := w.(*Stream)
	return style.paint(OneLine(text), s.colored())
}

// Warnf prints a warning, on one line.
func Warnf(w io.Writer, format string, args ...any) {
	fmt.Fprintf(w, "%s %s\n", Paint(w, Yellow, "warning:"), OneLine(fmt.Sprintf(format, args...)))
}

// printError prints the error with which a program ends. It may have several lines.
func printError(w io.Writer, program string, err error) {
	lines := strings.Split(plain(err), "\n")
	for i, line := range lines {
		lines[i] = OneLine(line)
	}
	fmt.Fprintf(w, "%s %s\n", Paint(w, Red, program+":"), strings.Join(lines, "\n"))
}
