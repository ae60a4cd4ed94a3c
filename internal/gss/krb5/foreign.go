package krb5

import (
	"fmt"
	"slices"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/gss"
)

var errForeignSID = fmt.Errorf("krb5: the PAC of another realm's client names a user of this domain, or of none: %w", gss.ErrRefused)

// filterForeign holds what the PAC says of another realm's client against the
// domain's own SID. Our KDC filters the SIDs that come in over a trust
// ([MS-PAC] 4.1.2.2), but not every KDC does, and then the other realm could
// make anybody here of its users: nobody in this domain, and no member of its
// groups or of those that every domain has, logs on from another realm.
func (l *logon) filterForeign(id gss.Identity) (gss.Identity, error) {
	if l.DomainSID.IsZero() || !l.foreign() {
		return id, nil
	}
	if l.ownSID(id.SID) {
		return gss.Identity{}, fmt.Errorf("%w: %v, of the realm %s and not %s", errForeignSID, id.SID, l.part.realm, l.opener.realm)
	}
	id.Groups = slices.DeleteFunc(id.Groups, l.ownSID)
	return id, nil
}

// foreign tells whether the client is of another realm than the service, by the
// keytab's word for that: what the ticket says outside of its seal is as
// whoever sent it likes.
func (l *logon) foreign() bool { return l.part.realm != l.opener.realm }

// ownSID reports whether only our own KDC may speak of the SID: all but those of
// other domains (S-1-5-21, [MS-DTYP] 2.4.2.4). What is well-known means the same
// everywhere, and so something here.
func (l *logon) ownSID(sid dtyp.SID) bool {
	domain, _, ok := sid.Cut()
	if !ok || domain == l.DomainSID {
		return true
	}
	const ntAuthority, nonUnique = 5, 21
	return sid.Authority() != ntAuthority || sid.SubAuthorities()[0] != nonUnique
}
