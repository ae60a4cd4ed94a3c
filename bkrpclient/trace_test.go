package bkrpclient

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// TestTraceText: what servers send cannot get at a terminal, and however many DNS
// names, an error can be read.
func TestTraceText(t *testing.T) {
	hostile := Trace{{Server: "dc1", Doing: doingConnect, Err: errors.New("\x1b]0;title\x07\r\nKDC_ERR: \u202egnihtyna")}}
	err := &DomainError{Domain: "bkrp.example", Trace: hostile, Errs: []error{hostile[0].Err}}
	for _, text := range []string{hostile.String(), err.Error()} {
		if strings.ContainsAny(text, "\x1b\x07\r\n\u202e") || !strings.Contains(text, "KDC_ERR: ") {
			t.Errorf("%q", text)
		}
	}
	for _, n := range []int{maxSteps, maxSteps + 1, 2000} {
		var long Trace
		for i := range n {
			long = append(long, Step{Server: fmt.Sprintf("dc%d", i), Doing: doingFind, Err: errors.New("no such name in DNS")})
		}
		text := long.String()
		if steps := strings.Count(text, "no such name"); steps != maxSteps || !strings.HasPrefix(text, "dc0: ") || !strings.Contains(text, fmt.Sprintf("dc%d: ", n-1)) {
			t.Errorf("%d of %d steps: %s", steps, n, text)
		}
		if more := fmt.Sprintf("; (%d more); ", n-maxSteps); strings.Contains(text, more) != (n > maxSteps) {
			t.Errorf("%s", text)
		}
	}
}
