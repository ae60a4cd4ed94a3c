package smbclient

import (
	"context"
	"encoding/asn1"
	"errors"
	"fmt"
	"strings"

	"github.com/cloudsoda/go-smb2"

	"github.com/seed05845750/bkrp/internal/gss"
)

// The codes of [MS-ERREF] 2.3 by which a server refuses a logon.
var logonStatus = []uint32{
	0xC0000022, // STATUS_ACCESS_DENIED
	0xC000006D, // STATUS_LOGON_FAILURE
	0xC000006E, // STATUS_ACCOUNT_RESTRICTION
	0xC0000064, // STATUS_NO_SUCH_USER
	0xC000006A, // STATUS_WRONG_PASSWORD
	0xC0000071, // STATUS_PASSWORD_EXPIRED
	0xC0000072, // STATUS_ACCOUNT_DISABLED
	0xC0000193, // STATUS_ACCOUNT_EXPIRED
	0xC0000234, // STATUS_ACCOUNT_LOCKED_OUT
}

// logonError marks a refused logon as ErrLogon and leaves other errors alone.
func logonError(err error) error {
	var coded *smb2.ResponseError
	var first *smb2.InvalidResponseError
	for _, s := range logonStatus {
		refused := &smb2.ResponseError{Code: s}
		switch {
		case errors.As(err, &coded) && coded.Code == s:
			return fmt.Errorf("%w (%w)", ErrLogon, err)
		case errors.As(err, &first) && strings.HasSuffix(first.Message, ", got "+strings.TrimPrefix(refused.Error(), "response error: ")):
			// Of the answer to the first token, where Kerberos is refused, the
			// library keeps the code only as text.
			return fmt.Errorf("%w (%w)", ErrLogon, refused)
		}
	}
	return err
}

// logon lets the SMB library log on by one of our mechanisms; the library wraps
// the mechanism's tokens in SPNEGO itself.
type logon struct {
	ctx      context.Context
	oid      asn1.ObjectIdentifier
	exchange gss.Exchange
	context  gss.Context
	err      error
}

func (l *logon) OID() asn1.ObjectIdentifier { return l.oid }

func (l *logon) InitSecContext() ([]byte, error) { return l.step(nil) }

func (l *logon) AcceptSecContext(token []byte) ([]byte, error) { return l.step(token) }

func (l *logon) step(token []byte) ([]byte, error) {
	out, sc, err := l.exchange.Step(l.ctx, token)
	if err != nil {
		l.err = err
		return nil, err
	}
	if sc != nil {
		l.context = sc
	}
	return out, nil
}

// Sum signs the list of mechanisms; the library asks only once the mechanism
// is through.
func (l *logon) Sum(b []byte) []byte {
	if l.context == nil {
		return nil
	}
	mic, err := l.context.Sign(nil, b)
	if err != nil {
		l.err = err
		return nil
	}
	return mic
}

// smbKeySize is how much of a mechanism's key is the session's ([MS-SMB2]
// 3.2.5.3); the ciphers of the library take no more either.
const smbKeySize = 16

func (l *logon) SessionKey() []byte {
	if l.context == nil {
		return nil
	}
	key := l.context.SessionKey()
	return key[:min(len(key), smbKeySize)]
}
