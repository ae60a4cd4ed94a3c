package backup

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/seed05845750/bkrp/keystore"
)

const (
	magic = "bkrp-backup 1\n\n\n"
	// entryHeader is the sizes in front of an entry.
	entryHeader = 2 + 4
	// maxManifest bounds the manifest, in octets: more than 100,000 keys.
	maxManifest = 32 << 20
)

// write writes the plaintext.
func (b *Backup) write(to io.Writer) error {
	manifest, err := json.Marshal(&b.Manifest)
	if err != nil {
		return err
	}
	if len(manifest) > maxManifest {
		return fmt.Errorf("the manifest has %d octets, and %d are the most", len(manifest), maxManifest)
	}
	digest := sha256.New()
	w := bufio.NewWriter(io.MultiWriter(to, digest))
	w.WriteString(magic)
	w.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(manifest))))
	w.Write(manifest)
	last := ""
	for _, e := range b.Dump.Entries {
		if e.Name <= last || len(e.Name) > keystore.MaxNameSize || len(e.Value) > keystore.MaxValueSize {
			return fmt.Errorf("entry %q cannot be written", e.Name)
		}
		last = e.Name
		w.Write(entrySizes(e))
		w.WriteString(e.Name)
		w.Write(e.Value)
	}
	w.Write(make([]byte, entryHeader))
	if err := w.Flush(); err != nil { // of all that was written
		return err
	}
	_, err = to.Write(digest.Sum(nil))
	return err
}

func entrySizes(e keystore.DumpEntry) []byte {
	b := binary.LittleEndian.AppendUint16(nil, uint16(len(e.Name)))
	return binary.LittleEndian.AppendUint32(b, uint32(len(e.Value)))
}

// parser reads the plaintext, which a file may have that others made: each size
// is checked, and no more is held than has been read.
type parser struct {
	from   *bufio.Reader
	digest hash.Hash
	n      int64  // octets read
	where  string // what is being read, for messages
}

// parse reads a plaintext to its end.
func parse(r io.Reader) (*Backup, error) {
	p := &parser{from: bufio.NewReader(r), digest: sha256.New()}
	b := &Backup{Dump: new(keystore.Dump)}
	if err := p.read(b); err != nil {
		b.Clear()
		return nil, err
	}
	return b, nil
}

func (p *parser) read(b *Backup) error {
	written, err := p.manifest(&b.Manifest)
	if err != nil {
		return err
	}
	m := &b.Manifest
	d := b.Dump
	d.Store, d.Created, d.Domain, d.Damaged = m.Store, m.Created, m.Domain, m.Damaged
	for {
		e, more, err := p.entry(d)
		if err != nil {
			return err
		}
		if !more {
			break
		}
		d.Entries = append(d.Entries, e)
	}
	if err := p.end(); err != nil {
		return err
	}
	again := manifestOf(d, m.Program, m.Taken)
	text, err := json.Marshal(&again)
	if err != nil || !bytes.Equal(text, written) {
		return fmt.Errorf("%w: its manifest does not say what is in it", ErrFormat)
	}
	last := ""
	for _, name := range d.Damaged {
		i, found := slices.BinarySearchFunc(d.Entries, name, func(e keystore.DumpEntry, name string) int { return strings.Compare(e.Name, name) })
		if !found || len(d.Entries[i].Value) != 0 {
			return fmt.Errorf("%w: it has content of %q, which was damaged", ErrFormat, name)
		}
		if name <= last {
			return fmt.Errorf("%w: %q is out of its place among what was damaged", ErrFormat, name)
		}
		last = name
	}
	return nil
}

