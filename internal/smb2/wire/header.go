package wire

// HeaderSize is the length of every SMB2 header, in octets.
const HeaderSize = 64

// The first four octets of a message say what it is ([MS-SMB2] 2.2.1, 2.2.41,
// 2.2.42; [MS-SMB] 2.2.3.1), as little-endian numbers.
const (
	ProtocolSMB2      = 0x424d53fe
	ProtocolTransform = 0x424d53fd
	ProtocolSMB1      = 0x424d53ff
)

// Command is the command code of a header ([MS-SMB2] 2.2.1.2).
type Command uint16

// The commands of [MS-SMB2] 2.2.1.2.
const (
	Negotiate Command = iota
	SessionSetup
	Logoff
	TreeConnect
	TreeDisconnect
	Create
	Close
	Flush
	Read
	Write
	Lock
	Ioctl
	Cancel
	Echo
	QueryDirectory
	ChangeNotify
	QueryInfo
	SetInfo
	OplockBreak
)

// HeaderFlags are the flags of a header ([MS-SMB2] 2.2.1.2).
type HeaderFlags uint32

// The flags this server reads or sets.
const (
	FlagResponse HeaderFlags = 0x1
	FlagAsync    HeaderFlags = 0x2
	FlagRelated  HeaderFlags = 0x4
	FlagSigned   HeaderFlags = 0x8
)

// Header is the SMB2 packet header in both its forms ([MS-SMB2] 2.2.1.1 and
// 2.2.1.2), 64 octets. With FlagAsync AsyncID stands where ProcessID and
// TreeID stand without it; the other two are zero then.
type Header struct {
	CreditCharge uint16
	// Status is the status of a response; in a request of dialect 3.x its
	// lower half is the channel sequence.
	Status  Status
	Command Command
	// Credits are those asked for in a request and granted in a response.
	Credits     uint16
	Flags       HeaderFlags
	NextCommand uint32
	MessageID   uint64
	ProcessID   uint32
	TreeID      uint32
	AsyncID     uint64
	SessionID   uint64
	Signature   [16]byte
}

// Is reports whether all flags of f are set.
func (h *Header) Is(f HeaderFlags) bool { return h.Flags&f == f }

// ParseHeader reads the header at the head of msg, which may be longer. It
// does not look at NextCommand: the caller knows the whole frame.
func ParseHeader(msg []byte) (Header, error) {
	if len(msg) < HeaderSize || le.Uint32(msg) != ProtocolSMB2 || le.Uint16(msg[4:]) != HeaderSize {
		return Header{}, ErrMalformed
	}
	h := Header{
		CreditCharge: le.Uint16(msg[6:]),
		Status:       Status(le.Uint32(msg[8:])),
		Command:      Command(le.Uint16(msg[12:])),
		Credits:      le.Uint16(msg[14:]),
		Flags:        HeaderFlags(le.Uint32(msg[16:])),
		NextCommand:  le.Uint32(msg[20:]),
		MessageID:    le.Uint64(msg[24:]),
		SessionID:    le.Uint64(msg[40:]),
		Signature:    [16]byte(msg[48:64]),
	}
	if h.Is(FlagAsync) {
		h.AsyncID = le.Uint64(msg[32:])
	} else {
		h.ProcessID = le.Uint32(msg[32:])
		h.TreeID = le.Uint32(msg[36:])
	}
	return h, nil
}

// Append appends the 64 octets of the header to dst.
func (h *Header) Append(dst []byte) []byte {
	var b [HeaderSize]byte
	le.PutUint32(b[0:], ProtocolSMB2)
	le.PutUint16(b[4:], HeaderSize)
	le.PutUint16(b[6:], h.CreditCharge)
	le.PutUint32(b[8:], uint32(h.Status))
	le.PutUint16(b[12:], uint16(h.Command))
	le.PutUint16(b[14:], h.Credits)
	le.PutUint32(b[16:], uint32(h.Flags))
	le.PutUint32(b[20:], h.NextCommand)
	le.PutUint64(b[24:], h.MessageID)
	if h.Is(FlagAsync) {
		le.PutUint64(b[32:], h.AsyncID)
	} else {
		le.PutUint32(b[32:], h.ProcessID)
		le.PutUint32(b[36:], h.TreeID)
	}
	le.PutUint64(b[40:], h.SessionID)
	copy(b[48:], h.Signature[:])
	return append(dst, b[:]...)
}

// The fields of a header that are written after the message is whole: where
// the next message of a compound begins, the flags, and the signature.
const (
	OffsetFlags       = 16
	OffsetNextCommand = 20
	OffsetMessageID   = 24
	OffsetSignature   = 48
)
