package peers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// NetworkPrograms are what [StartNetwork] needs to find.
var NetworkPrograms = []string{"ip"}

// Network is a bridge on this machine with hosts on it, each in a network
// namespace of its own, that can be cut off one by one. It needs root. At most
// one of a process exists at a time.
type Network struct {
	// Gateway is this process's own address on the bridge.
	Gateway string

	bridge string
	subnet string // its first three numbers, with a dot behind
	hosts  []*Host
}

// Host is a place on a [Network] for programs to run at.
type Host struct {
	// Addr is its address, which the other hosts and this process reach.
	Addr string

	namespace, link string // link is the bridge's end of its cable
}

// networkPrefix begins the names of all namespaces and bridges; the number of
// the process that made them follows.
const networkPrefix = "bkrp"

// StartNetwork makes a bridge without hosts, after it has removed what a former
// process left that was killed. The addresses are of 198.18.0.0/15, which is for
// tests (RFC 2544) and not routed.
func StartNetwork(ctx context.Context) (*Network, error) {
	if err := removeOldNetworks(ctx); err != nil {
		return nil, err
	}
	pid := os.Getpid()
	n := &Network{
		bridge: fmt.Sprintf("%s%d", networkPrefix, pid), // 15 octets at most
		subnet: fmt.Sprintf("198.%d.%d.", 18+pid>>8&1, pid&0xff),
	}
	n.Gateway = n.subnet + "1"
	err := errors.Join(
		ip(ctx, "link", "add", n.bridge, "type", "bridge"),
		ip(ctx, "addr", "add", n.Gateway+"/24", "dev", n.bridge),
		ip(ctx, "link", "set", n.bridge, "up"),
	)
	if err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

// Join adds a host.
func (n *Network) Join(ctx context.Context) (*Host, error) {
	number := len(n.hosts) + 2
	h := &Host{
		Addr:      n.subnet + strconv.Itoa(number),
		namespace: fmt.Sprintf("%s-%d", n.bridge, number),
		link:      fmt.Sprintf("v%s-%d", strings.TrimPrefix(n.bridge, networkPrefix), number),
	}
	n.hosts = append(n.hosts, h)
	for _, command := range [][]string{
		{"netns", "add", h.namespace},
		{"link", "add", h.link, "type", "veth", "peer", "name", "eth0", "netns", h.namespace},
		{"link", "set", h.link, "master", n.bridge, "up"},
		{"-n", h.namespace, "addr", "add", h.Addr + "/24", "dev", "eth0"},
		{"-n", h.namespace, "link", "set", "eth0", "up"},
		{"-n", h.namespace, "link", "set", "lo", "up"},
	} {
		if err := ip(ctx, command...); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// Command is the beginning of a command line that runs a program at the host.
// The program gets the process's number that is started.
func (h *Host) Command(args ...string) []string {
	return append([]string{"ip", "netns", "exec", h.namespace}, args...)
}

// Cut takes the host off the network: what it sends and what is sent to it is
// lost without a word, also of connections that stand.
func (h *Host) Cut(ctx context.Context) error { return ip(ctx, "link", "set", h.link, "down") }

// Heal puts the host on the network again.
func (h *Host) Heal(ctx context.Context) error { return ip(ctx, "link", "set", h.link, "up") }

// Close removes the hosts, whose programs must have ended, and the bridge.
func (n *Network) Close() error {
	ctx := context.Background()
	var errs []error
	for _, h := range n.hosts {
		// The cable first, and by itself: the system takes its time to remove a
		// namespace and what is in it, and a next network takes the same names.
		errs = append(errs, ip(ctx, "link", "del", h.link), ip(ctx, "netns", "del", h.namespace))
	}
	return errors.Join(append(errs, ip(ctx, "link", "del", n.bridge))...)
}

// removeOldNetworks removes namespaces and bridges of processes that are gone.
func removeOldNetworks(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "ip", "netns", "list").Output()
	if err != nil {
		return fmt.Errorf("listing network namespaces: %w", err)
	}
	var errs []error
	for line := range strings.Lines(string(out)) {
		if name, _, _ := strings.Cut(strings.TrimSpace(line), " "); isLeftOver(name) {
			errs = append(errs, ip(ctx, "netns", "del", name))
		}
	}
	out, err = exec.CommandContext(ctx, "ip", "-o", "link", "show", "type", "bridge").Output()
	if err != nil {
		return fmt.Errorf("listing bridges: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		if fields := strings.Fields(line); len(fields) > 1 && isLeftOver(strings.TrimSuffix(fields[1], ":")) {
			errs = append(errs, ip(ctx, "link", "del", strings.TrimSuffix(fields[1], ":")))
		}
	}
	return errors.Join(errs...)
}

// isLeftOver reports whether a name is one of ours whose process is gone.
func isLeftOver(name string) bool {
	number, ours := strings.CutPrefix(name, networkPrefix)
	number, _, _ = strings.Cut(number, "-")
	pid, err := strconv.Atoi(number)
	if !ours || err != nil {
		return false
	}
	_, err = os.Stat(fmt.Sprintf("/proc/%d", pid))
	return errors.Is(err, os.ErrNotExist)
}

// ip runs a command of iproute2.
func ip(ctx context.Context, args ...string) error {
	if out, err := exec.CommandContext(ctx, "ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
