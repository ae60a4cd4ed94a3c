package peers

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// policyVariable of the environment says what a test does about its peers:
// "required" makes a missing one a failure, "off" skips all of them, and
// without it a missing one is a skip.
const policyVariable = "BKRP_PEERS"

// Missing says why the peers that need the named programs cannot run here,
// or returns nil when they can. Root is always needed: the peers run in
// namespaces of their own.
func Missing(programs ...string) error {
	if os.Getenv(policyVariable) == "off" {
		return fmt.Errorf("peers: switched off by %s=off", policyVariable)
	}
	if os.Geteuid() != 0 {
		return errors.New("peers: root is needed for private namespaces")
	}
	var absent []string
	for _, name := range programs {
		if _, err := exec.LookPath(name); err != nil {
			absent = append(absent, name)
		}
	}
	if len(absent) > 0 {
		return fmt.Errorf("peers: not installed: %s (script/install-peers installs them)", strings.Join(absent, ", "))
	}
	return nil
}

// Unavailable ends the test because a peer cannot be had: with a failure
// when BKRP_PEERS=required, as in script/test, and otherwise with a skip
// that gives the reason.
func Unavailable(t testing.TB, reason error) {
	t.Helper()
	if os.Getenv(policyVariable) == "required" {
		t.Fatalf("a real peer is required: %v", reason)
	}
	t.Skipf("without a real peer: %v", reason)
}

// Need ends the test unless the named programs can be run.
func Need(t testing.TB, programs ...string) {
	t.Helper()
	if err := Missing(programs...); err != nil {
		Unavailable(t, err)
	}
}
