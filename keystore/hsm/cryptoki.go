//go:build pkcs11 && cgo

package hsm

import (
	"crypto"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"

	"github.com/miekg/pkcs11"
)

// cryptoki is a library by cgo.
type cryptoki struct{ ctx *pkcs11.Ctx }

func loadLibrary(path string) (library, error) {
	ctx := pkcs11.New(path)
	if ctx == nil {
		return nil, fmt.Errorf("%w: %s cannot be loaded as a PKCS#11 library", ErrUnavailable, path)
	}
	return &cryptoki{ctx}, nil
}

func (c *cryptoki) initialize() error {
	err := c.ctx.Initialize()
	if errors.Is(err, pkcs11.Error(pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED)) {
		return nil
	}
	return err
}

func (c *cryptoki) finalize() error { return c.ctx.Finalize() }

func (c *cryptoki) slot(u URI) (uint, error) {
	slots, err := c.ctx.GetSlotList(true)
	if err != nil {
		return 0, fmt.Errorf("listing the slots: %w", err)
	}
	var found []uint
	for _, slot := range slots {
		if u.Slot != nil && *u.Slot != slot {
			continue
		}
		info, err := c.ctx.GetTokenInfo(slot)
		if err != nil || u.Token != "" && u.Token != info.Label || u.Serial != "" && u.Serial != info.SerialNumber {
			continue
		}
		found = append(found, slot)
	}
	if len(found) != 1 {
		return 0, fmt.Errorf("%d tokens are %s", len(found), URI{Token: u.Token, Serial: u.Serial, Slot: u.Slot}.Name())
	}
	return found[0], nil
}

func (c *cryptoki) open(slot uint) (uint, error) {
	// Read-write, for generate; a token with read-only sessions only could not
	// log its user in while there is one of the other kind.
	s, err := c.ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	return uint(s), err
}

func (c *cryptoki) login(session uint, pin string) error {
	err := c.ctx.Login(pkcs11.SessionHandle(session), pkcs11.CKU_USER, pin)
	var code pkcs11.Error
	if !errors.As(err, &code) {
		return err
	}
	switch code {
	case pkcs11.CKR_USER_ALREADY_LOGGED_IN:
		return nil
	case pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_INVALID, pkcs11.CKR_PIN_LEN_RANGE, pkcs11.CKR_PIN_EXPIRED, pkcs11.CKR_PIN_LOCKED,
		pkcs11.CKR_USER_PIN_NOT_INITIALIZED:
		return fmt.Errorf("%w: the token says %w", ErrPIN, err)
	}
	return err
}

func (c *cryptoki) close(session uint) error {
	return c.ctx.CloseSession(pkcs11.SessionHandle(session))
}

func (c *cryptoki) privateKeys(session uint, label, id string) ([]uint, error) {
	return c.find(session, pkcs11.CKO_PRIVATE_KEY, label, id)
}

// find finds at most two RSA keys of one half.
func (c *cryptoki) find(session uint, class uint, label, id string) ([]uint, error) {
	template := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, class),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_RSA),
	}
	if label != "" {
		template = append(template, pkcs11.NewAttribute(pkcs11.CKA_LABEL, label))
	}
	if id != "" {
		template = append(template, pkcs11.NewAttribute(pkcs11.CKA_ID, []byte(id)))
	}
	s := pkcs11.SessionHandle(session)
	if err := c.ctx.FindObjectsInit(s, template); err != nil {
		return nil, err
	}
	found, _, err := c.ctx.FindObjects(s, 2)
	if err := errors.Join(err, c.ctx.FindObjectsFinal(s)); err != nil {
		return nil, err
	}
	objects := make([]uint, len(found))
	for i, o := range found {
		objects[i] = uint(o)
	}
	return objects, nil
}

// publicKey reads the public numbers. A token need not keep the exponent with
// the private half; the public half has it then.
func (c *cryptoki) publicKey(session, object uint) (*rsa.PublicKey, error) {
	numbers := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_MODULUS, nil), pkcs11.NewAttribute(pkcs11.CKA_PUBLIC_EXPONENT, nil),
	}
	s := pkcs11.SessionHandle(session)
	got, err := c.ctx.GetAttributeValue(s, pkcs11.ObjectHandle(object), numbers)
	if err != nil || len(got) != 2 || len(got[1].Value) == 0 {
		public, findErr := c.publicHalf(session, object)
		if findErr != nil {
			return nil, errors.Join(err, findErr)
		}
		if got, err = c.ctx.GetAttributeValue(s, pkcs11.ObjectHandle(public), numbers); err != nil {
			return nil, err
		}
	}
	if len(got) != 2 {
		return nil, fmt.Errorf("%w: it does not tell its modulus and exponent", ErrKey)
	}
	e := new(big.Int).SetBytes(got[1].Value)
	if e.BitLen() > 31 {
		return nil, fmt.Errorf("%w: public exponent of %d bits", ErrKey, e.BitLen())
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(got[0].Value), E: int(e.Int64())}, nil
}

