package dclocator

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
	"testing"
)

// TestReachable: where there is no IPv6, nothing is said of the IPv6 addresses of
// servers that answer at another one; of those that do not it is.
func TestReachable(t *testing.T) {
	noWay := plain(context.Background(), &net.OpError{Op: "dial", Net: "udp", Err: os.NewSyscallError("connect", syscall.ENETUNREACH)})
	got := reachable(Trace{
		{Server: "_ldap._tcp.dc._msdcs.bkrp.test", Found: "3 in DNS"},
		{Server: "both", Err: noWay}, {Server: "both", DC: &DC{}},
		{Server: "far", Err: noWay},
		{Server: "half", DC: &DC{}}, {Server: "half", Err: errors.New("no answer")},
	})
	if len(got) != 5 || got[1].DC == nil || got[2].Server != "far" || got[4].Err == nil {
		t.Errorf("%v", got)
	}
}
