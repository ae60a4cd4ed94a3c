// Package krb5 is Kerberos 5 as a mechanism of the gss seam, both ends of it:
// RFC 4120 as [MS-KILE] uses it, with the tokens of RFC 4121, in the two legs
// of GSS-API and in the three of DCE RPC ([MS-KILE] 3.4.5.1).
//
// NewAcceptor makes the server's end from a keytab, NewInitiator the client's
// from a TicketSource: CCacheTickets, KeytabTickets or PasswordTickets. A
// Kerberos library talks to the KDC for those; everything a peer sends, from
// the first token to the last sealed message, is read and checked by this
// package alone, and at the acceptor no part of the library runs.
//
// Encryption types are AES with SHA-1 (RFC 3962) and with SHA-2 (RFC 8009),
// and at the acceptor RC4 (RFC 4757) where the configuration allows it: for a
// service that has an RC4 key only, and for clients that protect messages with
// nothing better. Our own client asks for AES, which domain controllers give
// since 2022 for all accounts that are not explicitly kept to RC4 ([MS-KILE]
// 2.2.7), and takes nothing less.
// DES, user-to-user tickets, delegation and channel bindings are not
// supported: the first two are refused, the others read over.
package krb5
