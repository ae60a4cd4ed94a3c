package netlogon

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"

	"github.com/seed05845750/bkrp/internal/dcerpc"
	"github.com/seed05845750/bkrp/internal/ndr"
)

// ErrResponse is an answer that the protocol does not allow; no part of it is
// used.
var ErrResponse = errors.New("netlogon: response breaks the protocol")

// errImpostor is a peer that does not know the machine account's key.
var errImpostor = errors.New("netlogon: who answers does not know the machine account's password: it is no domain controller of the domain")

// The methods, by their operation numbers.
const (
	opServerReqChallenge  = 4
	opServerAuthenticate3 = 26
	opLogonSamLogonEx     = 39
)

// 2.2.1.3.13 NETLOGON_SECURE_CHANNEL_TYPE: a member of the domain.
const workstationSecureChannel = 2

// 3.1.4.2 Netlogon Negotiable Options
const (
	optionStrongKeys = 0x00004000
	optionAES        = 0x01000000 // AES and SHA2
	optionSecureRPC  = 0x40000000
	options          = optionStrongKeys | optionAES | optionSecureRPC
)

// machine is the account whose secure channel it is.
type machine struct {
	account  string // "SRV1$"
	computer string // "SRV1"
	hash     [16]byte
}

// authenticate agrees on a session key with the domain controller (3.1.4.1) over
// a connection without protection. Each end proves that it has the machine
// account's key.
func authenticate(ctx context.Context, rpc *dcerpc.Client, m machine) (sessionKey, error) {
	var client [8]byte
	rand.Read(client[:])
	server, err := requestChallenge(ctx, rpc, m, client)
	if err != nil {
		return sessionKey{}, err
	}
	key := newSessionKey(m.hash, client, server)
	proof, err := authenticate3(ctx, rpc, m, key.credential(client))
	if err != nil {
		return sessionKey{}, err
	}
	want := key.credential(server)
	if subtle.ConstantTimeCompare(want[:], proof[:]) != 1 {
		return sessionKey{}, errImpostor
	}
	return key, nil
}

// 3.5.4.4.1 NetrServerReqChallenge
func requestChallenge(ctx context.Context, rpc *dcerpc.Client, m machine, client [8]byte) (server [8]byte, err error) {
	w := ndr.NewWriter(nil, rpc.Encoding())
	w.Referent(false) // PrimaryName: whoever is asked
	w.String(m.computer)
	w.Octets(client[:])
	err = call(ctx, rpc, "NetrServerReqChallenge", opServerReqChallenge, w.Buffer(), func(r *ndr.Reader) {
		copy(server[:], r.Octets(len(server)))
	})
	if err != nil {
		return server, err
	}
	if !isGoodChallenge(server, client) {
		return server, fmt.Errorf("%w: challenge that is not random", ErrResponse)
	}
	return server, nil
}

// isGoodChallenge tells whether a credential of the server's challenge proves
// anything. One of a challenge whose beginning is one octet repeated can be
// guessed (CVE-2020-1472): domain controllers look at five, and so does this
// end. And each octet of a credential depends on those before it alone, all of
// them under one key: who sends this end's challenge back gets the credential
// of it as well, and only has to return that. Beginnings that are the same by
// chance, one in 2^24, cost a logon.
func isGoodChallenge(server, client [8]byte) bool {
	const looked, same = 5, 3
	first := bytes.Repeat(server[:1], looked)
	return !bytes.Equal(server[:looked], first) && !bytes.Equal(server[:same], client[:same])
}

// 3.5.4.4.2 NetrServerAuthenticate3
func authenticate3(ctx context.Context, rpc *dcerpc.Client, m machine, credential [8]byte) (proof [8]byte, err error) {
	w := ndr.NewWriter(nil, rpc.Encoding())
	w.Referent(false) // PrimaryName
	w.String(m.account)
	w.Enum(workstationSecureChannel)
	w.Align(4)
	w.String(m.computer)
	w.Octets(credential[:])
	w.U32(options)
	granted := uint32(0)
	err = call(ctx, rpc, "NetrServerAuthenticate3", opServerAuthenticate3, w.Buffer(), func(r *ndr.Reader) {
		copy(proof[:], r.Octets(len(proof)))
		granted = r.U32()
		r.U32() // AccountRid
	})
	if err == nil && granted&options != options {
		err = fmt.Errorf("netlogon: the domain controller has no secure channel by AES (options %#x)", granted)
	}
	return proof, err
}

// call makes a call and hands the response, up to its status, to read.
func call(ctx context.Context, rpc *dcerpc.Client, name string, opnum uint16, stub []byte, read func(*ndr.Reader)) error {
	out, err := rpc.Call(ctx, opnum, stub)
	if err != nil {
		return fmt.Errorf("calling %s: %w", name, err)
	}
	defer clear(out) // it may hold a session key
	r := ndr.NewReader(out, rpc.Encoding())
	read(&r)
	status := Status(r.U32())
	if err := r.Done(); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrResponse, name, err)
	}
	if status != 0 {
		return fmt.Errorf("calling %s: %w", name, status)
	}
	return nil
}
