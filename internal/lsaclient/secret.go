package lsaclient

import (
	"context"
	"errors"

	"github.com/seed05845750/bkrp/internal/lsasecret"
	"github.com/seed05845750/bkrp/internal/ndr"
)

// Access to a secret ([MS-LSAD] 2.2.1.1.4).
const (
	SecretSetValue   = 0x00000001
	SecretQueryValue = 0x00000002
)

// ErrNoValue is a secret that exists and has no value: on a read-only domain
// controller, or one whose creation was cut short.
var ErrNoValue = errors.New("lsaclient: the secret exists and has no value here")

// [MS-LSAD] 3.1.4.6.1 LsarCreateSecret: a secret without a value yet. The error
// is StatusNameCollision where there is one of that name.
func (c *Client) CreateSecret(ctx context.Context, policy Handle, name string, access uint32) (Handle, error) {
	return c.secretHandle(ctx, "LsarCreateSecret", opCreateSecret, policy, name, access)
}

// [MS-LSAD] 3.1.4.6.2 LsarOpenSecret. The error is StatusNameNotFound where
// there is none of that name.
func (c *Client) OpenSecret(ctx context.Context, policy Handle, name string, access uint32) (Handle, error) {
	return c.secretHandle(ctx, "LsarOpenSecret", opOpenSecret, policy, name, access)
}

func (c *Client) secretHandle(ctx context.Context, method string, opnum uint16, policy Handle, name string, access uint32) (h Handle, err error) {
	m := c.method(method, opnum)
	m.in.Octets(policy[:])
	writeUnicodeString(&m.in, name)
	m.in.U32(access)
	err = c.call(ctx, m, func(r *ndr.Reader) { h = readHandle(r) })
	return h, err
}

// [MS-LSAD] 3.1.4.6.3 LsarSetSecret: the current value. What it was before
// becomes the old one.
func (c *Client) SetSecret(ctx context.Context, secret Handle, value []byte) error {
	sealed, err := lsasecret.Seal(c.sessionKey, value)
	if err != nil {
		return err
	}
	defer clear(sealed)
	m := c.method("LsarSetSecret", opSetSecret)
	defer m.clear()
	m.in.Octets(secret[:])
	writeCipherValue(&m.in, sealed)
	writeCipherValue(&m.in, nil) // EncryptedOldValue
	return c.call(ctx, m, func(*ndr.Reader) {})
}

// [MS-LSAD] 3.1.4.6.4 LsarQuerySecret: the current value, in memory to be
// cleared. The error is ErrNoValue where there is none.
func (c *Client) QuerySecret(ctx context.Context, secret Handle) ([]byte, error) {
	m := c.method("LsarQuerySecret", opQuerySecret)
	w := &m.in
	w.Octets(secret[:])
	w.Referent(true)  // EncryptedCurrentValue: asked for,
	w.Referent(false) // and not given
	for range 3 {     // neither its time, nor the old value and its time
		w.Referent(false)
	}
	return c.value(ctx, m, func(r *ndr.Reader) (sealed []byte) {
		if r.Referent() {
			sealed = readCipherValue(r)
		}
		for range 3 {
			if r.Referent() {
				r.Fail("a result that was not asked for")
			}
		}
		return sealed
	})
}

// [MS-LSAD] 3.1.4.6.5 LsarStorePrivateData: sets a secret by its name, and
// creates it if need be. Samba has no such method.
func (c *Client) StorePrivateData(ctx context.Context, policy Handle, name string, value []byte) error {
	sealed, err := lsasecret.Seal(c.sessionKey, value)
	if err != nil {
		return err
	}
	defer clear(sealed)
	m := c.method("LsarStorePrivateData", opStorePrivateData)
	defer m.clear()
	m.in.Octets(policy[:])
	writeUnicodeString(&m.in, name)
	writeCipherValue(&m.in, sealed)
	return c.call(ctx, m, func(*ndr.Reader) {})
}

// [MS-LSAD] 3.1.4.6.6 LsarRetrievePrivateData: a secret's value by its name, in
// memory to be cleared. Samba has no such method. The errors are those
// of OpenSecret and QuerySecret.
func (c *Client) RetrievePrivateData(ctx context.Context, policy Handle, name string) ([]byte, error) {
	m := c.method("LsarRetrievePrivateData", opRetrievePrivateData)
	m.in.Octets(policy[:])
	writeUnicodeString(&m.in, name)
	m.in.Align(4)
	writeCipherValue(&m.in, nil)
	return c.value(ctx, m, readCipherValue)
}

// value makes a call that results in an encrypted value, nil if there is none.
func (c *Client) value(ctx context.Context, m *method, read func(*ndr.Reader) []byte) (value []byte, err error) {
	var openErr error
	err = c.call(ctx, m, func(r *ndr.Reader) {
		sealed := read(r)
		if len(sealed) == 0 || r.Err() != nil {
			openErr = ErrNoValue
			return
		}
		// Not later: call clears the response.
		value, openErr = lsasecret.Open(c.sessionKey, sealed)
	})
	if err == nil {
		err = openErr
	}
	if err == nil && len(value) == 0 {
		err = ErrNoValue
	}
	if err != nil {
		clear(value)
		return nil, err
	}
	return value, nil
}

func (m *method) clear() { clear(m.in.Buffer()) }

// writeCipherValue writes a unique pointer to an LSAPR_CR_CIPHER_VALUE
// ([MS-LSAD] 2.2.6.1), NULL for nil.
func writeCipherValue(w *ndr.Writer, sealed []byte) {
	w.Align(4)
	w.Referent(sealed != nil)
	if sealed == nil {
		return
	}
	w.U32(uint32(len(sealed)))
	w.U32(uint32(len(sealed)))
	w.Referent(true)
	w.ConformantVarying(len(sealed), len(sealed))
	w.Octets(sealed)
}

// readCipherValue reads what writeCipherValue writes, as a part of the stub.
func readCipherValue(r *ndr.Reader) []byte {
	r.Align(4)
	if !r.Referent() {
		return nil
	}
	length, maximum := r.U32(), r.U32()
	if !r.Referent() {
		r.CheckCount("Length", uint64(length), 0)
		return nil
	}
	allocated, n := r.ConformantVarying(1)
	sealed := r.Octets(n)
	r.CheckCount("Length", uint64(length), n)
	if r.Err() == nil && allocated != uint64(maximum) {
		r.Fail("MaximumLength is %d for an array of %d", maximum, allocated)
	}
	if r.Err() != nil {
		return nil
	}
	return sealed
}
