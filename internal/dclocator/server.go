package dclocator

import (
	"net/netip"
	"strconv"
	"strings"
)

// SplitServer takes HOST or HOST:PORT apart, as people write them. The host is a name,
// without the root's dot, or an address, one of IPv6 with its zone where it has one
// and in brackets where a port follows. The port is a number above 0, or "" if there
// is none.
func SplitServer(server string) (host, port string, ok bool) {
	switch inner, bracketed := strings.CutPrefix(server, "["); {
	case bracketed:
		var rest string
		if host, rest, ok = strings.Cut(inner, "]"); !ok || !strings.Contains(host, ":") {
			return "", "", false
		}
		if port, ok = strings.CutPrefix(rest, ":"); !ok && rest != "" {
			return "", "", false
		}
	case strings.Count(server, ":") == 1:
		host, port, _ = strings.Cut(server, ":")
	default:
		host = server
	}
	addr, err := netip.ParseAddr(host)
	switch {
	case err == nil && addr.Zone() != "" && !ValidName(addr.Zone()):
		return "", "", false
	case err != nil:
		if host = strings.TrimSuffix(host, "."); !ValidName(host) {
			return "", "", false
		}
	}
	if port == "" {
		return host, "", true
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return host, port, err == nil && n > 0
}
