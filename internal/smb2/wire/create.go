package wire

// FileID names an open ([MS-SMB2] 2.2.14.1).
type FileID struct {
	Persistent, Volatile uint64
}

// RelatedFileID stands for the open of the request before in a compound, and
// for none in some FSCTLs ([MS-SMB2] 3.3.5.2.7.2).
var RelatedFileID = FileID{^uint64(0), ^uint64(0)}

func parseFileID(b []byte) FileID {
	return FileID{Persistent: le.Uint64(b), Volatile: le.Uint64(b[8:])}
}

func (id FileID) append(dst []byte) []byte {
	dst = le.AppendUint64(dst, id.Persistent)
	return le.AppendUint64(dst, id.Volatile)
}

// DirectoryFile of CreateOptions asks for a directory ([MS-SMB2] 2.2.13).
const DirectoryFile = 0x00000001

// maxCreateContexts bounds the contexts of one request.
const maxCreateContexts = 32

// CreateRequest is [MS-SMB2] 2.2.13.
type CreateRequest struct {
	OplockLevel   uint8
	Impersonation uint32
	DesiredAccess uint32
	Attributes    uint32
	ShareAccess   uint32
	Disposition   uint32
	Options       uint32
	// Name is the name without a leading backslash, in UTF-16LE.
	Name []byte
	// Contexts are checked to be a well-formed list and otherwise unread.
	Contexts []byte
}

// ParseCreateRequest reads a CREATE request.
func ParseCreateRequest(msg []byte) (CreateRequest, error) {
	b, err := body(msg, 57)
	if err != nil {
		return CreateRequest{}, err
	}
	name, err := span(msg, uint32(le.Uint16(b[44:])), uint32(le.Uint16(b[46:])), 56)
	if err != nil {
		return CreateRequest{}, err
	}
	contexts, err := span(msg, le.Uint32(b[48:]), le.Uint32(b[52:]), 56)
	if err != nil {
		return CreateRequest{}, err
	}
	if err := checkCreateContexts(contexts); err != nil {
		return CreateRequest{}, err
	}
	return CreateRequest{
		OplockLevel:   b[3],
		Impersonation: le.Uint32(b[4:]),
		DesiredAccess: le.Uint32(b[24:]),
		Attributes:    le.Uint32(b[28:]),
		ShareAccess:   le.Uint32(b[32:]),
		Disposition:   le.Uint32(b[36:]),
		Options:       le.Uint32(b[40:]),
		Name:          name,
		Contexts:      contexts,
	}, nil
}

// Append appends the body of the request to dst.
func (r *CreateRequest) Append(dst []byte) []byte {
	start := len(dst)
	dst = le.AppendUint16(dst, 57)
	dst = append(dst, 0, r.OplockLevel)
	dst = le.AppendUint32(dst, r.Impersonation)
	dst = le.AppendUint64(dst, 0)
	dst = le.AppendUint64(dst, 0)
	for _, v := range []uint32{r.DesiredAccess, r.Attributes, r.ShareAccess, r.Disposition, r.Options} {
		dst = le.AppendUint32(dst, v)
	}
	dst = le.AppendUint16(dst, HeaderSize+56)
	dst = le.AppendUint16(dst, uint16(len(r.Name)))
	dst = le.AppendUint64(dst, 0)
	dst = append(dst, r.Name...)
	if len(r.Contexts) > 0 {
		dst = pad8(dst, start)
		le.PutUint32(dst[start+48:], uint32(HeaderSize+len(dst)-start))
		le.PutUint32(dst[start+52:], uint32(len(r.Contexts)))
		dst = append(dst, r.Contexts...)
	}
	if len(dst) == start+56 {
		// The structure size counts one octet of the buffer, which clients
		// send even when it is empty.
		dst = append(dst, 0)
	}
	return dst
}

// checkCreateContexts walks a list of create contexts ([MS-SMB2] 2.2.13.2):
// 16 octets, a name and data inside each, linked by their distance.
func checkCreateContexts(b []byte) error {
	for range maxCreateContexts {
		if len(b) == 0 {
			return nil
		}
		if len(b) < 16 {
			return ErrMalformed
		}
		next := le.Uint32(b)
		one := b
		if next != 0 {
			if next%8 != 0 || next < 16 || uint64(next) >= uint64(len(b)) {
				return ErrMalformed
			}
			one, b = b[:next], b[next:]
		} else {
			b = nil
		}
		if !inside(one, uint32(le.Uint16(one[4:])), uint32(le.Uint16(one[6:]))) ||
			!inside(one, uint32(le.Uint16(one[10:])), le.Uint32(one[12:])) {
			return ErrMalformed
		}
	}
	return ErrMalformed
}

func inside(b []byte, offset, length uint32) bool {
	return length == 0 || offset >= 16 && uint64(offset)+uint64(length) <= uint64(len(b))
}

// FileAttributes are the times, sizes and attributes that CREATE and CLOSE
// responses share ([MS-SMB2] 2.2.14, 2.2.16). Times are FILETIMEs.
type FileAttributes struct {
	Creation, LastAccess, LastWrite, Change uint64
	AllocationSize, EndOfFile               uint64
	Attributes                              uint32
}

func parseFileAttributes(b []byte) FileAttributes {
	return FileAttributes{
		Creation:       le.Uint64(b),
		LastAccess:     le.Uint64(b[8:]),
		LastWrite:      le.Uint64(b[16:]),
		Change:         le.Uint64(b[24:]),
		AllocationSize: le.Uint64(b[32:]),
		EndOfFile:      le.Uint64(b[40:]),
		Attributes:     le.Uint32(b[48:]),
	}
}

func (a *FileAttributes) append(dst []byte) []byte {
	for _, v := range [...]uint64{a.Creation, a.LastAccess, a.LastWrite, a.Change, a.AllocationSize, a.EndOfFile} {
		dst = le.AppendUint64(dst, v)
	}
	return le.AppendUint32(dst, a.Attributes)
}

// FileOpened is the create action of everything that was there before
// ([MS-SMB2] 2.2.14).
const FileOpened = 1

// CreateResponse is [MS-SMB2] 2.2.14, without contexts.
type CreateResponse struct {
	Action uint32
	FileAttributes
	FileID FileID
}

// ParseCreateResponse reads a CREATE response.
func ParseCreateResponse(msg []byte) (CreateResponse, error) {
	b, err := body(msg, 89)
	if err != nil {
		return CreateResponse{}, err
	}
	return CreateResponse{
		Action:         le.Uint32(b[4:]),
		FileAttributes: parseFileAttributes(b[8:]),
		FileID:         parseFileID(b[64:]),
	}, nil
}

// Append appends the body of the response to dst.
func (r *CreateResponse) Append(dst []byte) []byte {
	dst = le.AppendUint16(dst, 89)
	dst = append(dst, 0, 0)
	dst = le.AppendUint32(dst, r.Action)
	dst = r.FileAttributes.append(dst)
	dst = le.AppendUint32(dst, 0)
	dst = r.FileID.append(dst)
	return le.AppendUint64(dst, 0)
}
