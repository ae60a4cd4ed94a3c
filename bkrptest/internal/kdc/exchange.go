package kdc

import (
	"bytes"
	"errors"
	"time"

	"github.com/jcmturner/gofork/encoding/asn1"
	"github.com/oiweiwei/gokrb5.fork/v9/crypto"
	"github.com/oiweiwei/gokrb5.fork/v9/messages"
	"github.com/oiweiwei/gokrb5.fork/v9/types"
)

// Numbers of RFC 4120 7.5: message types, pre-authentication, key usages.
const (
	messageASRep  = 11
	messageTGSRep = 13

	paTGSReq       = 1
	paEncTimestamp = 2
	paETypeInfo2   = 19

	usageTimestamp  = 1
	usageTicket     = 2
	usageASRep      = 3
	usageTGSRep     = 8
	usageTGSRepSub  = 9
	tagASReq        = 0x60 | 10
	tagTGSReq       = 0x60 | 12
	protocolVersion = 5
)

// Answer answers one message: with a ticket, or with why there is none. It is
// nil where the message is no request.
func (k *KDC) Answer(message []byte) (reply []byte) {
	defer func() {
		// The library's parsers trust what they read in places.
		if recover() != nil {
			reply = nil
		}
	}()
	if len(message) == 0 {
		return nil
	}
	var service types.PrincipalName
	var err error
	switch message[0] {
	case tagASReq:
		var q messages.ASReq
		if q.Unmarshal(message) != nil {
			return nil
		}
		service = q.ReqBody.SName
		reply, err = k.logOn(&q)
	case tagTGSReq:
		var q messages.TGSReq
		if q.Unmarshal(message) != nil {
			return nil
		}
		service = q.ReqBody.SName
		reply, err = k.grant(&q)
	default:
		return nil
	}
	if err != nil {
		return k.krbError(service, err)
	}
	return reply
}

// krbError is KRB-ERROR (RFC 4120 5.9.1).
func (k *KDC) krbError(service types.PrincipalName, err error) []byte {
	why := &refusal{code: codeGeneric}
	errors.As(err, &why)
	if len(service.NameString) == 0 {
		service = k.ticketGranting()
	}
	e := messages.NewKRBError(service, k.cfg.Realm, why.code, "")
	e.STime, e.EData = now(), why.data
	b, err := e.Marshal()
	if err != nil {
		return nil
	}
	return b
}

func (k *KDC) ticketGranting() types.PrincipalName {
	return types.PrincipalName{NameType: 2, NameString: []string{"krbtgt", k.cfg.Realm}}
}

// logOn is the authentication service exchange (RFC 4120 3.1): a ticket for who
// knows the password.
func (k *KDC) logOn(q *messages.ASReq) ([]byte, error) {
	u, err := k.user(q.ReqBody.CName)
	if err != nil {
		return nil, err
	}
	etype, err := chooseEType(q.ReqBody.EType)
	if err != nil {
		return nil, err
	}
	hint, err := asn1.Marshal(types.ETypeInfo2{{EType: etype, Salt: k.salt(u)}})
	if err != nil {
		return nil, err
	}
	preauth := types.PADataSequence{{PADataType: paETypeInfo2, PADataValue: hint}}
	key, err := k.checkTimestamp(q, u)
	if err != nil {
		var why *refusal
		if errors.As(err, &why) && why.code == codePreauthRequired {
			why.data, err = asn1.Marshal(append(preauth, types.PAData{PADataType: paEncTimestamp}))
			if err == nil {
				err = why
			}
		}
		return nil, err
	}
	t, err := k.issue(order{user: u, client: q.ReqBody.CName, service: q.ReqBody.SName, etype: etype, till: q.ReqBody.Till, initial: true})
	if err != nil {
		return nil, err
	}
	rep := messages.ASRep{KDCRepFields: messages.KDCRepFields{MsgType: messageASRep, PAData: preauth}}
	if err := k.seal(&rep.KDCRepFields, t, q.ReqBody.Nonce, key, usageASRep); err != nil {
		return nil, err
	}
	return rep.Marshal()
}

