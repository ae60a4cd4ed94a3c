package kdc

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/oiweiwei/gokrb5.fork/v9/crypto"
	"github.com/oiweiwei/gokrb5.fork/v9/types"

	"github.com/seed05845750/bkrp/dtyp"
)

// Encryption types (RFC 3962), in the order of preference.
const (
	aes256 = 18
	aes128 = 17
)

// Versions of keys, which never change here.
const kvno = 1

// User is somebody who may have tickets.
type User struct {
	// Name is the principal's, without its realm.
	Name string
	// SID is who the PAC says the user is: a child of the domain's SID.
	SID dtyp.SID
	// Password is the password.
	Password string
	// Disabled users get no tickets.
	Disabled bool
}

// Config says whose KDC it is.
type Config struct {
	// Realm is the realm, upper case, and NetBIOSName the domain's short name.
	Realm, NetBIOSName string
	// Hosts are the names of the server; it has the services of the classes
	// cifs and host on each, under one key.
	Hosts []string
	// Controllers are those of the hosts that are domain controllers, which alone
	// have the service ldap of the domain.
	Controllers []string
	// User finds a user by name, in whatever case.
	User func(name string) (User, bool)
}

// KDC makes tickets. It is safe for concurrent use.
type KDC struct {
	cfg Config
	// realm is the key of the ticket-granting service, and services that of all
	// others.
	realm, services types.EncryptionKey
}

// New makes a KDC with keys of its own; it does not listen yet.
func New(cfg Config) *KDC {
	return &KDC{cfg: cfg, realm: newKey(aes256), services: newKey(aes256)}
}

// newKey draws a key.
func newKey(etype int32) types.EncryptionKey {
	size := 32
	if etype == aes128 {
		size = 16
	}
	key := types.EncryptionKey{KeyType: etype, KeyValue: make([]byte, size)}
	rand.Read(key.KeyValue)
	return key
}

// Codes of RFC 4120 7.5.9.
const (
	codeClientUnknown   = 6
	codeServiceUnknown  = 7
	codeNoEncType       = 14
	codeClientRevoked   = 18
	codePreauthFailed   = 24
	codePreauthRequired = 25
	codeModified        = 31
	codeTicketExpired   = 32
	codeBadMatch        = 36
	codeSkew            = 37
	codeGeneric         = 60
)

// refusal is an answer other than a ticket.
type refusal struct {
	code int32
	data []byte // e-data
}

func (r *refusal) Error() string { return fmt.Sprintf("kdc: refused with code %d", r.code) }

func refuse(code int32) error { return &refusal{code: code} }

// errMessage is a request that cannot be read.
var errMessage = errors.New("kdc: malformed request")

// user finds who a request is about.
func (k *KDC) user(name types.PrincipalName) (User, error) {
	if len(name.NameString) != 1 {
		return User{}, refuse(codeClientUnknown)
	}
	u, ok := k.cfg.User(name.NameString[0])
	switch {
	case !ok:
		return User{}, refuse(codeClientUnknown)
	case u.Disabled:
		return User{}, refuse(codeClientRevoked)
	}
	return u, nil
}

// serviceKey is the key of a service of the realm.
func (k *KDC) serviceKey(name types.PrincipalName) (types.EncryptionKey, error) {
	if len(name.NameString) == 2 {
		class, host := name.NameString[0], name.NameString[1]
		if class == "krbtgt" && host == k.cfg.Realm {
			return k.realm, nil
		}
		if (class == "cifs" || class == "host") && has(k.cfg.Hosts, host) {
			return k.services, nil
		}
	}
	// [MS-ADTS] 5.1.1.4: what is of three parts only a domain controller has.
	if n := name.NameString; len(n) == 3 && n[0] == "ldap" && has(k.cfg.Controllers, n[1]) && strings.EqualFold(n[2], k.cfg.Realm) {
		return k.services, nil
	}
	return types.EncryptionKey{}, refuse(codeServiceUnknown)
}

func has(names []string, name string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, name) })
}

// salt is what goes into the key of a user beside the password (RFC 4120 4).
func (k *KDC) salt(u User) string { return k.cfg.Realm + u.Name }

// userKey is the key that the user's password makes (RFC 3962 4).
func (k *KDC) userKey(u User, etype int32) (types.EncryptionKey, error) {
	e, err := crypto.GetEtype(etype)
	if err != nil {
		return types.EncryptionKey{}, err
	}
	value, err := e.StringToKey(u.Password, k.salt(u), e.GetDefaultStringToKeyParams())
	return types.EncryptionKey{KeyType: etype, KeyValue: value}, err
}

// chooseEType is the best of those that a client offers.
func chooseEType(offered []int32) (int32, error) {
	for _, want := range []int32{aes256, aes128} {
		for _, e := range offered {
			if e == want {
				return e, nil
			}
		}
	}
	return 0, refuse(codeNoEncType)
}

// Lifetimes of tickets, and the skew of clocks that passes: tests may run on
// machines whose clocks jump.
const (
	ticketLife = 10 * time.Hour
	maxSkew    = 24 * time.Hour
)

// now is the time to the second, as Kerberos has it.
func now() time.Time { return time.Now().UTC().Truncate(time.Second) }
