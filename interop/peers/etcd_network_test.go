package peers

import (
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// What a killed process left is removed, and a host that is cut off is not
// reached.
func TestNetwork(t *testing.T) {
	Need(t, append(NetworkPrograms, "bash")...)
	ctx := t.Context()
	// Linux gives no process this number.
	old := &Network{bridge: networkPrefix + "4194305", subnet: "198.19.254."}
	if err := ip(ctx, "link", "add", old.bridge, "type", "bridge"); err != nil {
		t.Fatal(err)
	}
	if _, err := old.Join(ctx); err != nil {
		t.Fatal(err)
	}
	n, err := StartNetwork(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}()
	for _, args := range [][]string{{"netns", "list"}, {"link", "show"}} {
		out, err := exec.CommandContext(ctx, "ip", args...).Output()
		if err != nil || strings.Contains(string(out), old.bridge) {
			t.Errorf("ip %v: %v\n%s", args, err, out)
		}
	}
	h, err := n.Join(ctx)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", net.JoinHostPort(n.Gateway, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	reach := h.Command("timeout", "2", "bash", "-c", fmt.Sprintf("exec 3<>/dev/tcp/%s/%s", n.Gateway, port))
	reaches := func() bool { return exec.CommandContext(ctx, reach[0], reach[1:]...).Run() == nil }
	comesToReach := func(which string) {
		for end := time.Now().Add(time.Minute); !reaches(); {
			if time.Now().After(end) {
				t.Fatalf("a host %sdoes not reach the bridge", which)
			}
		}
	}
	comesToReach("")
	if err := h.Cut(ctx); err != nil {
		t.Fatal(err)
	}
	if reaches() {
		t.Error("a host that is cut off reaches the bridge")
	}
	if err := h.Heal(ctx); err != nil {
		t.Fatal(err)
	}
	comesToReach("that was healed ")
}
