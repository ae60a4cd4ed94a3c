package lsarpc

import (
	"context"
	"errors"
	"strings"

	"github.com/seed05845750/bkrp/internal/dcerpc"
	"github.com/seed05845750/bkrp/internal/ndr"
)

// openSecret is LsarOpenSecret ([MS-LSAD] 3.1.4.6.2, opnum 28).
func (s *server) openSecret(ctx context.Context, c *call) error {
	id := readHandle(&c.in)
	name := readUnicodeString(&c.in).text(&c.in)
	c.in.U32() // DesiredAccess
	if err := c.parsed(); err != nil {
		return err
	}
	o, err := c.handles.find(id)
	if err != nil {
		return err
	}
	if o != policy {
		return c.refuseHandle(statusInvalidHandle)
	}
	value, st := s.readSecret(ctx, c, name)
	clear(value)
	if st != statusSuccess {
		return c.refuseHandle(st)
	}
	return c.writeHandle(object{secret: name})
}

// readSecret is the one way to a secret's value: it checks the name and the
// caller, tells the audit, without which there is no answer, and gives the
// value in memory to be cleared. Who is no administrator does not learn what
// there is.
func (s *server) readSecret(ctx context.Context, c *call, name string) ([]byte, status) {
	e := SecretEvent{
		Caller: c.Identity, Operation: secretOperations[c.Opnum], Remote: c.Transport.Remote,
		Name: forAudit(name), Reason: s.whyNot(c),
	}
	e.Granted = e.Reason == ""
	value, st := s.secretFor(ctx, e.Granted, name)
	e.Found = st == statusSuccess
	if s.Audit != nil && s.Audit(ctx, e) != nil {
		clear(value)
		return nil, statusInternalError
	}
	return value, st
}

// whyNot tells why the call may have no secrets at all; "" if it may.
func (s *server) whyNot(c *call) string {
	switch {
	case !s.isAdministrator(c.Identity):
		return "the caller is no LSA administrator"
	case s.RequireEncryption && !c.Transport.Encrypted && c.AuthLevel != dcerpc.LevelPrivacy:
		return "neither SMB nor RPC encrypts, as the configuration demands"
	}
	return ""
}

// secretOperations are the methods that give secrets.
var secretOperations = map[uint16]string{
	opOpenSecret:          "LsarOpenSecret",
	opQuerySecret:         "LsarQuerySecret",
	opRetrievePrivateData: "LsarRetrievePrivateData",
}

// forAudit is a name that any caller may have written as long as the request,
// at the length of the longest that there can be.
func forAudit(name string) string {
	n := 0
	for i := range name {
		if n++; n > maxSecretName {
			return name[:i]
		}
	}
	return name
}

func (s *server) secretFor(ctx context.Context, granted bool, name string) ([]byte, status) {
	switch {
	case !granted:
		return nil, statusAccessDenied
	case !validSecretName(name):
		return nil, statusInvalidParameter
	case s.Secret == nil || !hasSecretPrefix(name):
		return nil, statusNameNotFound
	}
	value, err := s.Secret(ctx, name)
	if errors.Is(err, ErrNoSecret) {
		return nil, statusNameNotFound
	}
	if err != nil {
		s.Log.ErrorContext(ctx, "reading an LSA secret", "name", name, "error", err)
		return nil, statusInternalError
	}
	return value, statusSuccess
}

// secretPrefix is what the names of all secrets begin with that are served:
// the keys of the BackupKey protocol, which are global secrets (L-13).
const secretPrefix = "G$BCKUPKEY_"

// hasSecretPrefix takes the prefix in any case.
func hasSecretPrefix(name string) bool {
	return len(name) >= len(secretPrefix) && strings.EqualFold(name[:len(secretPrefix)], secretPrefix)
}

// maxSecretName is the length of the longest name, in code units: less than
// 0x101 octets.
const maxSecretName = 128

// validSecretName is the rule of [MS-LSAD] 3.1.1.4: 1 to 128 code units, of
// which none is a backslash.
func validSecretName(name string) bool {
	n := ndr.UTF16Len(name)
	return n > 0 && n <= maxSecretName && !strings.Contains(name, `\`)
}