// checkTimestamp looks at the encrypted timestamp of a request (RFC 4120
// 5.2.7.2), and gives the key that it proves knowledge of.
func (k *KDC) checkTimestamp(q *messages.ASReq, u User) (key types.EncryptionKey, err error) {
	for _, p := range q.PAData {
		if p.PADataType != paEncTimestamp {
			continue
		}
		var sealed types.EncryptedData
		if err := sealed.Unmarshal(p.PADataValue); err != nil {
			return key, errMessage
		}
		if sealed.EType != aes256 && sealed.EType != aes128 {
			return key, refuse(codePreauthFailed)
		}
		if key, err = k.userKey(u, sealed.EType); err != nil {
			return key, err
		}
		plain, err := crypto.DecryptEncPart(sealed, key, usageTimestamp)
		if err != nil {
			return key, refuse(codePreauthFailed)
		}
		var stamp types.PAEncTSEnc
		if err := stamp.Unmarshal(plain); err != nil {
			return key, errMessage
		}
		if off := time.Since(stamp.PATimestamp); off > maxSkew || off < -maxSkew {
			return key, refuse(codeSkew)
		}
		return key, nil
	}
	return key, refuse(codePreauthRequired)
}

// grant is the ticket-granting service exchange (RFC 4120 3.3): a ticket for a
// service, for who has one for this KDC.
func (k *KDC) grant(q *messages.TGSReq) ([]byte, error) {
	var ap messages.APReq
	found := false
	for _, p := range q.PAData {
		if p.PADataType == paTGSReq {
			if err := ap.Unmarshal(p.PADataValue); err != nil {
				return nil, errMessage
			}
			found = true
		}
	}
	if !found {
		return nil, errMessage
	}
	if err := ap.Ticket.Decrypt(k.realm); err != nil {
		return nil, refuse(codeModified)
	}
	part := &ap.Ticket.DecryptedEncPart
	if err := ap.DecryptAuthenticator(part.Key); err != nil {
		return nil, refuse(codeModified)
	}
	if !ap.Authenticator.CName.Equal(part.CName) || ap.Authenticator.CRealm != part.CRealm {
		return nil, refuse(codeBadMatch)
	}
	if part.EndTime.Before(now()) {
		return nil, refuse(codeTicketExpired)
	}
	u, err := k.user(part.CName)
	if err != nil {
		return nil, err
	}
	etype, err := chooseEType(q.ReqBody.EType)
	if err != nil {
		return nil, err
	}
	t, err := k.issue(order{
		user: u, client: part.CName, service: q.ReqBody.SName, etype: etype,
		authTime: part.AuthTime, till: earlier(q.ReqBody.Till, part.EndTime),
	})
	if err != nil {
		return nil, err
	}
	key, usage := part.Key, uint32(usageTGSRep)
	if sub := ap.Authenticator.SubKey; len(sub.KeyValue) > 0 {
		key, usage = sub, usageTGSRepSub
	}
	rep := messages.TGSRep{KDCRepFields: messages.KDCRepFields{MsgType: messageTGSRep}}
	if err := k.seal(&rep.KDCRepFields, t, q.ReqBody.Nonce, key, usage); err != nil {
		return nil, err
	}
	return rep.Marshal()
}

// seal puts a ticket into a reply, and what its client has to know beside it,
// sealed under the client's key (RFC 4120 5.4.2).
func (k *KDC) seal(rep *messages.KDCRepFields, t *Ticket, nonce int, key types.EncryptionKey, usage uint32) error {
	rep.PVNO, rep.CRealm, rep.CName, rep.Ticket = protocolVersion, k.cfg.Realm, t.client, t.ticket
	part := messages.EncKDCRepPart{
		Key: t.key, LastReqs: []messages.LastReq{{LRValue: t.authTime}}, Nonce: nonce, Flags: t.flags,
		AuthTime: t.authTime, StartTime: t.start, EndTime: t.end, SRealm: k.cfg.Realm, SName: t.ticket.SName,
	}
	plain, err := part.Marshal()
	if err != nil {
		return err
	}
	version := 0 // there is none of a session key
	if usage == usageASRep {
		version = kvno
	}
	rep.EncPart, err = crypto.GetEncryptedData(plain, key, usage, version)
	return err
}

// earlier is the earlier of two times of which the first may be none: zero, or
// the epoch.
func earlier(a, b time.Time) time.Time {
	if a.Unix() <= 0 || b.Before(a) {
		return b
	}
	return a
}

// marshalled is a message in the application tag that it has in RFC 4120.
func marshalled(v any, tag byte) ([]byte, error) {
	inner, err := asn1.Marshal(v)
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(asn1.RawValue{Class: asn1.ClassApplication, Tag: int(tag), IsCompound: true, Bytes: bytes.Clone(inner)})
}
