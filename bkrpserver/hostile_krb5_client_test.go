package bkrpserver_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/oiweiwei/gokrb5.fork/v9/crypto/common"
	"github.com/oiweiwei/gokrb5.fork/v9/messages"

	"github.com/seed05845750/bkrp/internal/gss"
	"github.com/seed05845750/bkrp/internal/gss/spnego"
)

// krbInitiator is the client's end of Kerberos, written from RFC 4120 and RFC
// 4121, which can be spoilt at each stage and in each message after.
type krbInitiator struct {
	kdc   *hostileKDC
	order ticketOrder
	// ticket is used if set, and made anew for each logon otherwise.
	ticket *hostileTicket
	// wild changes the tokens of messages before their checksums are made.
	wild func(*krbToken)
	// context is that of the last logon.
	context *krbContext
}

// withSPNEGO puts an initiator of Kerberos into SPNEGO.
func withSPNEGO(i gss.Initiator) gss.Initiator {
	return spnego.NewInitiator(spnego.InitiatorMechanism{
		OIDs: []asn1.ObjectIdentifier{spnego.MSKerberos(), spnego.Kerberos()}, Initiator: i})
}

func (i *krbInitiator) Initiate(o gss.InitiateOptions) gss.Exchange {
	return &krbExchange{krbInitiator: i, flags: o.Flags | gss.Mutual | gss.Integrity | gss.Sequence}
}

type krbExchange struct {
	*krbInitiator
	flags  gss.Flags
	used   *hostileTicket
	subkey []byte
	seq    uint32
}

// errNoLogon is a server that does not let in, or cannot prove itself.
var errNoLogon = errors.New("the server refuses the ticket")

func (x *krbExchange) Step(_ context.Context, in []byte) ([]byte, gss.Context, error) {
	if x.used == nil {
		return x.request(), nil, nil
	}
	if len(in) > 17 && in[0] == derApplied {
		in = in[len(in)-derRest(in)+13:] // behind the mechanism and the token's identifier
	}
	var rep messages.APRep
	if err := rep.Unmarshal(in); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", errNoLogon, err)
	}
	plain, err := etypeOf(x.used.session).DecryptMessage(x.used.key, rep.EncPart.Cipher, 12)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", errNoLogon, err)
	}
	var part messages.EncAPRepPart
	if err := part.Unmarshal(plain); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", errNoLogon, err)
	}
	c := &krbContext{
		flags: x.flags, etype: x.used.session, key: part.Subkey.KeyValue, wild: x.wild,
		send: uint64(x.seq), receive: uint64(part.SequenceNumber),
	}
	if c.flags&gss.DCEStyle != 0 {
		c.filler = 16
	}
	x.context = c
	if x.flags&gss.DCEStyle == 0 {
		return nil, c, nil
	}
	spoil := x.order.spoil
	third := der(derApplied|27, der(derSequence, derField(0, krbTime(part.CTime)), derField(1, derInt(int64(part.Cusec))),
		derField(3, derInt(part.SequenceNumber))))
	third = krbSeal(x.used.session, x.used.key, 12, spoil.at(stageThirdPart, third))
	third = der(derApplied|15, der(derSequence, derField(0, derInt(5)), derField(1, derInt(15)),
		derField(2, krbSealed(x.used.session, 0, third))))
	return spoil.at(stageThirdToken, third), c, nil
}

// derRest is the length of the content of a value of up to 64 KiB.
func derRest(b []byte) int {
	switch b[1] {
	case 0x81:
		return int(b[2])
	case 0x82:
		return int(b[2])<<8 | int(b[3])
	}
	return int(b[1])
}

// request makes the AP-REQ, in a frame unless it is for RPC.
func (x *krbExchange) request() []byte {
	spoil := x.order.spoil
	if x.used = x.ticket; x.used == nil {
		x.used = x.kdc.ticket(x.order)
	}
	x.subkey = randomSecret(len(x.used.key))
	x.seq = binary.BigEndian.Uint32(randomSecret(4)) >> 2
	flags := uint32(0x2 | 0x4 | 0x8 | 0x10 | 0x20) // mutual, replay, sequence, confidentiality, integrity
	if x.flags&gss.DCEStyle != 0 {
		flags |= 0x1000
	}
	sum := binary.LittleEndian.AppendUint32([]byte{16, 0, 0, 0, 19: 0}, flags)
	now := time.Now().UTC()
	auth := der(derApplied|2, der(derSequence,
		derField(0, derInt(5)),
		derField(1, der(derText, []byte(x.used.realm))),
		derField(2, krbName(1, x.used.client)),
		derField(3, der(derSequence, derField(0, derInt(0x8003)), derField(1, der(derOctets, spoil.at(stageChecksum, sum))))),
		derField(4, derInt(int64(now.Nanosecond()/1000))),
		derField(5, krbTime(now)),
		derField(6, krbKey(x.used.session, x.subkey)),
		derField(7, derInt(int64(x.seq)))))
	cipher := krbSeal(x.used.session, x.used.key, 11, spoil.at(stageAuthenticator, auth))
	req := der(derApplied|14, der(derSequence,
		derField(0, derInt(5)),
		derField(1, derInt(14)),
		derField(2, der(derBits, []byte{0, 0x20, 0, 0, 0})), // mutual required
		derField(3, x.used.der),
		derField(4, krbSealed(x.used.session, 0, spoil.at(stageAuthCipher, cipher)))))
	req = spoil.at(stageAPReq, req)
	if x.flags&gss.DCEStyle == 0 {
		oid := []byte{6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 1, 2, 2}
		req = der(derApplied, oid, []byte{1, 0}, req)
	}
	return spoil.at(stageToken, req)
}

