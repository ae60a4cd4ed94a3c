package dcerpc

import "time"

// Limits bound what one connection may take of the server, and MaxPending what
// all of them may. In each a zero stands for the default.
type Limits struct {
	// MaxRequest is the longest stub of a request, all its fragments
	// together, in octets; 4 MiB. A longer one is answered by
	// FaultNoMemory, its octets dropped as they come.
	MaxRequest int
	// MaxPending is how many octets of requests in several fragments all
	// connections of the server may hold at a time; 32 times MaxRequest. One
	// caller may hold a fourth of it, and MaxRequest in any case. A request that
	// finds no room gets FaultServerTooBusy. One that fits into a
	// fragment, as all but very large ones do, needs none of it.
	MaxPending int64
	// CallTime bounds a call in several fragments, from the first one of its
	// request to the last one of its response; 2 minutes. The connection of
	// one that takes longer is closed, so that no one sits on memory.
	CallTime time.Duration
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
	if l.MaxPending <= 0 {
		l.MaxPending = 32 * int64(l.MaxRequest)
	}
	if l.CallTime <= 0 {
		l.CallTime = 2 * time.Minute
	}
	set(&l.MaxFragment, 4280)
	set(&l.MaxContexts, 32)
	set(&l.MaxToken, 48000)
	set(&l.MaxLegs, 8)
	l.MaxFragment = min(max(l.MaxFragment, minFragment), maxPDU)
	return l
}
