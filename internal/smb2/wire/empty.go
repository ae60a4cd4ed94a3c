package wire

// AppendEmpty appends the body that LOGOFF, TREE_DISCONNECT, ECHO and CANCEL
// requests and the responses of the first three and of FLUSH have in common:
// the structure size, 4, and two reserved octets ([MS-SMB2] 2.2.7, 2.2.8,
// 2.2.11, 2.2.12, 2.2.18, 2.2.28 to 2.2.30).
func AppendEmpty(dst []byte) []byte { return append(dst, 4, 0, 0, 0) }

// ParseEmpty checks such a body.
func ParseEmpty(msg []byte) error {
	_, err := body(msg, 4)
	return err
}
