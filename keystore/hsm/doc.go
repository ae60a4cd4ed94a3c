// Package hsm uses RSA keys in hardware modules, by PKCS#11: a key that seals a
// store (keystore.TokenDecrypter), and private keys of the ClientWrap subprotocol
// (keystore.Tokens).
//
// A module is a library in C, which is called by cgo. It is there in a program
// that was built with cgo and the tag pkcs11:
//
//	CGO_ENABLED=1 go build -tags pkcs11 ./cmd/bkrpd
//
// In any other, Open is ErrNotBuilt.
//
// A library cannot be made to come back from a call. Every call has a time
// limit nevertheless: a call that the library does not come back from is left
// behind with its session, of which there are few.
package hsm
