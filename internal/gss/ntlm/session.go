package ntlm

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/rc4"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"hash"
	"math"
	"time"

	"github.com/seed05845750/bkrp/internal/gss"
)

// signatureSize is the length of NTLMSSP_MESSAGE_SIGNATURE
// ([MS-NLMP] 2.2.2.9.2), in octets.
const signatureSize = 16

// session is an established context ([MS-NLMP] 3.4): a key, and a state for
// each direction.
type session struct {
	identity gss.Identity
	flags    gss.Flags
	key      [16]byte  // ExportedSessionKey
	expiry   time.Time // zero if it does not end
	send     direction
	receive  direction
}

// direction is what protects the messages of one direction. It belongs to the
// goroutine that protects, or unprotects, them.
type direction struct {
	mac     hash.Hash   // HMAC-MD5 under the signing key
	rc4     *rc4.Cipher // the handle of 3.4.1
	sealKey [16]byte
	next    uint64 // sequence number, up to 2^32
	dead    bool   // a signature was wrong
	sum     [16]byte
	seq     [4]byte
}

// newSession derives the keys of both directions from ExportedSessionKey.
func newSession(key [16]byte, f flags, extra gss.Flags, client bool) *session {
	s := &session{key: key, flags: gss.Sequence | extra}
	if f&flagSign != 0 {
		s.flags |= gss.Integrity
	}
	if f&flagSeal != 0 {
		s.flags |= gss.Confidentiality
	}
	toServer := newDirection(key, clientSigning, clientSealing)
	toClient := newDirection(key, serverSigning, serverSealing)
	if client {
		s.send, s.receive = toServer, toClient
	} else {
		s.send, s.receive = toClient, toServer
	}
	return s
}

func newDirection(key [16]byte, signing, sealing string) direction {
	signKey, sealKey := subkey(key, signing), subkey(key, sealing)
	return direction{
		mac:     hmac.New(md5.New, signKey[:]),
		rc4:     newRC4(sealKey),
		sealKey: sealKey,
	}
}

// digest is the MAC of [MS-NLMP] 3.4.4.2 for the next message, before it is
// encrypted: the first eight octets of d.sum.
func (d *direction) digest(msg []byte) error {
	if d.dead {
		return fmt.Errorf("ntlm: context broken before: %w", gss.ErrSignature)
	}
	if d.next > math.MaxUint32 {
		return fmt.Errorf("ntlm: sequence numbers used up: %w", gss.ErrExpired)
	}
	binary.LittleEndian.PutUint32(d.seq[:], uint32(d.next))
	d.mac.Reset()
	d.mac.Write(d.seq[:])
	d.mac.Write(msg)
	d.mac.Sum(d.sum[:0])
	return nil
}

// finish encrypts the digest with handle, appends the signature to dst and
// goes on to the next sequence number.
func (d *direction) finish(dst []byte, handle *rc4.Cipher) []byte {
	handle.XORKeyStream(d.sum[:8], d.sum[:8])
	d.next++
	dst = append(dst, 1, 0, 0, 0)
	dst = append(dst, d.sum[:8]...)
	return append(dst, d.seq[:]...)
}

// check is finish for a signature that was received.
func (d *direction) check(sig []byte, handle *rc4.Cipher) error {
	var want [signatureSize]byte
	d.finish(want[:0], handle)
	if subtle.ConstantTimeCompare(want[:], sig) != 1 {
		d.dead = true
		return fmt.Errorf("ntlm: message %d: %w", d.next-1, gss.ErrSignature)
	}
	return nil
}

// Format writes whose context it is, whatever the verb, and never its keys.
func (s *session) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "ntlm context of %v", s.identity)
}

// Identity implements gss.Context.
func (s *session) Identity() gss.Identity { return s.identity }

// Flags implements gss.Context.
func (s *session) Flags() gss.Flags { return s.flags }

// SessionKey implements gss.Context: ExportedSessionKey, 16 octets.
func (s *session) SessionKey() []byte { return append([]byte(nil), s.key[:]...) }

// Expiry implements gss.Context: what the account's source said.
func (s *session) Expiry() time.Time { return s.expiry }

// SignatureSize implements gss.Context: 16.
func (s *session) SignatureSize() int { return signatureSize }

// SignSize implements gss.Context: 16.
func (s *session) SignSize() int { return signatureSize }

// SignsWholePDU implements gss.WholePDU.
func (s *session) SignsWholePDU() bool { return true }

// Seal implements gss.Context by GSS_WrapEx ([MS-NLMP] 3.4.6): the message is
// encrypted first, its signature with the key stream that follows.
func (s *session) Seal(dst, msg []byte, from, to int) ([]byte, error) {
	d := &s.send
	if s.flags&gss.Confidentiality == 0 {
		return dst, fmt.Errorf("ntlm: sealing was not negotiated: %w", gss.ErrRefused)
	}
	if err := d.digest(msg); err != nil {
		return dst, err
	}
	d.rc4.XORKeyStream(msg[from:to], msg[from:to])
	return d.finish(dst, d.rc4), nil
}

// Unseal implements gss.Context by GSS_UnwrapEx ([MS-NLMP] 3.4.7).
func (s *session) Unseal(msg []byte, from, to int, sig []byte) error {
	d := &s.receive
	if s.flags&gss.Confidentiality == 0 {
		return fmt.Errorf("ntlm: sealing was not negotiated: %w", gss.ErrRefused)
	}
	d.rc4.XORKeyStream(msg[from:to], msg[from:to])
	if err := d.digest(msg); err != nil {
		return err
	}
	return d.check(sig, d.rc4)
}

// Sign implements gss.Context by GSS_GetMICEx ([MS-NLMP] 3.4.8). The keys for
// it are always there; whether it was negotiated, Flags tells.
func (s *session) Sign(dst, msg []byte) ([]byte, error) {
	if err := s.send.digest(msg); err != nil {
		return dst, err
	}
	return s.send.finish(dst, s.send.rc4), nil
}

// Verify implements gss.Context by GSS_VerifyMICEx ([MS-NLMP] 3.4.9).
func (s *session) Verify(msg, sig []byte) error {
	if err := s.receive.digest(msg); err != nil {
		return err
	}
	return s.receive.check(sig, s.receive.rc4)
}

// SignMechList is Sign for the mechListMIC of SPNEGO. It uses up a sequence
// number, but the key stream of the first message is the same as that of the
// mechListMIC ([MS-SPNG] 3.3.5.1), so a handle of its own encrypts it.
func (s *session) SignMechList(dst, list []byte) ([]byte, error) {
	if err := s.send.digest(list); err != nil {
		return dst, err
	}
	return s.send.finish(dst, newRC4(s.send.sealKey)), nil
}

// VerifyMechList is Verify for what SignMechList made.
func (s *session) VerifyMechList(list, mic []byte) error {
	if err := s.receive.digest(list); err != nil {
		return err
	}
	return s.receive.check(mic, newRC4(s.receive.sealKey))
}
