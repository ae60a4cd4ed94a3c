package dpapi

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/le"
)

// ErrFormat is what every error about a malformed file wraps.
var ErrFormat = errors.New("dpapi: file is malformed")

const (
	guidChars = 36 // of a GUID without braces, as UTF-16

	// maxFileVersion is the newest version of a master key file: 1 on Windows
	// 2000, 2 since.
	maxFileVersion = 2
)

// MasterKeyFile is a master key file: a header of 128 octets, and up to four
// parts one after the other, each of which holds the same key or says where it
// can be had. The header has
//
//	  0    4  version, 2
//	  4    8  reserved, two words
//	 12   72  GUID, 36 characters of UTF-16
//	 84    8  reserved, two words
//	 92    4  policy
//	 96    8  length of the master key part
//	104    8  length of the backup key part
//	112    8  length of the credential history part
//	120    8  length of the domain key part
type MasterKeyFile struct {
	// Version is 1 or 2.
	Version uint32
	// Reserved are the words at 4, 8, 84 and 88.
	Reserved [4]uint32
	// GUID names the master key; it is the file's name as well.
	GUID dtyp.GUID
	// Policy is a set of flags.
	Policy uint32
	// MasterKey is the key under the user's password, nil if absent.
	MasterKey *EncryptedKey
	// BackupKey is a key under a secret of the machine, nil if absent.
	BackupKey *EncryptedKey
	// CredHist names the entry of the user's password history, nil if absent.
	CredHist *CredHist
	// DomainKey is the key wrapped for the domain's BackupKey server, a blob
	// that bkrp.ParseClientWrapped or bkrp.ParseServerWrapped reads; nil if
	// absent.
	DomainKey []byte
}

// ParseMasterKeyFile reads the file that fills b. The result refers to b.
// Errors wrap ErrFormat.
func ParseMasterKeyFile(b []byte) (*MasterKeyFile, error) {
	c := le.NewCursor(b)
	f := &MasterKeyFile{Version: c.Uint32()}
	f.Reserved[0], f.Reserved[1] = c.Uint32(), c.Uint32()
	name := c.Bytes(2 * guidChars)
	f.Reserved[2], f.Reserved[3] = c.Uint32(), c.Uint32()
	f.Policy = c.Uint32()
	var sizes [4]uint64
	for i := range sizes {
		sizes[i] = c.Uint64()
	}
	var parts [4][]byte
	for i, size := range sizes {
		parts[i] = c.Bytes(size)
	}
	if err := c.Done(); err != nil {
		return nil, fmt.Errorf("%w: master key file: %w", ErrFormat, err)
	}
	if f.Version < 1 || f.Version > maxFileVersion {
		return nil, fmt.Errorf("%w: master key file of version %d", ErrFormat, f.Version)
	}
	if err := f.setGUID(name); err != nil {
		return nil, err
	}
	if err := f.setParts(parts); err != nil {
		return nil, err
	}
	return f, nil
}

// setGUID reads the GUID, in the one case or the other.
func (f *MasterKeyFile) setGUID(name []byte) error {
	var text [guidChars]byte
	for i := range text {
		if name[2*i+1] != 0 {
			return fmt.Errorf("%w: master key file: its GUID is not readable", ErrFormat)
		}
		text[i] = name[2*i]
	}
	guid, err := dtyp.ParseGUID(string(text[:]))
	if err != nil {
		return fmt.Errorf("%w: master key file: its GUID is not readable", ErrFormat)
	}
	f.GUID = guid
	return nil
}

func (f *MasterKeyFile) setParts(parts [4][]byte) (err error) {
	if f.MasterKey, err = parseEncryptedKey(parts[0], "master key"); err != nil {
		return err
	}
	if f.BackupKey, err = parseEncryptedKey(parts[1], "backup key"); err != nil {
		return err
	}
	if f.CredHist, err = parseCredHist(parts[2]); err != nil {
		return err
	}
	if len(parts[3]) == 0 {
		return nil
	}
	_, errClient := bkrp.ParseClientWrapped(parts[3])
	_, errServer := bkrp.ParseServerWrapped(parts[3])
	if errClient != nil && errServer != nil {
		return fmt.Errorf("%w: domain key part is no wrapped secret: %w", ErrFormat, errClient)
	}
	f.DomainKey = parts[3]
	return nil
}

// AppendBinary appends the file to b, its GUID in lower case as Windows
// writes it. The error is always nil.
func (f *MasterKeyFile) AppendBinary(b []byte) ([]byte, error) {
	word := func(v uint32) { b = binary.LittleEndian.AppendUint32(b, v) }
	master, backup := f.MasterKey.append(nil), f.BackupKey.append(nil)
	history := f.CredHist.append(nil)
	word(f.Version)
	word(f.Reserved[0])
	word(f.Reserved[1])
	for _, c := range []byte(f.GUID.String()) {
		b = append(b, c, 0)
	}
	word(f.Reserved[2])
	word(f.Reserved[3])
	word(f.Policy)
	for _, part := range [][]byte{master, backup, history, f.DomainKey} {
		b = binary.LittleEndian.AppendUint64(b, uint64(len(part)))
	}
	b = append(append(b, master...), backup...)
	return append(append(b, history...), f.DomainKey...), nil
}
