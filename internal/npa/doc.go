// Package npa serves named pipes behind Samba's smbd. smbd does SMB; for each
// open of a pipe it connects to the Unix socket <ncalrpc dir>/np/<pipe> and
// says in a hello, named_pipe_auth, where the client comes from. Whoever owns
// the socket's path serves the pipe.
//
// There is no specification: the layout is what Samba's own interface
// definition, librpc/idl/named_pipe_auth.idl, says, with levels 7 (Samba 4.17)
// and 8 (later ones). On the socket there are
//
//	hello    u32 big-endian length of the rest, "NPAM", NDR
//	reply    the same, with what kind of pipe it is and a status
//	messages u16 little-endian length, message; both ways, until either closes
//
// The hello also carries smbd's view of who the client is, and the key of the
// SMB session. Neither is read: whoever calls BackupKey proves himself to RPC,
// end to end, and smbd, which passes the octets on, is no party to it.
//
// [Listen] takes the pipes' paths, [Server.Serve] hands each open of a pipe to
// a function, as a [Pipe]. Nothing of SMB or RPC is known here.
package npa
