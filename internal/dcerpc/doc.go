// Package dcerpc is connection-oriented remote procedure calls, both ends:
// [C706] chapter 12 with the extensions of [MS-RPCE]. It works over any
// stream of octets; a named pipe is one, an in-memory pair of pipes another.
//
// A Server answers one connection with ServeConn and hands the calls of the
// interfaces that it was given to their Handle functions, unsealed and
// authenticated. A Client binds to one interface and calls its methods. Both
// speak NDR and NDR64, negotiate header signing and the bind-time features of
// [MS-RPCE] 2.2.2.14, and take their security contexts from package gss.
//
// Calls on one connection are served one after the other, in the order of
// their last fragments. That leaves co_cancel nothing to cancel, and orphaned
// no more to abandon than a request of which fragments are missing. Security
// context multiplexing, PFC_CONC_MPX, call-backs, the connectionless protocol
// and EBCDIC are not spoken.
//
// What the stub data mean is no business of this package.
package dcerpc
