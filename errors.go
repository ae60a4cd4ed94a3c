package bkrp

import "errors"

// What goes wrong with a blob. Whoever answers a caller maps ErrFormat and
// ErrServerPayloadLength to StatusInvalidParameter, ErrClientSecret to
// StatusInvalidData and ErrServerMAC to StatusInvalidAccess.
var (
	// ErrFormat is what every error about the outer form of a structure
	// wraps: what can be seen without any key.
	ErrFormat = errors.New("bkrp: structure is malformed")
	// ErrClientSecret is the one answer to everything that can be wrong with
	// a ClientWrap blob once its key is found: RSA padding, EncryptedSecret,
	// AccessCheck, hash. It never says which.
	ErrClientSecret = errors.New("bkrp: Client-Side-Wrapped Secret does not open")
	// ErrServerMAC is a ServerWrap blob whose MAC is not the key's.
	ErrServerMAC = errors.New("bkrp: MAC of the ServerWrap secret is wrong")
	// ErrServerPayloadLength is a ServerWrap blob whose MAC is right and whose
	// Payload_Length, which the MAC does not cover, is wrong.
	ErrServerPayloadLength = errors.New("bkrp: Payload_Length of the ServerWrap secret is wrong")
	// ErrCrossoverMAC is an UnwrappedSecret (2.2.6) whose MAC is not that of
	// the nonce it is opened with.
	ErrCrossoverMAC = errors.New("bkrp: MAC of the UnwrappedSecret is wrong")
)

// What goes wrong with keys and with what is to be wrapped.
var (
	// ErrKeyFormat is what every error about a malformed KeyPair, ServerKey
	// or PVK file wraps.
	ErrKeyFormat = errors.New("bkrp: key is malformed")
	// ErrCertificate is what every error about a malformed or unusable
	// Certificate wraps.
	ErrCertificate = errors.New("bkrp: certificate is malformed")
	// ErrCiphertext is an RSA ciphertext that is not as long as the modulus or
	// not below it, which anybody who knows the public key can see.
	ErrCiphertext = errors.New("bkrp: RSA ciphertext is out of range")
	// ErrSecretTooLong is a secret that does not fit into one RSA message, or
	// into the 32-bit lengths of a ServerWrap blob.
	ErrSecretTooLong = errors.New("bkrp: secret is too long")
	// ErrEmptySecret is a secret of no octets, which is not wrapped.
	ErrEmptySecret = errors.New("bkrp: secret is empty")
	// ErrVersion is a version of ClientWrap other than 2 and 3.
	ErrVersion = errors.New("bkrp: version of ClientWrap is neither 2 nor 3")
)
