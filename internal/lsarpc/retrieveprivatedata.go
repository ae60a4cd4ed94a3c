package lsarpc

import "context"

// retrievePrivateData is LsarRetrievePrivateData ([MS-LSAD] 3.1.4.6.6, opnum
// 43): a secret's value by its name, without a handle of its own.
func (s *server) retrievePrivateData(ctx context.Context, c *call) error {
	id := readHandle(&c.in)
	name := readUnicodeString(&c.in).text(&c.in)
	skipCipherValue(&c.in)
	if err := c.parsed(); err != nil {
		return err
	}
	o, err := c.handles.find(id)
	if err != nil {
		return err
	}
	sealed, st := []byte(nil), statusInvalidHandle
	if o == policy {
		sealed, st = s.sealedSecret(ctx, c, name)
	}
	writeCipherValue(&c.out, sealed)
	st.write(&c.out)
	return nil
}
