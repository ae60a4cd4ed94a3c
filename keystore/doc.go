// Package keystore keeps the state of a BackupKey server: the ServerWrap and
// ClientWrap keys with their two current identifiers ([MS-BKRP] 3.1.1), under
// the names and in the formats that the LSA secrets of a domain have
// (3.1.4.1.1, 3.1.4.1.3), and the accounts of a server that stands alone.
//
// A [Store] stands on two seams. A [Backend] keeps named octets behind
// compare-and-swap: [NewMemory] for tests, package boltstore for one machine,
// package etcdstore for several servers. A [Sealer] holds the key-encryption key:
// [KeyFile], [Passphrase] or [TokenSealer]. The Sealer seals the data keys, which
// seal every value with XChaCha20-Poly1305; the store's identity and the value's
// name are bound as associated data, so that a value does not open under another
// name or in another store. [Store.BeginRekey] replaces the key-encryption key.
//
// A key has a state ([KeyState]), is replaced by a rotation in phases
// ([Store.BeginRotation]) that waits for every server ([Replica]), and its use is
// counted ([Usage]). [Store.Dump] and [Restore] are a backup and the way back.
//
// [OpenDomain] is the other kind of Store, over secrets that a domain keeps by
// itself: no Sealer, no accounts, the same rules for keys.
//
// Keys leave the package as operations ([ClientWrapKey], [ServerWrapKey]).
// The store creates a key only where the current one is definitely absent or
// malformed, writes the key before the pointer to it, answers after both are
// durable, and never deletes or replaces a key.
//
// Not here: authorisation (package bkrpserver decides who may use a key), and
// protection from somebody who can write to the backend behind the Store's back
// and puts older entries in place of the present ones, or removes some: what is
// there is as it was once written, and whether it is the latest is not known.
package keystore