// krbToken is the header of a message's token before it is sealed (RFC 4121
// 4.2.6), and that within the ciphertext.
type krbToken struct {
	head, inside [16]byte
	seals        bool
}

// krbContext protects messages with a key of AES and SHA-1.
type krbContext struct {
	flags         gss.Flags
	etype         int32
	key           []byte // the acceptor's sub-key
	filler        int    // EC
	send, receive uint64
	wild          func(*krbToken)
}

func (c *krbContext) Identity() gss.Identity { return gss.Identity{} }
func (c *krbContext) Flags() gss.Flags       { return c.flags }
func (c *krbContext) SessionKey() []byte     { return c.key }
func (c *krbContext) Expiry() time.Time      { return time.Time{} }
func (c *krbContext) SignatureSize() int     { return 16 + c.filler + 16 + 12 + 16 }
func (c *krbContext) SignSize() int          { return 16 + 12 }

// token is what the next token begins with.
func (c *krbContext) token(id uint16, flags byte, ec, rrc uint16, seq uint64) (h [16]byte) {
	binary.BigEndian.PutUint16(h[:], id)
	h[2], h[3] = flags|4, 0xff // the acceptor's sub-key
	binary.BigEndian.PutUint16(h[4:], ec)
	binary.BigEndian.PutUint16(h[6:], rrc)
	binary.BigEndian.PutUint64(h[8:], seq)
	return h
}

// mac is the checksum of RFC 3962 over parts.
func (c *krbContext) mac(usage uint32, parts ...[]byte) ([]byte, error) {
	k, err := etypeOf(c.etype).DeriveKey(c.key, common.GetUsageKi(usage))
	if err != nil {
		return nil, err
	}
	h := hmac.New(sha1.New, k)
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)[:12], nil
}

// Seal is GSS_WrapEx as Windows rotates it ([MS-KILE] 3.4.5.4.1).
func (c *krbContext) Seal(dst, msg []byte, from, to int) ([]byte, error) {
	const usage = 24
	t := krbToken{seals: true}
	t.inside = c.token(0x0504, 2, uint16(c.filler), 0, c.send)
	t.head = c.token(0x0504, 2, uint16(c.filler), 16+12, c.send)
	if c.wild != nil {
		c.wild(&t)
	}
	c.send++
	tail := append(make([]byte, c.filler), t.inside[:]...)
	confounder := randomSecret(16)
	mac, err := c.mac(usage, confounder, msg, tail)
	if err != nil {
		return nil, err
	}
	plain := append(append(confounder, msg[from:to]...), tail...)
	e := etypeOf(c.etype)
	k, err := e.DeriveKey(c.key, common.GetUsageKe(usage))
	if err != nil {
		return nil, err
	}
	_, b, err := e.EncryptData(k, plain)
	if err != nil {
		return nil, err
	}
	copy(msg[from:to], b[16:])
	dst = append(append(dst, t.head[:]...), b[16+to-from:]...)
	return append(append(dst, mac...), b[:16]...), nil
}

func (c *krbContext) Unseal(msg []byte, from, to int, sig []byte) error {
	const usage = 22
	filler := len(sig) - (16 + 16 + 12 + 16)
	if filler < 0 {
		return gss.ErrSignature
	}
	tail := sig[16 : 16+filler+16]
	b := append(append(append([]byte(nil), sig[len(sig)-16:]...), msg[from:to]...), tail...)
	e := etypeOf(c.etype)
	k, err := e.DeriveKey(c.key, common.GetUsageKe(usage))
	if err != nil {
		return err
	}
	if b, err = e.DecryptData(k, b); err != nil {
		return err
	}
	copy(msg[from:to], b[16:])
	mac, err := c.mac(usage, b[:16], msg, b[16+to-from:])
	want := c.token(0x0504, 3, uint16(filler), 0, c.receive)
	c.receive++
	if err != nil || !hmac.Equal(mac, sig[16+filler+16:][:12]) || want != [16]byte(b[len(b)-16:]) {
		return fmt.Errorf("%w, %w", gss.ErrSignature, err)
	}
	return nil
}

func (c *krbContext) Sign(dst, msg []byte) ([]byte, error) {
	t := krbToken{head: c.token(0x0404, 0, 0xffff, 0xffff, c.send)}
	if c.wild != nil {
		c.wild(&t)
	}
	c.send++
	sum, err := etypeOf(c.etype).GetChecksumHash(c.key, append(msg[:len(msg):len(msg)], t.head[:]...), 25)
	return append(append(dst, t.head[:]...), sum...), err
}

func (c *krbContext) Verify(msg, sig []byte) error {
	head := c.token(0x0404, 1, 0xffff, 0xffff, c.receive)
	c.receive++
	sum, err := etypeOf(c.etype).GetChecksumHash(c.key, append(msg[:len(msg):len(msg)], head[:]...), 23)
	if err != nil || len(sig) != 28 || [16]byte(sig) != head || !hmac.Equal(sum, sig[16:]) {
		return fmt.Errorf("%w, %w", gss.ErrSignature, err)
	}
	return nil
}
