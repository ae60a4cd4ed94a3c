// Package pac reads the privilege attribute certificate by which a domain
// controller says in a ticket who the client is ([MS-PAC]).
//
// Parse checks the frame and every buffer that is of use here; VerifyServer
// checks the signature with the key of the service, and nothing that Parse
// gave may be believed before it. SID and Groups then say who the client is,
// CheckClient whether the certificate belongs to the ticket.
//
// Credentials, claims and device information are not read.
package pac
