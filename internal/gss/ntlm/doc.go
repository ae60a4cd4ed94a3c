// Package ntlm is the NT LAN Manager authentication protocol, [MS-NLMP], both
// ends of it, as far as it is fit for use: NTLMv2 responses with extended
// session security, 128-bit keys and key exchange, over a connection
// (2.2.1.1 to 2.2.1.3), with the MIC of AUTHENTICATE_MESSAGE and with signed
// and sealed messages (3.4).
//
// NewAcceptor makes the server's end of the gss seam, NewInitiator the
// client's. Who an account is and what its secret is the acceptor asks of a
// Source; LocalSource is one over a table of NT hashes.
//
// NTLMv1, LM and LMv2 responses, OEM character sets, 40- and 56-bit keys,
// datagram mode, anonymous and guest logons are not supported, and each of
// them is refused. The server name and channel binding that a client names are
// logged and not enforced.
//
// MD4, MD5 and RC4 are what the protocol is made of; they stand in the files
// of this package that need them and nowhere else.
package ntlm
