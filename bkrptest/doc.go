// Package bkrptest is a whole domain inside a test: users, the domain's keys, a
// BackupKey server on loopback over real SMB, and a small KDC, so that code that
// wraps and unwraps secrets can be tested by go test alone.
//
//	func TestDisk(t *testing.T) {
//		alice := bkrptest.NewDomain(t).User("alice")
//		c, err := bkrpclient.Dial(t.Context(), alice.NTLM())
//		...
//	}
//
// The server is that of package bkrpserver, with the same checks as in production.
// Clients log on by NTLM (User.NTLM) or Kerberos (User.Kerberos, or any other
// client by Domain.Krb5Conf and User.CCache), to one server or, found by DNS and
// LDAP pings, to the domain (User.InDomain). Domain.Inject has something go wrong:
// refusals, wrong answers, answers that do not come, connections that end at a
// given step. Domain.Events is the audit trail.
//
// Everything lasts as long as the test and listens on 127.0.0.1 only. Files are in
// t.TempDir. Several domains can be there at a time, in parallel tests too.
//
// It is for tests alone: the KDC detects no replays and takes clocks as they come,
// and all secrets are in the memory of the test.
package bkrptest
