// Package netlogon has a domain controller judge NTLM logons: the pass-through
// authentication of [MS-APDS] 3.1.5, by NetrLogonSamLogonEx ([MS-NRPC]
// 3.5.4.5.1) over the secure channel of a machine account. [Client.LogOn] is an
// account source of package ntlm.
//
// The secure channel is made by AES and HMAC-SHA256 or not at all, and is
// always sealed. RPC goes over TCP. Only users of the server's own domain are
// let in; there is no discovery of domain controllers, no change of the machine
// account's password, and no fallback to older cryptography.
//
// Up to the moment when the domain controller has proved that it knows the
// machine account's key, what it says is anybody's: all of it is read by the
// strict readers of packages dcerpc and ndr.
package netlogon
