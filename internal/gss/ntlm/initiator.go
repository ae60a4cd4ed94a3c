package ntlm

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"

	"github.com/seed05845750/bkrp/internal/gss"
)

// Credential is who logs on. Hash prints as "[redacted]".
type Credential struct {
	Domain, User string
	Hash         Hash   // of HashPassword
	Workstation  string // what the server is told of this machine; may be empty
}

// NewInitiator gives the client's end of NTLM. It always asks for signing, and
// for sealing when gss.Confidentiality is asked for; it does not prove the
// server's identity, so gss.Mutual is never granted.
func NewInitiator(c Credential) gss.Initiator {
	hash := c.Hash
	c.Hash = Hash{}
	return initiator{c, func() [16]byte { return ntowfv2(hash, appendUpper(nil, c.User, upper), c.Domain) }}
}

// initiator has its credential's hash within a function, so that printing an
// initiator cannot print the hash: fmt does not ask the values of unexported
// fields how to print them.
type initiator struct {
	cred Credential // Hash is zero
	key  func() [16]byte
}

// Initiate implements gss.Initiator.
func (i initiator) Initiate(opts gss.InitiateOptions) gss.Exchange {
	return &initiateExchange{initiator: i, opts: opts}
}

type initiateExchange struct {
	initiator
	opts      gss.InitiateOptions
	negotiate []byte
	done      bool
}

// Step implements gss.Exchange.
func (e *initiateExchange) Step(_ context.Context, in []byte) (out []byte, sc gss.Context, err error) {
	switch {
	case e.done:
		return nil, nil, fmt.Errorf("ntlm: token after the end: %w", gss.ErrToken)
	case e.negotiate == nil && len(in) != 0:
		e.done = true
		return nil, nil, fmt.Errorf("ntlm: token before the first: %w", gss.ErrToken)
	case e.negotiate == nil:
		e.negotiate = negotiateMessage{flags: e.flags()}.marshal()
		return e.negotiate, nil, nil
	default:
		e.done = true
		out, s, err := e.authenticate(in)
		if err != nil {
			return nil, nil, err
		}
		return out, s, nil
	}
}

// flags are those of NEGOTIATE_MESSAGE ([MS-NLMP] 3.1.5.1.1).
func (e *initiateExchange) flags() flags {
	f := required | flagRequestTarget | flagSign | flagAlwaysSign | flagVersion
	if e.opts.Flags&gss.Confidentiality != 0 {
		f |= flagSeal
	}
	if e.opts.Flags&gss.Identify != 0 {
		f |= flagIdentify
	}
	return f
}

// authenticate answers CHALLENGE_MESSAGE ([MS-NLMP] 3.1.5.1.2).
func (e *initiateExchange) authenticate(challenge []byte) ([]byte, *session, error) {
	c, err := parseChallenge(challenge)
	if err != nil {
		return nil, nil, err
	}
	asked := e.flags()
	if asked&(flagSign|flagSeal)&^c.flags != 0 {
		return nil, nil, fmt.Errorf("ntlm: server does not sign or seal: %w", gss.ErrRefused)
	}
	agreed := asked&c.flags | flagTargetInfo
	key := e.key()
	r := e.response(c)
	clientChallenge := r.marshal()
	r.proof = proofOf(key, c.serverChallenge, clientChallenge[proofSize:])
	copy(clientChallenge, r.proof[:])

	var exported [16]byte
	rand.Read(exported[:])
	encrypted := exchangeKey(sessionBaseKey(key, r.proof), exported[:])
	m := (&authenticateMessage{
		flags:  agreed,
		domain: e.cred.Domain, user: e.cred.User, workstation: e.cred.Workstation,
		ntResponse: clientChallenge, sessionKey: encrypted[:],
	}).marshal()
	mic := micOf(exported, e.negotiate, challenge, m)
	copy(m[micOffset:], mic[:])
	extra := e.opts.Flags & (gss.Identify | gss.DCEStyle)
	return m, newSession(exported, agreed, extra, true), nil
}

// response is the NTLMv2_RESPONSE without its proof: the server's pairs with
// the announcement of a MIC, no channel binding, and the target's name.
func (e *initiateExchange) response(c *challengeMessage) *ntlmv2Response {
	r := &ntlmv2Response{}
	micFlag := uint32(avFlagMIC)
	for _, p := range c.targetInfo {
		switch p.id {
		case avFlags:
			micFlag |= binary.LittleEndian.Uint32(p.value)
		case avTargetName, avChannelBindings:
			// the client's to say
		default:
			r.targetInfo = append(r.targetInfo, p)
		}
	}
	r.targetInfo = append(r.targetInfo,
		avPair{avFlags, binary.LittleEndian.AppendUint32(nil, micFlag)},
		avPair{avChannelBindings, make([]byte, 16)},
		avPair{avTargetName, appendUTF16(nil, e.opts.Target)})
	copy(r.timestamp[:], c.targetInfo.get(avTimestamp))
	rand.Read(r.clientChallenge[:])
	return r
}
