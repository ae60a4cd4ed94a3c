package npa

import "encoding/binary"

const (
	// fileTypeMessage is FILE_TYPE_MESSAGE_MODE_PIPE ([MS-SMB] 2.2.4.9.2).
	fileTypeMessage = 2
	// deviceState is what SMB1 clients see as NMPipe_Status ([MS-CIFS]
	// 2.2.1.3): messages, read as messages, any number of instances.
	deviceState = 0x05ff
	// allocationSize is the size that an open of the pipe shows, in octets.
	allocationSize = 4096
)

// appendReply appends named_pipe_auth_rep, 36 octets: the pipe is open.
func appendReply(b []byte, level uint32) []byte {
	b = binary.BigEndian.AppendUint32(b, 32) // of what follows
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint32(b, level)
	b = binary.LittleEndian.AppendUint32(b, level) // of the union
	b = binary.LittleEndian.AppendUint16(b, fileTypeMessage)
	b = binary.LittleEndian.AppendUint16(b, deviceState)
	b = append(b, 0, 0, 0, 0) // aligns the hyper
	b = binary.LittleEndian.AppendUint64(b, allocationSize)
	return binary.LittleEndian.AppendUint32(b, 0) // STATUS_SUCCESS
}
