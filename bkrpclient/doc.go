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
// authenticated. The domain's public key, and who the caller is, are taken from a
// server that was logged on to, and under privacy. By NTLM such a server has shown
// that it is one of the domain's machines, or knows the caller's password; by
// Kerberos which machine it is; with Config.RequireMutual also that it is a domain
// controller. Without that, who controls any machine of the domain, and DNS, can
// be the server that is found, and have secrets wrapped under a key of their own,
// for as long as the key is kept. Where that is feared, set RequireMutual, or name
// the server and use Dial.
//
// Every call goes over SMB 2 or 3 with signing, and within it over RPC with
// packet privacy; there is no way to ask for less.
package bkrpclient
