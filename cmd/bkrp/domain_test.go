package main

import "testing"

func TestDNSServer(t *testing.T) {
	for server, want := range map[string]string{
		"dc1": "dc1:53", "dc1:5353": "dc1:5353", "dc1:": "dc1:53", "192.0.2.1": "192.0.2.1:53", "192.0.2.1:54": "192.0.2.1:54",
		"::1": "[::1]:53", "[::1]": "[::1]:53", "[::1]:54": "[::1]:54", "fe80::1%eth0": "[fe80::1%eth0]:53",
	} {
		if got := dnsServer(server); got != want {
			t.Errorf("%q: %q, want %q", server, got, want)
		}
	}
}
