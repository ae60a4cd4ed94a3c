// Package dclocator finds a writable domain controller of a domain: the DC
// Locator of [MS-ADTS] 6.3.6, as a client of [MS-BKRP] needs it (3.2.4).
//
// DNS names the candidates by SRV records, those of the client's site first,
// and an LDAP ping over UDP (CLDAP, [MS-ADTS] 6.3.3) tells which of them
// answers, for which domain, and whether it is writable. Pings go out a little
// apart, so that a dead candidate costs no more than that, and the first good
// answer wins.
//
// Neither DNS nor CLDAP is authenticated: what comes out of here says where to
// go, and not whom to trust. Replies are read as hostile; those that are not to
// the question, from another address, of another domain or by another name are
// not used.
//
// Not here: NetBIOS and mailslot pings, global catalogs, and domain controllers
// of any other kind than writable.
package dclocator
