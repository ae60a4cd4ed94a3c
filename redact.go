package bkrp

import (
	"fmt"
	"io"
	"log/slog"
)

const redacted = "[REDACTED]"

// opaque is embedded by types that hold a secret: however they are printed or
// logged, nothing of it shows.
type opaque struct{}

// String is "[REDACTED]".
func (opaque) String() string { return redacted }

// Format writes "[REDACTED]", whatever the verb.
func (opaque) Format(s fmt.State, _ rune) { io.WriteString(s, redacted) }

// LogValue is "[REDACTED]".
func (opaque) LogValue() slog.Value { return slog.StringValue(redacted) }
