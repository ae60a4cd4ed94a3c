package bkrptest

import (
	"encoding/binary"
	"fmt"
)

// Step is a point in the course of a connection, for Drop.
type Step uint8

// The steps in their order. All but the first and the last are requests of the
// client's, which the server does not get to see then. Those of the LSA, which
// the client asks for its SID, count as those of BackupKey do; what an encrypted
// SMB session carries (bkrpserver.EncryptionRequire) cannot be told.
const (
	// Connect is the connection itself, which is closed at once.
	Connect Step = iota + 1
	// Negotiate is SMB2 NEGOTIATE ([MS-SMB2] 2.2.3).
	Negotiate
	// SessionSetup is each leg of the logon (2.2.5).
	SessionSetup
	// TreeConnect is the connection to IPC$ (2.2.9).
	TreeConnect
	// Create is the opening of a pipe (2.2.13).
	Create
	// Bind is the bind of RPC ([C706] 12.6.4.3).
	Bind
	// Request is a call of RPC (12.6.4.9).
	Request
	// Response is the answer to a call (12.6.4.10), which was made and is on the
	// audit trail: the client does not get to see it.
	Response
)

var stepNames = [...]string{
	Connect: "connect", Negotiate: "negotiate", SessionSetup: "session setup", TreeConnect: "tree connect",
	Create: "create", Bind: "bind", Request: "request", Response: "response",
}

// String is the name of the step.
func (s Step) String() string {
	if int(s) < len(stepNames) && s != 0 {
		return stepNames[s]
	}
	return fmt.Sprintf("Step(%d)", uint8(s))
}

// Commands of SMB 2 ([MS-SMB2] 2.2.1.2), and the types of PDUs ([C706] 12.6.3.1).
const (
	commandNegotiate    = 0
	commandSessionSetup = 1
	commandTreeConnect  = 3
	commandCreate       = 5
	commandRead         = 8
	commandWrite        = 9
	commandIoctl        = 11

	pduRequest  = 0
	pduResponse = 2
	pduBind     = 11
)

// headerSize is the length of the header of SMB 2, in octets.
const headerSize = 64

// stepsOf are the steps that a message of SMB is, each of a compound by itself.
// What it cannot read is none.
func stepsOf(message []byte, fromServer bool) (steps []Step) {
	if len(message) > 0 && message[0] == 0xFF && !fromServer {
		return []Step{Negotiate} // of SMB 1, by which clients may ask for SMB 2
	}
	for len(message) >= headerSize && string(message[:4]) == "\xFESMB" {
		part := message
		next := binary.LittleEndian.Uint32(message[20:])
		if next >= headerSize && int64(next) <= int64(len(message)) {
			part, message = message[:next], message[next:]
		} else {
			message = nil
		}
		command := binary.LittleEndian.Uint16(part[12:])
		if s := stepOf(command, part, fromServer); s != 0 {
			steps = append(steps, s)
		}
	}
	return steps
}

func stepOf(command uint16, message []byte, fromServer bool) Step {
	if fromServer {
		if command == commandRead || command == commandIoctl {
			if kind, ok := pduOf(command, message, fromServer); ok && kind == pduResponse {
				return Response
			}
		}
		return 0
	}
	switch command {
	case commandNegotiate:
		return Negotiate
	case commandSessionSetup:
		return SessionSetup
	case commandTreeConnect:
		return TreeConnect
	case commandCreate:
		return Create
	case commandWrite, commandIoctl:
		switch kind, ok := pduOf(command, message, fromServer); {
		case ok && kind == pduBind:
			return Bind
		case ok && kind == pduRequest:
			return Request
		}
	}
	return 0
}

// pduOf is the type of the RPC PDU in a message ([MS-SMB2] 2.2.20, 2.2.21, 2.2.31,
// 2.2.32). The middle of one may be taken for none, or another.
func pduOf(command uint16, message []byte, fromServer bool) (kind byte, ok bool) {
	body := message[headerSize:]
	var offset, size uint64
	word := func(at int) uint64 {
		if at+4 > len(body) {
			return 0
		}
		return uint64(binary.LittleEndian.Uint32(body[at:]))
	}
	switch {
	case command == commandRead:
		offset, size = word(2)&0xFF, word(4)
	case command == commandWrite:
		offset, size = word(2)&0xFFFF, word(4)
	case fromServer:
		offset, size = word(32), word(36)
	default:
		offset, size = word(24), word(28)
	}
	if offset < headerSize || size < 4 || offset+size > uint64(len(message)) {
		return 0, false
	}
	pdu := message[offset : offset+size]
	return pdu[2], pdu[0] == 5 && pdu[1] == 0 // rpc_vers 5.0
}
