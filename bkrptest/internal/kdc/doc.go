// Package kdc is a Kerberos key distribution centre for tests: as much of RFC
// 4120 and [MS-PAC] as our clients and MIT's need to log on to a service of the
// same realm by a password, and no more.
//
// It is not for use outside of tests. It forgets its keys when it ends, detects
// no replays, checks neither addresses nor the checksum over a request, and has
// every timestamp within a day pass.
package kdc
