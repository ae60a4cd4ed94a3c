package hsm

import (
	"crypto"
	"crypto/rsa"
	"errors"
)

var (
	// ErrNotBuilt says that this program cannot call PKCS#11 libraries.
	ErrNotBuilt = errors.New("hsm: this program was built without PKCS#11; build it with cgo and a tag: CGO_ENABLED=1 go build -tags pkcs11 ./cmd/bkrpd")
	// ErrUnavailable says that the token is not there, or does not do its work.
	// It may be there later.
	ErrUnavailable = errors.New("hsm: token is not available")
	// ErrPIN says that the token refuses the PIN, or that its file cannot be used.
	// Since a token locks itself after a few wrong ones, it is not tried again.
	ErrPIN = errors.New("hsm: PIN is not usable")
	// ErrNoKey says that there is no such key in the token.
	ErrNoKey = errors.New("hsm: no such key in the token")
	// ErrKey says that a key in the token is not what it has to be.
	ErrKey = errors.New("hsm: key in the token is not usable")
)

// library is what is called of a PKCS#11 library. Errors about the PIN wrap
// ErrPIN. Any of it may not come back.
type library interface {
	initialize() error
	finalize() error
	// slot finds the token that a URI names.
	slot(u URI) (uint, error)
	open(slot uint) (session uint, err error)
	// login is without an error where the application is logged in already.
	login(session uint, pin string) error
	close(session uint) error
	// privateKeys finds at most two private RSA keys; "" is any label or id.
	privateKeys(session uint, label, id string) (objects []uint, err error)
	publicKey(session, object uint) (*rsa.PublicKey, error)
	// generate makes a key pair whose private half decrypts and stays in the
	// token.
	generate(session uint, label, id string, bits int) (object uint, err error)
	// extractable says whether the private key may leave the token.
	extractable(session, object uint) (bool, error)
	decryptRaw(session, object uint, c []byte) ([]byte, error)
	decryptOAEP(session, object uint, hash crypto.Hash, c []byte) ([]byte, error)
}
