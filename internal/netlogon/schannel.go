package netlogon

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/seed05845750/bkrp/internal/gss"
)

// initiator makes the client's end of the Netlogon security provider (3.3): the
// protection of calls under a session key that both ends have.
type initiator struct {
	key              sessionKey
	domain, computer string // NetBIOS names
}

// Initiate implements gss.Initiator.
func (i *initiator) Initiate(gss.InitiateOptions) gss.Exchange { return &exchange{initiator: i} }

// Format writes whose channel it is, whatever the verb, and never its key.
func (i *initiator) Format(s fmt.State, _ rune) {
	fmt.Fprintf(s, `netlogon initiator of %s\%s`, i.domain, i.computer)
}

// exchange is the two messages of 3.3.4.1. They prove nothing: that the peer
// has the key shows in its first answer.
type exchange struct {
	initiator *initiator
	sent      bool
}

// 2.2.1.3.1 NL_AUTH_MESSAGE
const (
	authMessageRequest  = 0
	authMessageResponse = 1
	authMessageHeader   = 8 // MessageType, Flags

	authNetBIOSDomain   = 0x1 // an OEM string follows
	authNetBIOSComputer = 0x2
)

// Step implements gss.Exchange.
func (e *exchange) Step(_ context.Context, in []byte) ([]byte, gss.Context, error) {
	if !e.sent {
		e.sent = true
		b := binary.LittleEndian.AppendUint32(nil, authMessageRequest)
		b = binary.LittleEndian.AppendUint32(b, authNetBIOSDomain|authNetBIOSComputer)
		b = append(append(b, e.initiator.domain...), 0)
		return append(append(b, e.initiator.computer...), 0), nil, nil
	}
	if len(in) < authMessageHeader || binary.LittleEndian.Uint32(in) != authMessageResponse {
		return nil, nil, fmt.Errorf("netlogon: answer of %d octets to NL_AUTH_MESSAGE: %w", len(in), gss.ErrToken)
	}
	return nil, &session{key: e.initiator.key}, nil
}

// session protects the PDUs of one connection. Both directions count in one
// sequence, so that they are used by turns, by one goroutine.
type session struct {
	key  sessionKey
	next uint64
	dead bool
	peer bool // at the domain controller's end
}

// 2.2.1.3.3 NL_AUTH_SHA2_SIGNATURE: the header, the sequence number, the
// checksum, the confounder. The 24 octets of padding that follow mean nothing;
// they are sent because the others send them.
const (
	signatureSize     = 56
	signatureUsed     = 32
	sequenceOffset    = 8
	checksumOffset    = 16
	confounderOffset  = 24
	confounderPresent = 0x1A // SealAlgorithm AES-128, its low octet
)

// signatureHeader is SignatureAlgorithm HMAC-SHA256, SealAlgorithm AES-128, Pad
// and Flags.
var signatureHeader = [8]byte{0x13, 0, confounderPresent, 0, 0xFF, 0xFF, 0, 0}

// sequence is the sequence number of the next message, as it is before it is
// encrypted (3.3.4.2.1, step 5).
func (s *session) sequence(fromClient bool) (b [8]byte) {
	binary.BigEndian.PutUint32(b[:], uint32(s.next))
	if fromClient {
		b[4] = 0x80
	}
	return b
}

// checksum is the MAC of step 4, over the header, the confounder and the
// message in the clear.
func (s *session) checksum(confounder, msg []byte) (sum [8]byte) {
	mac := hmac.New(sha256.New, s.key[:])
	mac.Write(signatureHeader[:])
	mac.Write(confounder)
	mac.Write(msg)
	copy(sum[:], mac.Sum(nil))
	return sum
}

// sealing is the cipher for the confounder and the message (steps 6 to 8).
func (s *session) sealing(sequence [8]byte) *cfb8 {
	key := s.key
	for i := range key {
		key[i] ^= 0xF0
	}
	return newCFB8(key, twice(sequence))
}

