package krb5

import (
	"encoding/binary"

	"github.com/seed05845750/bkrp/internal/gss"
)

// checksumGSS is the type of the authenticator's checksum that is none, but
// the flags of the context (RFC 4121 4.1.1).
const checksumGSS = 0x8003

// Context flags (RFC 4121 4.1.1.1; [MS-KILE] 2.2.3 for the last two).
const (
	channelMutual   = 0x2
	channelReplay   = 0x4
	channelSequence = 0x8
	channelConf     = 0x10
	channelInteg    = 0x20
	channelDCE      = 0x1000
	channelIdentify = 0x2000
)

var channelFlags = []struct {
	wire uint32
	flag gss.Flags
}{
	{channelMutual, gss.Mutual},
	{channelSequence, gss.Sequence},
	{channelConf, gss.Confidentiality},
	{channelInteg, gss.Integrity},
	{channelDCE, gss.DCEStyle},
	{channelIdentify, gss.Identify},
}

// channelSize is the length of the checksum without a delegated ticket.
const channelSize = 24

// parseChannel gives the flags that a client asks for. Without the checksum,
// as impacket and other SMB clients come, it is a context that signs and
// seals. Channel bindings are for channels that SMB and RPC do not have, and a
// delegated ticket behind the flags is of no use here; both are read over.
func parseChannel(c *checksum, options uint32) (gss.Flags, error) {
	f := gss.Flags(0)
	if options&optionMutualRequired != 0 {
		f |= gss.Mutual
	}
	if c == nil {
		return f | gss.Integrity | gss.Confidentiality | gss.Sequence, nil
	}
	if c.kind != checksumGSS || len(c.sum) < channelSize || binary.LittleEndian.Uint32(c.sum) != 16 {
		return 0, malformed("flags of the context")
	}
	asked := binary.LittleEndian.Uint32(c.sum[20:])
	for _, x := range channelFlags {
		if asked&x.wire != 0 {
			f |= x.flag
		}
	}
	if f&gss.DCEStyle != 0 {
		f |= gss.Mutual // three legs are nothing else
	}
	return f, nil
}

// marshalChannel is the inverse of parseChannel, without channel bindings.
func marshalChannel(f gss.Flags) *checksum {
	sum := make([]byte, channelSize)
	binary.LittleEndian.PutUint32(sum, 16)
	asked := uint32(channelReplay)
	for _, x := range channelFlags {
		if f&x.flag != 0 {
			asked |= x.wire
		}
	}
	binary.LittleEndian.PutUint32(sum[20:], asked)
	return &checksum{kind: checksumGSS, sum: sum}
}
