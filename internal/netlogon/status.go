package netlogon

import (
	"errors"
	"fmt"

	"github.com/seed05845750/bkrp/internal/gss"
)

// Status is an NTSTATUS that is no success ([MS-ERREF] 2.3).
type Status uint32

// The codes that are told apart.
const (
	statusAccessDenied        Status = 0xC0000022
	statusNoSuchUser          Status = 0xC0000064
	statusWrongPassword       Status = 0xC000006A
	statusLogonFailure        Status = 0xC000006D
	statusNoTrustSAMAccount   Status = 0xC000018B
	statusDowngradeDetected   Status = 0xC0000388
	statusTimeDifference      Status = 0xC0000133
	statusNoTrustLSASecret    Status = 0xC000018A
	statusTrustedRelationship Status = 0xC000018D
)

// refusals are the codes of accounts that proved themselves, or might have, and
// are not let in.
var refusals = map[Status]string{
	0xC000006E: "the account has a restriction",
	0xC000006F: "not in the account's logon hours",
	0xC0000070: "not from this workstation",
	0xC0000071: "the password has expired",
	0xC0000072: "the account is disabled",
	0xC000015B: "the account may not log on over the network",
	0xC0000193: "the account has expired",
	0xC0000198: "it is the account of a trust",
	0xC0000199: "it is the account of a computer",
	0xC000019A: "it is the account of a domain controller",
	0xC0000224: "the password has to be changed first",
	0xC0000234: "the account is locked out",
	0xC0000413: "the account may not log on to this server",
}

// Error gives the code, and what it means where that is known.
func (s Status) Error() string {
	what := refusals[s]
	switch s {
	case statusAccessDenied:
		what = "access denied"
	case statusNoSuchUser, statusWrongPassword, statusLogonFailure:
		what = "wrong name or password"
	case statusNoTrustSAMAccount:
		what = "no such machine account"
	case statusDowngradeDetected:
		what = "older cryptography than asked for"
	}
	if what != "" {
		return fmt.Sprintf("netlogon: the domain controller answered NTSTATUS 0x%08X (%s)", uint32(s), what)
	}
	return fmt.Sprintf("netlogon: the domain controller answered NTSTATUS 0x%08X", uint32(s))
}

// Unwrap makes the codes of a logon what a source of accounts says.
func (s Status) Unwrap() error {
	switch s {
	case statusNoSuchUser, statusWrongPassword, statusLogonFailure:
		return gss.ErrLogon
	}
	if _, ok := refusals[s]; ok {
		return gss.ErrRefused
	}
	return nil
}

// endsChannel reports whether the code is about the secure channel rather than
// about a logon.
func (s Status) endsChannel() bool {
	switch s {
	case statusAccessDenied, statusNoTrustSAMAccount, statusNoTrustLSASecret, statusTrustedRelationship, statusTimeDifference:
		return true
	}
	return false
}

// advice is what an operator can do about a secure channel that cannot be made.
func advice(err error) string {
	var s Status
	switch {
	case errors.As(err, &s) && s == statusNoTrustSAMAccount:
		return "the domain has no such machine account: check netlogon.account, or make the account"
	case errors.As(err, &s) && s == statusAccessDenied:
		return "the machine account's password is wrong, or the account is disabled or none of a computer: " +
			"put the password that the domain has into netlogon.password_file"
	case errors.Is(err, errImpostor):
		return "check that netlogon.server is a domain controller of this domain, and netlogon.password_file"
	case errors.Is(err, errPassword):
		return "see to netlogon.password_file"
	case errors.As(err, &s), errors.Is(err, ErrResponse):
		return "check that netlogon.server is a domain controller of this domain"
	}
	return "check that netlogon.server is a domain controller, that it runs, and that its RPC ports can be reached"
}