// numbering is the cipher for the sequence number (step 9).
func (s *session) numbering(sum [8]byte) *cfb8 { return newCFB8(s.key, twice(sum)) }

func twice(b [8]byte) (iv [16]byte) {
	copy(iv[:], b[:])
	copy(iv[8:], b[:])
	return iv
}

func (s *session) ready() error {
	if s.dead {
		return fmt.Errorf("netlogon: context broken before: %w", gss.ErrSignature)
	}
	if s.next > math.MaxUint32 {
		return fmt.Errorf("netlogon: sequence numbers used up: %w", gss.ErrExpired)
	}
	return nil
}

// Seal implements gss.Context (3.3.4.2.1).
func (s *session) Seal(dst, msg []byte, from, to int) ([]byte, error) {
	if err := s.ready(); err != nil {
		return dst, err
	}
	var sig [signatureSize]byte
	copy(sig[:], signatureHeader[:])
	confounder := sig[confounderOffset:signatureUsed]
	rand.Read(confounder)
	sum := s.checksum(confounder, msg)
	sequence := s.sequence(!s.peer)
	s.next++
	c := s.sealing(sequence)
	c.encrypt(confounder)
	c.encrypt(msg[from:to])
	s.numbering(sum).encrypt(sequence[:])
	copy(sig[sequenceOffset:], sequence[:])
	copy(sig[checksumOffset:], sum[:])
	return append(dst, sig[:]...), nil
}

// Unseal implements gss.Context (3.3.4.2.2).
func (s *session) Unseal(msg []byte, from, to int, sig []byte) error {
	if err := s.ready(); err != nil {
		return err
	}
	// Should any of it be wrong, there is no second try.
	s.dead = true
	if len(sig) < signatureUsed || [8]byte(sig) != signatureHeader {
		return fmt.Errorf("netlogon: signature of another form: %w", gss.ErrSignature)
	}
	sequence, sum := [8]byte(sig[sequenceOffset:]), [8]byte(sig[checksumOffset:])
	s.numbering(sum).decrypt(sequence[:])
	want := s.sequence(s.peer)
	if subtle.ConstantTimeCompare(want[:], sequence[:]) != 1 {
		return fmt.Errorf("netlogon: message out of sequence: %w", gss.ErrSignature)
	}
	confounder := [8]byte(sig[confounderOffset:])
	c := s.sealing(sequence)
	c.decrypt(confounder[:])
	c.decrypt(msg[from:to])
	again := s.checksum(confounder[:], msg)
	if subtle.ConstantTimeCompare(again[:], sum[:]) != 1 {
		return fmt.Errorf("netlogon: message %d: %w", s.next, gss.ErrSignature)
	}
	s.next++
	s.dead = false
	return nil
}

// Sign implements gss.Context: nothing here goes unsealed.
func (s *session) Sign(dst, _ []byte) ([]byte, error) { return dst, errUnsealed }

// Verify implements gss.Context.
func (s *session) Verify(_, _ []byte) error { return errUnsealed }

var errUnsealed = fmt.Errorf("netlogon: a message that is not sealed: %w", gss.ErrRefused)

// Identity implements gss.Context.
func (s *session) Identity() gss.Identity { return gss.Identity{} }

// Flags implements gss.Context.
func (s *session) Flags() gss.Flags {
	return gss.Mutual | gss.Integrity | gss.Confidentiality | gss.Sequence | gss.DCEStyle
}

// SessionKey implements gss.Context: nothing may be derived from it.
func (s *session) SessionKey() []byte { return nil }

// Expiry implements gss.Context: the channel does not end by itself.
func (s *session) Expiry() time.Time { return time.Time{} }

// SignatureSize implements gss.Context: 56.
func (s *session) SignatureSize() int { return signatureSize }

// SignSize implements gss.Context: 56.
func (s *session) SignSize() int { return signatureSize }

// Format writes that it is a context, whatever the verb, and never its key.
func (s *session) Format(f fmt.State, _ rune) { fmt.Fprint(f, "netlogon context") }
