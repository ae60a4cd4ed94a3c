package krb5

import (
	"strings"
	"testing"
)

// Who has proved nothing writes little into the log.
func TestLongServiceInLog(t *testing.T) {
	f := forge(t)
	long := strings.Repeat("x", maxName)
	f.ticket.service = principal{2, []string{long, long, long, long}}
	_, _, log, err := f.try(t, Config{}, 0)
	if err == nil || !strings.Contains(log, "service=xxx") || len(log) > 1024 {
		t.Errorf("error %v, log of %d octets", err, len(log))
	}
}
