package bkrpclient

import "testing"

func TestAddress(t *testing.T) {
	for server, want := range map[string][2]string{
		"dc1.example":      {"dc1.example", "dc1.example:445"},
		"dc1.example:4445": {"dc1.example", "dc1.example:4445"},
		"dc1.example:":     {"dc1.example", "dc1.example:445"},
		"192.0.2.1":        {"192.0.2.1", "192.0.2.1:445"},
		"2001:db8::1":      {"2001:db8::1", "[2001:db8::1]:445"},
		"[2001:db8::1]":    {"2001:db8::1", "[2001:db8::1]:445"},
		"[2001:db8::1]:46": {"2001:db8::1", "[2001:db8::1]:46"},
	} {
		host, hostport := (&Config{Server: server}).address()
		if host != want[0] || hostport != want[1] {
			t.Errorf("%q: %q, %q, want %q", server, host, hostport, want)
		}
	}
	// The name is the ticket's, the address the connection's.
	if host, hostport := (&Config{Server: "dc1.example:46", Address: "192.0.2.1:47"}).address(); host != "dc1.example" || hostport != "192.0.2.1:47" {
		t.Errorf("%q, %q", host, hostport)
	}
}
