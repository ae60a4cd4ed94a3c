package interop

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/interop/peers"
)

// domain is the one Samba domain of a test run: started by the first test
// that asks for it, stopped after the last.
var domain struct {
	sync.Mutex
	started bool
	dc      *peers.Domain
	err     error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if domain.dc != nil {
		if err := domain.dc.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	if binaries.dir != "" {
		os.RemoveAll(binaries.dir)
	}
	os.Exit(code)
}

// DC returns the run's Samba domain controller. It skips the test where
// there can be none, or fails it when peers are required.
func DC(t *testing.T) *peers.Domain {
	t.Helper()
	peers.Need(t, peers.DomainPrograms...)
	domain.Lock()
	defer domain.Unlock()
	if !domain.started {
		domain.started = true
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
		defer cancel()
		domain.dc, domain.err = peers.StartDomain(ctx)
	}
	if domain.err != nil {
		// The programs are there, so this is no reason to skip.
		t.Fatal(domain.err)
	}
	return domain.dc
}
