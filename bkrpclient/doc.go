// Package bkrpclient is a BackupKey Remote Protocol client ([MS-BKRP] 3.2).
//
// Dial logs on to one server; the Client it returns fetches the domain's
// public key, wraps a secret on this machine (ClientWrap) or on the server
// (ServerWrap), and has a wrapped secret opened:
//
//	c, err := bkrpclient.Dial(ctx, bkrpclient.Config{
//		Server:     "dc1.example.com",
//		Credential: bkrpclient.Credential{Domain: "EXAMPLE", User: "alice", Password: pw},
//	})
//	...
//	blob, err := c.Wrap(ctx, secret, bkrpclient.WrapOptions{})
//	...
//	secret, err = c.Unwrap(ctx, blob)
//
// Every call goes over SMB 2 or 3 with signing, and within it over RPC with
// packet privacy; there is no way to ask for less. Finding a domain controller
// is left to the caller.
package bkrpclient
