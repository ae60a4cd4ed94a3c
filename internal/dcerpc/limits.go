package dcerpc

// Limits bound what one connection may take of the server. In each a zero
// stands for the default.
type Limits struct {
	// MaxRequest is the longest stub of a request, all its fragments
	// together, in octets; 4 MiB. A longer one is answered by
	// FaultNoMemory, its octets dropped as they come.
	MaxRequest int
	// MaxFragment is the longest fragment that is agreed on, in octets, from
	// 1432 to 65535; 4280, as Windows and Samba have it on named pipes.
	MaxFragment int
	// MaxContexts is how many presentation contexts a connection may hold;
	// 32.
	MaxContexts int
	// MaxToken is the longest authentication token, in octets; 48000, which
	// Windows takes for its MaxTokenSize.
	MaxToken int
	// MaxLegs is how many tokens a logon may take of the client; 8.
	MaxLegs int
}

func (l Limits) withDefaults() Limits {
	set := func(v *int, value int) {
		if *v <= 0 {
			*v = value
		}
	}
	set(&l.MaxRequest, 4<<20)
	set(&l.MaxFragment, 4280)
	set(&l.MaxContexts, 32)
	set(&l.MaxToken, 48000)
	set(&l.MaxLegs, 8)
	l.MaxFragment = min(max(l.MaxFragment, minFragment), maxPDU)
	return l
}