// manifest reads what stands before the entries, and returns the manifest as it
// was written.
func (p *parser) manifest(m *Manifest) ([]byte, error) {
	p.where = "the beginning"
	head, err := p.take(len(magic) + 4)
	if err != nil {
		return nil, err
	}
	if string(head[:len(magic)]) != magic {
		if bytes.HasPrefix(head, []byte("bkrp-backup ")) {
			return nil, fmt.Errorf("%w: it is of another version than this program reads, which is %d", ErrFormat, Version)
		}
		return nil, fmt.Errorf("%w: the age file holds something else", ErrFormat)
	}
	size := binary.LittleEndian.Uint32(head[len(magic):])
	if size > maxManifest {
		return nil, fmt.Errorf("%w: a manifest of %d octets", ErrFormat, size)
	}
	p.where = "the manifest"
	text, err := p.take(int(size))
	if err != nil {
		return nil, err
	}
	// The error of encoding/json may quote what it does not understand.
	if json.Unmarshal(text, m) != nil || m.Version != Version {
		return nil, fmt.Errorf("%w: its manifest is not readable", ErrFormat)
	}
	if !printable(m.Program) || !printable(m.Domain.DNSName) || !printable(m.Domain.NetBIOSName) {
		return nil, fmt.Errorf("%w: its manifest has characters that steer terminals", ErrFormat)
	}
	return text, nil
}

// Shown is a text out of a backup, which others may have made, for a terminal:
// quoted if something in it would steer that.
func Shown(text string) string {
	if printable(text) {
		return text
	}
	return strconv.Quote(text)
}

func printable(text string) bool {
	return utf8.ValidString(text) && strings.IndexFunc(text, func(c rune) bool { return !unicode.IsPrint(c) }) < 0
}

// entry reads the next entry, if there is one more.
func (p *parser) entry(d *keystore.Dump) (e keystore.DumpEntry, more bool, err error) {
	last := ""
	p.where = "the first entry"
	if n := len(d.Entries); n > 0 {
		last = d.Entries[n-1].Name
		p.where = "the entry after " + Shown(last)
	}
	sizes, err := p.take(entryHeader)
	if err != nil {
		return e, false, err
	}
	name, value := binary.LittleEndian.Uint16(sizes), binary.LittleEndian.Uint32(sizes[2:])
	if name == 0 && value == 0 {
		return e, false, nil
	}
	if name == 0 || name > keystore.MaxNameSize || value > keystore.MaxValueSize {
		return e, false, fmt.Errorf("%w: %s has a name of %d and a value of %d octets", ErrFormat, p.where, name, value)
	}
	text, err := p.take(int(name))
	if err != nil {
		return e, false, err
	}
	e.Name = string(text)
	if e.Name <= last {
		return e, false, fmt.Errorf("%w: entry %q is out of its place", ErrFormat, e.Name)
	}
	p.where = "the entry " + Shown(e.Name)
	e.Value, err = p.take(int(value))
	return e, true, err
}

// end reads the digest, behind which nothing follows.
func (p *parser) end() error {
	want := p.digest.Sum(nil)
	p.where = "the digest"
	got, err := p.take(len(want))
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("%w: its digest is not that of its content", ErrDamaged)
	}
	p.where = "the end"
	switch _, err := p.from.ReadByte(); {
	case err == nil:
		return fmt.Errorf("%w: something follows its end", ErrFormat)
	case err != io.EOF:
		return p.failed(err)
	}
	return nil
}

// step is how much is read at a time: what is claimed to follow may not.
const step = 64 << 10

// take reads n octets.
func (p *parser) take(n int) ([]byte, error) {
	if p.n+int64(n) > MaxSize {
		return nil, fmt.Errorf("%w: it is longer than %d octets", ErrFormat, int64(MaxSize))
	}
	b := make([]byte, 0, min(n, step))
	for len(b) < n {
		more := min(n-len(b), step)
		old := b
		b = slices.Grow(b, more)
		if len(old) > 0 && &old[0] != &b[:1][0] {
			clear(old) // it has been copied to a larger array
		}
		got, err := io.ReadFull(p.from, b[len(b):len(b)+more])
		b = b[:len(b)+got]
		p.n += int64(got)
		if err != nil {
			clear(b)
			return nil, p.failed(err)
		}
	}
	p.digest.Write(b)
	return b, nil
}

// chunkSize is how much of a plaintext age authenticates at a time.
const chunkSize = 64 << 10

// failed says where the file is damaged or ends.
func (p *parser) failed(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it ends in %s", ErrDamaged, p.where)
	}
	from := (p.n + int64(p.from.Buffered())) / chunkSize * chunkSize
	return fmt.Errorf("%w: in %s or up to %d octets behind it, between octets %d and %d of the content: %w",
		ErrDamaged, p.where, chunkSize, from, from+chunkSize, err)
}
