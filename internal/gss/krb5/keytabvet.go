package krb5

import (
	"fmt"
	"io/fs"
	"runtime"
	"slices"
	"strings"
)

// checkKeytabMode refuses a keytab that others may read: its keys make tickets
// for anybody to this server. To a group it may be readable, as it has to be
// where root owns it and the server runs as another user; open says so.
func checkKeytabMode(path string, mode fs.FileMode) (open bool, err error) {
	perm := mode.Perm()
	switch {
	case !mode.IsRegular():
		return false, fmt.Errorf("%w: not a regular file", errKeytab)
	case runtime.GOOS == "windows": // where the mode says nothing
		return false, nil
	case perm&0o037 != 0:
		return false, fmt.Errorf("%w: it has mode %#o and others may use it; chmod 600 %s", errKeytab, perm, path)
	}
	return perm&0o040 != 0, nil
}

// vet gives the entries that are for a service. It leaves out those of users,
// whose names it gives: with a key from his own password, a user could make a
// ticket for a service of his own name and be whoever he likes in it. An
// account that a service runs under has the service's key and is none of them.
// It is an error if the keytab has a key of the realm's own, since whoever
// reads that is master of the realm.
func (k keytab) vet() (services keytab, users []string, err error) {
	for i := range k {
		e := &k[i]
		if e.isRealms() {
			return nil, nil, fmt.Errorf("%w: it has the key of %s, which makes tickets for anybody to anything; export the server's own principals only",
				errKeytab, e.name())
		}
		if e.isService() {
			services = append(services, *e)
		}
	}
	accounts := services.accounts(k)
	for i := range k {
		e := &k[i]
		switch {
		case e.isService():
		case accounts[e.name()]:
			services = append(services, *e)
		case !slices.Contains(users, e.name()):
			users = append(users, e.name())
		}
	}
	return services, users, nil
}

// accounts are the names among all entries that have a key of one of the
// services.
func (services keytab) accounts(all keytab) map[string]bool {
	names := make(map[string]bool)
	for i := range all {
		if slices.ContainsFunc(services, func(s keytabEntry) bool { return s.key.equal(all[i].key) }) {
			names[all[i].name()] = true
		}
	}
	return names
}

func (e *keytabEntry) name() string { return e.service.String() + "@" + e.realm }

// isRealms tells whether the key is that of the ticket-granting service, or of
// another realm's, or the database's.
func (e *keytabEntry) isRealms() bool {
	return strings.EqualFold(e.service.parts[0], "krbtgt") || slices.Equal(e.service.parts, []string{"K", "M"})
}

// isService tells a service or a machine from a user, by the name.
func (e *keytabEntry) isService() bool {
	return len(e.service.parts) > 1 || strings.HasSuffix(e.service.parts[0], "$")
}
