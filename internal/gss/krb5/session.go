package krb5

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/seed05845750/bkrp/internal/gss"
)

// session is an established context: a key, and a state for each direction. It
// protects messages by RFC 4121, or as an rc4Session by RFC 4757.
type session struct {
	identity gss.Identity
	flags    gss.Flags
	expiry   time.Time
	scratch  *scratch

	key Key
	// ownKey says that the acceptor chose the key (RFC 4121 2).
	ownKey bool
	// acceptor says which end this is.
	acceptor bool

	send, receive direction
}

// direction protects the messages of one direction. It belongs to the
// goroutine that protects, or unprotects, them. Its keys are derived when they
// are first needed: a context for SMB never seals.
type direction struct {
	next uint64 // sequence number
	dead bool   // a signature was wrong
	cfx  cfxKeys
}

// newKey draws a key.
func newKey(t EncType) (Key, error) {
	k := Key{Type: t, Value: make([]byte, 16)}
	if p, ok := t.profile(); ok {
		k.Value = make([]byte, p.keySize)
	}
	rand.Read(k.Value)
	return k, k.check()
}

// newSequence draws a first sequence number, of 30 bits, which no peer takes
// for a negative one or sees run over (RFC 4120 3.2.2 says how peers err).
func newSequence() uint32 {
	var b [4]byte
	rand.Read(b[:])
	return binary.BigEndian.Uint32(b[:]) >> 2
}

// context is the session as what protects messages.
func (s *session) context() gss.Context {
	if s.key.Type == RC4HMAC {
		return newRC4Session(s)
	}
	return s
}

// Format writes whose context it is, whatever the verb, and never its keys.
func (s *session) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "krb5 context of %v", s.identity)
}

// Identity implements gss.Context.
func (s *session) Identity() gss.Identity { return s.identity }

// Flags implements gss.Context.
func (s *session) Flags() gss.Flags { return s.flags }

// SessionKey implements gss.Context: the acceptor's sub-key, else the
// initiator's, else the ticket's session key ([MS-KILE] 3.1.1.2), 16 or 32
// octets.
func (s *session) SessionKey() []byte { return append([]byte(nil), s.key.Value...) }

// Expiry implements gss.Context: the end of the ticket.
func (s *session) Expiry() time.Time { return s.expiry }

// scratch lends memory for messages while they are encrypted, so that a
// context that idles holds none.
type scratch struct{ pool sync.Pool }

func newScratch() *scratch {
	return &scratch{sync.Pool{New: func() any { return new([]byte) }}}
}

// get lends size octets.
func (s *scratch) get(size int) *[]byte {
	b := s.pool.Get().(*[]byte)
	if cap(*b) < size {
		*b = make([]byte, size)
	}
	*b = (*b)[:size]
	return b
}

// put takes them back and clears them: they were somebody's secret.
func (s *scratch) put(b *[]byte) {
	clear(*b)
	s.pool.Put(b)
}
