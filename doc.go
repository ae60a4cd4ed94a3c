// Package bkrp has the structures of the BackupKey Remote Protocol, [MS-BKRP]
// 2.2, and the cryptography that fills and opens them. It does no I/O: the
// protocol's two ends are bkrpclient and bkrpserver.
//
// A secret is wrapped in one of two ways. ClientWrap needs only the domain's
// public key, which a Certificate carries: WrapClient makes the blob,
// ClientWrapped.Open opens it with the KeyPair. ServerWrap needs the domain's
// symmetric key at both ends of its life: WrapServer and ServerWrapped.Open,
// with a ServerKey. Either way the blob names the SID of the one caller it may
// be opened for; comparing that SID is left to whoever knows the caller.
//
// The two keys enter Open as functions, so that a key which never leaves a
// hardware module works as well as one in memory.
//
// Every parser takes hostile input: it returns a whole value or an error, in
// time and memory proportional to the input. What it returns refers to the
// input unless it says otherwise. Types that hold secrets print as
// "[REDACTED]" and have Clear.
package bkrp
