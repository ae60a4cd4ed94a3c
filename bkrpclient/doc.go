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
// OpenDomain takes the name of a domain instead. The Domain it returns finds a
// writable domain controller when it needs one, keeps the domain's public key
// and its connections, and repeats what failed with another domain controller,
// once (3.2.4, 3.2.4.1):
//
//	d, err := bkrpclient.OpenDomain(bkrpclient.DomainConfig{
//		Domain: "example.com",
//		Client: bkrpclient.Config{Credential: credential},
//	})
//	...
//	blob, err := d.Wrap(ctx, secret, bkrpclient.WrapOptions{})
//
// Neither DNS nor the pings by which domain controllers are found are
// authenticated. A server proves that it belongs to the domain: by NTLM that it
// is one of its machines, by Kerberos which one. Who controls one of them, and
// DNS, can be the server that is found; where that is feared, name the server
// and use Dial.
//
// Every call goes over SMB 2 or 3 with signing, and within it over RPC with
// packet privacy; there is no way to ask for less.
package bkrpclient
