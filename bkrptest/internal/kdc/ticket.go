package kdc

import (
	"time"

	"github.com/jcmturner/gofork/encoding/asn1"
	"github.com/oiweiwei/gokrb5.fork/v9/crypto"
	"github.com/oiweiwei/gokrb5.fork/v9/messages"
	"github.com/oiweiwei/gokrb5.fork/v9/types"
)

// Flags of tickets (RFC 4120 5.3), as bits from the left.
const (
	flagInitial = 9
	flagPreauth = 10
)

// Authorization data (RFC 4120 7.5.4) and the tag of EncTicketPart.
const (
	adIfRelevant     = 1
	adPAC            = 128
	tagEncTicketPart = 3
)

// Ticket is a ticket and what its client has to know.
type Ticket struct {
	ticket               messages.Ticket
	client               types.PrincipalName
	key                  types.EncryptionKey
	flags                asn1.BitString
	authTime, start, end time.Time
}

// order says what ticket is to be made.
type order struct {
	user            User
	client, service types.PrincipalName
	etype           int32 // of the session key
	authTime        time.Time
	till            time.Time
	initial         bool
}

// issue makes a ticket.
func (k *KDC) issue(o order) (*Ticket, error) {
	key, err := k.serviceKey(o.service)
	if err != nil {
		return nil, err
	}
	t := &Ticket{client: o.client, key: newKey(o.etype), flags: types.NewKrbFlags(), authTime: o.authTime, start: now()}
	if t.authTime.IsZero() {
		t.authTime = t.start
	}
	t.end = earlier(o.till.UTC(), t.start.Add(ticketLife))
	types.SetFlag(&t.flags, flagPreauth)
	if o.initial {
		types.SetFlag(&t.flags, flagInitial)
	}
	part := messages.EncTicketPart{
		Flags: t.flags, Key: t.key, CRealm: k.cfg.Realm, CName: o.client,
		Transited: messages.TransitedEncoding{TRType: 1, Contents: []byte{}},
		AuthTime:  t.authTime.UTC(), StartTime: t.start, EndTime: t.end,
	}
	if o.service.NameString[0] != "krbtgt" {
		if part.AuthorizationData, err = k.authorization(o, t.authTime, key); err != nil {
			return nil, err
		}
	}
	plain, err := marshalled(part, tagEncTicketPart)
	if err != nil {
		return nil, err
	}
	sealed, err := crypto.GetEncryptedData(plain, key, usageTicket, kvno)
	if err != nil {
		return nil, err
	}
	t.ticket = messages.Ticket{TktVNO: protocolVersion, Realm: k.cfg.Realm, SName: o.service, EncPart: sealed}
	return t, nil
}

// authorization is the PAC in its wrapping ([MS-KILE] 3.3.5.6.4).
func (k *KDC) authorization(o order, authTime time.Time, service types.EncryptionKey) (types.AuthorizationData, error) {
	pac, err := k.pac(o.user, o.client, authTime, service)
	if err != nil {
		return nil, err
	}
	inner, err := asn1.Marshal(types.AuthorizationData{{ADType: adPAC, ADData: pac}})
	if err != nil {
		return nil, err
	}
	return types.AuthorizationData{{ADType: adIfRelevant, ADData: inner}}, nil
}