// publicHalf finds the public key of a private one by its identity.
func (c *cryptoki) publicHalf(session, object uint) (uint, error) {
	id, err := c.ctx.GetAttributeValue(pkcs11.SessionHandle(session), pkcs11.ObjectHandle(object),
		[]*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_ID, nil)})
	if err != nil {
		return 0, err
	}
	if len(id) != 1 || len(id[0].Value) == 0 {
		return 0, fmt.Errorf("%w: it has no identity (CKA_ID)", ErrKey)
	}
	found, err := c.find(session, pkcs11.CKO_PUBLIC_KEY, "", string(id[0].Value))
	if err != nil {
		return 0, err
	}
	if len(found) != 1 {
		return 0, fmt.Errorf("%w: its public half is not in the token", ErrKey)
	}
	return found[0], nil
}

func (c *cryptoki) generate(session uint, label, id string, bits int) (uint, error) {
	named := func(more ...*pkcs11.Attribute) []*pkcs11.Attribute {
		return append([]*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
			pkcs11.NewAttribute(pkcs11.CKA_LABEL, label),
			pkcs11.NewAttribute(pkcs11.CKA_ID, []byte(id)),
		}, more...)
	}
	_, private, err := c.ctx.GenerateKeyPair(pkcs11.SessionHandle(session),
		[]*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN, nil)},
		named(
			pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, true),
			pkcs11.NewAttribute(pkcs11.CKA_VERIFY, false),
			pkcs11.NewAttribute(pkcs11.CKA_WRAP, false),
			pkcs11.NewAttribute(pkcs11.CKA_MODULUS_BITS, bits),
			pkcs11.NewAttribute(pkcs11.CKA_PUBLIC_EXPONENT, []byte{1, 0, 1}),
		),
		named(
			pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
			pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true),
			pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false),
			pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, true),
			pkcs11.NewAttribute(pkcs11.CKA_SIGN, false),
			pkcs11.NewAttribute(pkcs11.CKA_UNWRAP, false),
		))
	return uint(private), err
}

func (c *cryptoki) extractable(session, object uint) (bool, error) {
	got, err := c.ctx.GetAttributeValue(pkcs11.SessionHandle(session), pkcs11.ObjectHandle(object), []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, nil), pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, nil),
	})
	if err != nil {
		return false, err
	}
	no := func(a *pkcs11.Attribute) bool { return len(a.Value) == 1 && a.Value[0] == 0 }
	return len(got) != 2 || !no(got[0]) || no(got[1]), nil
}

func (c *cryptoki) decryptRaw(session, object uint, ciphertext []byte) ([]byte, error) {
	return c.decrypt(session, object, pkcs11.NewMechanism(pkcs11.CKM_RSA_X_509, nil), ciphertext)
}

func (c *cryptoki) decryptOAEP(session, object uint, hash crypto.Hash, ciphertext []byte) ([]byte, error) {
	var parameters *pkcs11.OAEPParams
	switch hash {
	case crypto.SHA1:
		parameters = pkcs11.NewOAEPParams(pkcs11.CKM_SHA_1, pkcs11.CKG_MGF1_SHA1, pkcs11.CKZ_DATA_SPECIFIED, nil)
	case crypto.SHA256:
		parameters = pkcs11.NewOAEPParams(pkcs11.CKM_SHA256, pkcs11.CKG_MGF1_SHA256, pkcs11.CKZ_DATA_SPECIFIED, nil)
	default:
		return nil, fmt.Errorf("%w: OAEP with %v", ErrKey, hash)
	}
	return c.decrypt(session, object, pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS_OAEP, parameters), ciphertext)
}

func (c *cryptoki) decrypt(session, object uint, mechanism *pkcs11.Mechanism, ciphertext []byte) ([]byte, error) {
	s := pkcs11.SessionHandle(session)
	err := c.ctx.DecryptInit(s, []*pkcs11.Mechanism{mechanism}, pkcs11.ObjectHandle(object))
	if err != nil {
		return nil, unfit(err)
	}
	plaintext, err := c.ctx.Decrypt(s, ciphertext)
	return plaintext, unfit(err)
}

// unfit tells errors about the key, the mechanism or the ciphertext, which will
// be the same in another session, from those about the token.
func unfit(err error) error {
	var code pkcs11.Error
	if !errors.As(err, &code) {
		return err
	}
	switch code {
	case pkcs11.CKR_ARGUMENTS_BAD, pkcs11.CKR_MECHANISM_INVALID, pkcs11.CKR_MECHANISM_PARAM_INVALID,
		pkcs11.CKR_ENCRYPTED_DATA_INVALID, pkcs11.CKR_ENCRYPTED_DATA_LEN_RANGE,
		pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED, pkcs11.CKR_KEY_TYPE_INCONSISTENT, pkcs11.CKR_KEY_SIZE_RANGE:
		return fmt.Errorf("%w: the token says %w", ErrKey, err)
	}
	return err
}
