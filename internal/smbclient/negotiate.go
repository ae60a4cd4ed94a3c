package smbclient

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/seed05845750/bkrp/internal/smb2/wire"
)

// maxNegotiate bounds the answer to NEGOTIATE, in octets; it has a token of at
// most 64 KiB and a few contexts.
const maxNegotiate = 1 << 17

// Negotiate asks the server at address, HOST:PORT, for its dialect and what goes
// with it ([MS-SMB2] 2.2.3, 2.2.4), on a connection of its own that it closes.
// Everything is offered; nothing of the answer is authenticated.
func Negotiate(ctx context.Context, address string) (*wire.NegotiateResponse, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := conn.Write(negotiateRequest()); err != nil {
		return nil, fmt.Errorf("sending SMB NEGOTIATE: %w", err)
	}
	r, err := ReadNegotiate(conn)
	if err != nil {
		return nil, fmt.Errorf("reading the answer to SMB NEGOTIATE: %w", err)
	}
	return r, nil
}

// negotiateRequest offers everything, with its length in front ([MS-SMB2] 2.1).
func negotiateRequest() []byte {
	var salt [32]byte
	rand.Read(salt[:])
	h := wire.Header{Command: wire.Negotiate, CreditCharge: 1, Credits: 1}
	r := wire.NegotiateRequest{
		SecurityMode: wire.SigningEnabled | wire.SigningRequired,
		Capabilities: wire.CapLargeMTU | wire.CapEncryption,
		Dialects:     []wire.Dialect{wire.Dialect202, wire.Dialect210, wire.Dialect300, wire.Dialect302, wire.Dialect311},
		Contexts: []wire.NegotiateContext{
			{Type: wire.ContextPreauth, Data: wire.PreauthCapabilities{Hashes: []uint16{wire.HashSHA512}, Salt: salt[:]}.Append(nil)},
			{Type: wire.ContextEncryption, Data: wire.AppendAlgorithms(nil,
				uint16(wire.AES128GCM), uint16(wire.AES128CCM), uint16(wire.AES256GCM), uint16(wire.AES256CCM))},
			{Type: wire.ContextSigning, Data: wire.AppendAlgorithms(nil,
				uint16(wire.AESGMAC), uint16(wire.AESCMAC), uint16(wire.HMACSHA256))},
		},
	}
	rand.Read(r.ClientGUID[:])
	msg := r.Append(h.Append(nil))
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(msg))), msg...)
}

// ReadNegotiate reads an answer to NEGOTIATE with its length in front.
func ReadNegotiate(r io.Reader) (*wire.NegotiateResponse, error) {
	var length [4]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n > maxNegotiate {
		return nil, errors.New("this is no SMB")
	}
	msg := make([]byte, n)
	if _, err := io.ReadFull(r, msg); err != nil {
		return nil, err
	}
	h, err := wire.ParseHeader(msg)
	if err != nil {
		return nil, err
	}
	if h.Command != wire.Negotiate || h.Status != 0 {
		return nil, fmt.Errorf("status 0x%08X to command %d", uint32(h.Status), h.Command)
	}
	return wire.ParseNegotiateResponse(msg)
}
