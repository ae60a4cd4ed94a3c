package smb2

import (
	"encoding/binary"
	"fmt"

	"github.com/seed05845750/bkrp/internal/smb2/wire"
)

// ioctl answers IOCTL ([MS-SMB2] 3.3.5.15).
func (r *call) ioctl() (wire.Status, error) {
	req, err := wire.ParseIoctlRequest(r.msg)
	limit := r.c.srv.cfg.Limits.Transfer
	if err != nil || len(req.Input) > limit || req.MaxOutput > uint32(limit) || req.MaxInput > uint32(limit) ||
		!r.covered(max(len(req.Input), int(req.MaxInput)+int(req.MaxOutput))) {
		return wire.StatusInvalidParameter, nil
	}
	if req.Flags != wire.IsFSCTL {
		return wire.StatusNotSupported, nil
	}
	switch req.Code {
	case wire.FSCTLPipeTransceive:
		return r.transceive(&req), nil
	case wire.FSCTLPipePeek:
		return r.peek(&req), nil
	case wire.FSCTLPipeWait:
		return r.pipeWait(&req), nil
	case wire.FSCTLValidateNegotiation:
		return r.validateNegotiation(&req)
	case wire.FSCTLDFSGetReferrals, wire.FSCTLDFSGetReferralsEx:
		return wire.StatusFSDriverRequired, nil
	}
	return wire.StatusInvalidDeviceRequest, nil
}

// transceive is FSCTL_PIPE_TRANSCEIVE ([MS-SMB2] 3.3.5.15.10, [MS-FSCC]
// 2.3.47): a write and the read of its answer. The answer is sent from the
// goroutine of the PipeFunc.
func (r *call) transceive(req *wire.IoctlRequest) wire.Status {
	c := r.c
	c.mu.Lock()
	defer c.mu.Unlock()
	p, st := r.find(req.FileID)
	switch {
	case st != wire.StatusSuccess:
		return st
	case p.byteMode:
		return wire.StatusInvalidReadMode
	case len(p.out) > 0:
		return wire.StatusPipeBusy
	case p.ended:
		return wire.StatusPipeBroken
	}
	// The place in the line comes first: the PipeFunc may answer as soon as
	// the data is there, and deliver may let go of the lock.
	w, st := r.wait(p, req.MaxOutput)
	if w == nil {
		return st
	}
	p.waiters = append(p.waiters, w)
	if st := p.deliver(req.Input); st != wire.StatusSuccess {
		return w.withdraw(st)
	}
	return wire.StatusPending
}

// peek is FSCTL_PIPE_PEEK ([MS-FSCC] 2.3.45, 2.3.46): what could be read,
// without taking it.
func (r *call) peek(req *wire.IoctlRequest) wire.Status {
	const fixed, connected, closing = 16, 3, 4
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	p, st := r.find(req.FileID)
	if st != wire.StatusSuccess {
		return st
	}
	switch {
	case req.MaxOutput < fixed:
		return wire.StatusBufferTooSmall
	case r.overfull(int(req.MaxOutput)):
		return wire.StatusInsufficientResources
	}
	state := uint32(connected)
	if p.ended {
		state = closing
	}
	var first []byte
	if len(p.out) > 0 {
		first = p.out[0]
	}
	out := make([]byte, 0, fixed+len(first))
	for _, v := range [...]uint32{state, uint32(p.outBytes), uint32(len(p.out)), uint32(len(first))} {
		out = binary.LittleEndian.AppendUint32(out, v)
	}
	if room := int(req.MaxOutput) - fixed; len(first) > room {
		first, st = first[:room], wire.StatusBufferOverflow
	}
	r.respond(&wire.IoctlResponse{Code: req.Code, FileID: req.FileID, Output: append(out, first...)})
	return st
}

// pipeWait is FSCTL_PIPE_WAIT ([MS-FSCC] 2.3.49): a pipe that exists can
// always be opened.
func (r *call) pipeWait(req *wire.IoctlRequest) wire.Status {
	in, err := wire.ParsePipeWait(req.Input)
	if err != nil {
		return wire.StatusInvalidParameter
	}
	name, st := pipeName(in.Name)
	if st != wire.StatusSuccess {
		return st
	}
	if _, ok := r.c.srv.cfg.Pipes[name]; !ok {
		return wire.StatusObjectNameNotFound
	}
	r.respond(&wire.IoctlResponse{Code: req.Code, FileID: req.FileID})
	return wire.StatusSuccess
}

// validateNegotiation is FSCTL_VALIDATE_NEGOTIATE_INFO ([MS-SMB2]
// 3.3.5.15.12): the client says again, signed, what it said in NEGOTIATE. When
// the two differ somebody has changed the first, and the connection ends.
// Dialect 3.1.1 has the preauthentication hash for that; a client that asks
// there is not one.
func (r *call) validateNegotiation(req *wire.IoctlRequest) (wire.Status, error) {
	c := r.c
	in, err := wire.ParseValidateNegotiation(req.Input)
	if err != nil {
		return 0, fmt.Errorf("%w: validating the negotiation: %w", errProtocol, err)
	}
	if c.dialect == Dialect311 || c.choose(in.Dialects) != c.dialect || in.ClientGUID != c.offer.clientGUID ||
		in.Capabilities != c.offer.clientCapabilities || in.SecurityMode != c.offer.clientMode {
		return 0, fmt.Errorf("%w: the negotiation was tampered with", errProtocol)
	}
	const size = 24
	if req.MaxOutput < size {
		return wire.StatusInvalidParameter, nil
	}
	out := wire.AppendValidatedNegotiation(nil, c.offer.capabilities, c.srv.cfg.ServerGUID, securityMode, c.dialect)
	r.respond(&wire.IoctlResponse{Code: req.Code, FileID: req.FileID, Output: out})
	return wire.StatusSuccess, nil
}
