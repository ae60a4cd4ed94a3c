//go:build !windows

package cli

import "os"

// obeysEscapes tells whether a terminal, of the kind that TERM names, obeys the
// escape sequences for colours and for erasing a line. All kinds in use do, but for
// the one that says of itself that it does not.
func obeysEscapes(_ *os.File, kind string) bool { return kind != "" && kind != "dumb" }
