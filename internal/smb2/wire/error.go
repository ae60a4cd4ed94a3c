package wire

// AppendError appends the ERROR response without data ([MS-SMB2] 2.2.2), nine
// octets. An interim response has the same body ([MS-SMB2] 3.3.4.2).
func AppendError(dst []byte) []byte {
	return append(dst, 9, 0, 0, 0, 0, 0, 0, 0, 0)
}

// ParseError checks that msg carries an ERROR response; what it may hold is
// of no use to a client of pipes.
func ParseError(msg []byte) error {
	_, err := body(msg, 9)
	return err
}
