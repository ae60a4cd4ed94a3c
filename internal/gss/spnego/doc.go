// Package spnego negotiates which mechanism makes a security context: the
// simple and protected negotiation of RFC 4178 with what [MS-SPNG] changes in
// it. It knows no mechanism; it takes any list of them, in order of
// preference, through the gss seam.
//
// NewAcceptor makes the server's end, NewInitiator the client's. The acceptor
// takes the first mechanism of the client's list that it has. When that is not
// the client's first, it asks for the checksum over the list (mechListMIC), so
// that no one on the way can have moved the choice; a checksum that the client
// sends unasked is verified and answered.
//
// It has no part in the NEGOEX extension, and does not act on reqFlags
// (RFC 4178 4.2.1 says to ignore them).
package spnego
