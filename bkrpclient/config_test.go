package bkrpclient

import (
	"net"
	"testing"
)

func TestAddress(t *testing.T) {
	for server, want := range map[string][2]string{
		"dc1.example":      {"dc1.example", "dc1.example:445"},
		"dc1.example:4445": {"dc1.example", "dc1.example:4445"},
		"dc1.example:":     {"dc1.example", "dc1.example:445"},
		"192.0.2.1":        {"192.0.2.1", "192.0.2.1:445"},
		"2001:db8::1":      {"2001:db8::1", "[2001:db8::1]:445"},
		"[2001:db8::1]":    {"2001:db8::1", "[2001:db8::1]:445"},
		"[2001:db8::1]:46": {"2001:db8::1", "[2001:db8::1]:46"},
		"fe80::1%eth0":     {"fe80::1%eth0", "[fe80::1%eth0]:445"},
		"[fe80::1%eth0]:1": {"fe80::1%eth0", "[fe80::1%eth0]:1"},
		"192.0.2.1:65535":  {"192.0.2.1", "192.0.2.1:65535"},
		"dc1.example.":     {"dc1.example", "dc1.example:445"},
		"DC1":              {"DC1", "DC1:445"},
	} {
		host, hostport, err := (&Config{Server: server}).address()
		if host != want[0] || hostport != want[1] || err != nil {
			t.Errorf("%q: %q, %q, %v, want %q", server, host, hostport, err, want)
		}
	}
	for _, server := range []string{
		"", ":445", ":", ".", "[]", "[]:445", "[::1", "::1]", "[::1]445", "[::1]:445:1", "[dc1]:445", "dc1:445:446", "dc1:0", "dc1:65536",
		"dc1:smb", "dc1:-1", "dc1: 445", `\\dc1\IPC$`, "smb://dc1", "dc1/x", "alice@dc1", "dc 1", "dc1\x00", "a..b",
	} {
		cfg := Config{Server: server, Credential: Credential{User: "alice"}}
		if host, hostport, err := cfg.address(); err == nil {
			t.Errorf("%q: %q, %q", server, host, hostport)
		}
		if cfg.Check() == nil {
			t.Errorf("%q is taken", server)
		}
	}
	// The name is the ticket's, the address the connection's.
	if host, hostport, _ := (&Config{Server: "dc1.example:46", Address: "192.0.2.1:47"}).address(); host != "dc1.example" || hostport != "192.0.2.1:47" {
		t.Errorf("%q, %q", host, hostport)
	}
}

func FuzzSplitServer(f *testing.F) {
	for _, server := range []string{"dc1:445", "[::1]:445", "fe80::1%eth0", "[::1", ":"} {
		f.Add(server)
	}
	f.Fuzz(func(t *testing.T, server string) {
		host, port, ok := splitServer(server)
		if !ok {
			return
		}
		again, samePort, ok := splitServer(net.JoinHostPort(host, port))
		if !ok || again != host || samePort != port {
			t.Errorf("%q: %q and %q come back as %q and %q", server, host, port, again, samePort)
		}
	})
}
