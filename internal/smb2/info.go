package smb2

import (
	"encoding/binary"

	"github.com/seed05845750/bkrp/internal/smb2/wire"
)

// Values of pipes ([MS-FSCC] 2.4.33, 2.4.34).
const (
	pipeModeByte      = 0 // read mode of FilePipeInformation
	pipeModeMessage   = 1
	pipeTypeMessage   = 1
	pipeFullDuplex    = 2
	pipeUnlimited     = 0xFFFFFFFF
	pipeConnected     = 3
	pipeEndClient     = 0
	synchronousNormal = 0x20 // FILE_SYNCHRONOUS_IO_NONALERT
)

// queryInfo answers QUERY_INFO ([MS-SMB2] 3.3.5.20) for what clients ask of
// pipes. There is no file system and no security descriptor to be asked for.
func (r *call) queryInfo() wire.Status {
	c := r.c
	req, err := wire.ParseQueryInfoRequest(r.msg)
	if err != nil || req.MaxOutput > uint32(c.srv.cfg.Limits.Transfer) || !r.covered(int(req.MaxOutput)) {
		return wire.StatusInvalidParameter
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p, st := r.find(req.FileID)
	if st != wire.StatusSuccess {
		return st
	}
	if req.InfoType != wire.InfoFile {
		return wire.StatusInvalidDeviceRequest
	}
	data := p.info(req.Class)
	if data == nil {
		return wire.StatusInvalidInfoClass
	}
	if len(data) > int(req.MaxOutput) {
		return wire.StatusInfoLengthMismatch
	}
	r.respond(&wire.QueryInfoResponse{Data: data})
	return wire.StatusSuccess
}

// info gives a class of file information ([MS-FSCC] 2.4); nil for those that
// pipes do not have.
func (p *Pipe) info(class uint8) []byte {
	le := binary.LittleEndian
	u32 := func(values ...uint32) []byte {
		var b []byte
		for _, v := range values {
			b = le.AppendUint32(b, v)
		}
		return b
	}
	basic := make([]byte, 32, 40) // no times
	basic = append(le.AppendUint32(basic, pipeAttributes.Attributes), 0, 0, 0, 0)
	standard := le.AppendUint64(nil, pipeAttributes.AllocationSize)
	standard = le.AppendUint64(standard, 0)
	standard = append(le.AppendUint32(standard, 1), 1, 0, 0, 0) // one link, to be deleted
	index := le.AppendUint64(nil, p.id.Persistent)
	mode := uint32(pipeModeMessage)
	if p.byteMode {
		mode = pipeModeByte
	}
	switch class {
	case wire.FileBasicInformation:
		return basic
	case wire.FileStandardInformation:
		return standard
	case wire.FileInternalInformation:
		return index
	case wire.FileEAInformation, wire.FileAlignmentInformation:
		return u32(0)
	case wire.FileAccessInformation:
		return u32(pipeAccess)
	case wire.FilePositionInformation:
		return u32(0, 0)
	case wire.FileModeInformation:
		return u32(synchronousNormal)
	case wire.FileAllInformation:
		// [MS-FSCC] 2.4.2: those above one after the other, then the name.
		b := append(append(basic, standard...), index...)
		b = append(b, u32(0, pipeAccess, 0, 0, synchronousNormal, 0)...)
		name := wire.AppendUTF16(nil, `\`+p.name)
		return append(le.AppendUint32(b, uint32(len(name))), name...)
	case wire.FilePipeInformation:
		return u32(mode, 0)
	case wire.FilePipeLocalInformation:
		size := uint32(p.session.conn.srv.cfg.Limits.PipeBuffer)
		return u32(pipeTypeMessage, pipeFullDuplex, pipeUnlimited, 1, size, uint32(p.outBytes),
			size, size-min(size, uint32(len(p.in)-p.inFrom)), pipeConnected, pipeEndClient)
	case wire.FileNetworkOpenInformation:
		b := make([]byte, 32, 56)
		b = le.AppendUint64(b, pipeAttributes.AllocationSize)
		b = le.AppendUint64(b, 0)
		return append(le.AppendUint32(b, pipeAttributes.Attributes), 0, 0, 0, 0)
	}
	return nil
}

// setInfo answers SET_INFO ([MS-SMB2] 3.3.5.21): the read mode of a pipe can
// be set, and nothing else.
func (r *call) setInfo() wire.Status {
	req, err := wire.ParseSetInfoRequest(r.msg)
	if err != nil || !r.covered(len(req.Data)) {
		return wire.StatusInvalidParameter
	}
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	p, st := r.find(req.FileID)
	switch {
	case st != wire.StatusSuccess:
		return st
	case req.InfoType != wire.InfoFile || req.Class != wire.FilePipeInformation:
		return wire.StatusNotSupported
	case len(req.Data) < 8:
		return wire.StatusInfoLengthMismatch
	}
	mode := binary.LittleEndian.Uint32(req.Data)
	if mode > pipeModeMessage || binary.LittleEndian.Uint32(req.Data[4:]) > 1 {
		return wire.StatusInvalidParameter
	}
	p.byteMode = mode == pipeModeByte
	b := r.c.reply.buf
	*b = wire.AppendSetInfoResponse(*b)
	return wire.StatusSuccess
}
