package lsarpc

import "context"

// getUserName is LsarGetUserName ([MS-LSAT] 3.1.4.2, opnum 45): the caller's
// name and, if asked for, his domain's.
func (s *server) getUserName(_ context.Context, c *call) error {
	if c.in.Referent() { // SystemName
		_ = c.in.String()
	}
	c.readName() // UserName, of no meaning on the way in
	domainWanted := c.in.Referent()
	if domainWanted {
		c.readName()
	}
	if err := c.parsed(); err != nil {
		return err
	}
	domain := c.Identity.Domain
	if domain == "" {
		domain = s.Domain.NetBIOS
	}
	c.writeName(c.Identity.Name)
	c.out.Referent(domainWanted)
	if domainWanted {
		c.writeName(domain)
	}
	statusSuccess.write(&c.out)
	return nil
}

// readName reads a unique pointer to an RPC_UNICODE_STRING.
func (c *call) readName() {
	if c.in.Referent() {
		readUnicodeString(&c.in).text(&c.in)
	}
}

func (c *call) writeName(name string) {
	c.out.Referent(true)
	writeUnicodeString(&c.out, name)
	writeText(&c.out, name)
}
