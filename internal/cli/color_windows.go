package cli

import (
	"os"

	"golang.org/x/sys/windows"
)

// obeysEscapes tells whether a console obeys escape sequences: one does whose
// virtual terminal processing is on, or can be turned on. TERM, where a shell sets
// it, may say that it is not wanted.
func obeysEscapes(f *os.File, kind string) bool {
	if kind == "dumb" {
		return false
	}
	console := windows.Handle(f.Fd())
	var mode uint32
	if windows.GetConsoleMode(console, &mode) != nil {
		return false
	}
	return mode&windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING != 0 ||
		windows.SetConsoleMode(console, mode|windows.ENABLE_PROCESSED_OUTPUT|windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING) == nil
}
