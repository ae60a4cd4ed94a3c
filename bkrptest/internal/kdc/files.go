package kdc

import (
	"encoding/binary"
	"time"

	"github.com/oiweiwei/gokrb5.fork/v9/types"
)

// Keytab is a keytab file, version 0x502, with the keys of the services.
func (k *KDC) Keytab() []byte {
	file := []byte{5, 2}
	for _, host := range k.cfg.Hosts {
		var r []byte
		r = binary.BigEndian.AppendUint16(r, 2)
		for _, s := range []string{k.cfg.Realm, "host", host} {
			r = append(binary.BigEndian.AppendUint16(r, uint16(len(s))), s...)
		}
		r = binary.BigEndian.AppendUint32(r, 3) // NT-SRV-HST
		r = binary.BigEndian.AppendUint32(r, uint32(time.Now().Unix()))
		r = append(r, kvno)
		r = binary.BigEndian.AppendUint16(r, uint16(k.services.KeyType))
		r = append(binary.BigEndian.AppendUint16(r, uint16(len(k.services.KeyValue))), k.services.KeyValue...)
		r = binary.BigEndian.AppendUint32(r, kvno)
		file = append(binary.BigEndian.AppendUint32(file, uint32(len(r))), r...)
	}
	return file
}

// CCache is a credential cache file, version 0x504, with a ticket-granting
// ticket of the user, as kinit leaves it.
func (k *KDC) CCache(user string) ([]byte, error) {
	client := types.PrincipalName{NameType: 1, NameString: []string{user}}
	u, err := k.user(client)
	if err != nil {
		return nil, err
	}
	client.NameString[0] = u.Name
	t, err := k.issue(order{user: u, client: client, service: k.ticketGranting(), etype: aes256, initial: true})
	if err != nil {
		return nil, err
	}
	ticket, err := t.ticket.Marshal()
	if err != nil {
		return nil, err
	}
	principal := func(b []byte, p types.PrincipalName) []byte {
		b = binary.BigEndian.AppendUint32(b, uint32(p.NameType))
		b = binary.BigEndian.AppendUint32(b, uint32(len(p.NameString)))
		b = appendCounted(b, []byte(k.cfg.Realm))
		for _, s := range p.NameString {
			b = appendCounted(b, []byte(s))
		}
		return b
	}
	file := principal([]byte{5, 4, 0, 0}, client)
	file = principal(principal(file, client), t.ticket.SName)
	file = appendCounted(binary.BigEndian.AppendUint16(file, uint16(t.key.KeyType)), t.key.KeyValue)
	for _, at := range []time.Time{t.authTime, t.start, t.end, t.start} {
		file = binary.BigEndian.AppendUint32(file, uint32(at.Unix()))
	}
	file = append(file, 0) // no second key
	file = append(file, t.flags.Bytes[:4]...)
	file = append(file, make([]byte, 4+4)...) // addresses, authorization data
	return appendCounted(appendCounted(file, ticket), nil), nil
}

func appendCounted(b, v []byte) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(v))), v...)
}
