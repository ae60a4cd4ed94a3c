package boltstore

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"

	"github.com/seed05845750/bkrp/keystore"
)

// The layout of a bbolt file, format 2, in the byte order of the machine. A
// page is a header of 16 octets (id 8, flags 2, count 2, overflow 4) and its
// elements; one with overflow spans that many pages more.
const (
	boltMagic      = 0xED0CDAED
	boltVersion    = 2
	noFreelist     = 1<<64 - 1
	pageHeaderSize = 16
	elementSize    = 16
	metaSize       = 64
	bucketSize     = 16 // a bucket's value: root page 8, sequence 8

	branchPage   = 0x01
	leafPage     = 0x02
	freelistPage = 0x10
	bucketFlag   = 0x01

	minPageSize = 1 << 10
	maxPageSize = 1 << 16
	maxDepth    = 32 // of the tree; one of that depth has more entries than a disk
)

var order = binary.NativeEndian

// meta is one of the two roots of the file.
type meta struct {
	pageSize uint32
	root     uint64
	freelist uint64
	pages    uint64 // in use: every page number is below it
	txid     uint64
}

// checker walks a file. It reads and follows nothing that bbolt would not,
// and checks each number before it is used.
type checker struct {
	file io.ReaderAt
	meta
	used    []bool // pages that have been found to belong somewhere
	lastKey []byte // the key before, in the tree being walked
	floor   []byte // keys to come may not be below it, or a search would miss them
}

// check reports whether bbolt can map and use a file of that size. It reads
// each page in use once. Every error is keystore.ErrCorrupt, except those of
// reading.
func check(file io.ReaderAt, size int64) error {
	m, err := readMeta(file, size)
	if err != nil {
		return err
	}
	c := &checker{file: file, meta: m, used: make([]bool, m.pages)}
	if err := c.claim(0, 1); err != nil { // the pages of the two metas
		return err
	}
	if err := c.freePages(); err != nil {
		return err
	}
	if err := c.tree(m.root, 0, true); err != nil {
		return err
	}
	// A page that is nowhere was cut from the tree, with all that stands in it.
	for id, used := range c.used {
		if !used {
			return corrupt("page %d is neither free nor part of a tree", id)
		}
	}
	return nil
}

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s", keystore.ErrCorrupt, fmt.Sprintf(format, args...))
}

// readMeta finds the newer of the two meta pages. bbolt takes the older one where
// the newer is damaged, and loses the last change without a word; here both have
// to be whole. A crash leaves them so: what counts of a meta page is in one sector
// of the disk, and the page before it is on the disk.
func readMeta(file io.ReaderAt, size int64) (best meta, err error) {
	first, ok, err := metaAt(file, size, 0)
	if err != nil {
		return meta{}, err
	}
	// The second meta stands on the second page, whose place is known only
	// from the first; if that is broken, the sizes are tried.
	metas := make([]meta, 0, 2)
	if ok {
		metas = append(metas, first)
	}
	for at := int64(minPageSize); at <= maxPageSize; at <<= 1 {
		if ok && at != int64(first.pageSize) {
			continue
		}
		second, valid, err := metaAt(file, size, at)
		if err != nil {
			return meta{}, err
		}
		if valid && int64(second.pageSize) == at {
			metas = append(metas, second)
		}
	}
	switch {
	case len(metas) == 0:
		return meta{}, corrupt("it is not a bbolt file, or both of its meta pages are damaged")
	case !ok || len(metas) != 2:
		good, bad := 0, 1
		if !ok {
			good, bad = 1, 0
		}
		return meta{}, corrupt("meta page %d is damaged, and the last change may stand there alone. Restore a backup, "+
			"or do without that change: copy meta page %d over it (bbolt surgery copy-page)", bad, good)
	}
	if best = metas[0]; metas[1].txid > best.txid {
		best = metas[1]
	}
	if best.pages < 3 || best.pages > uint64(size)/uint64(best.pageSize) {
		return meta{}, corrupt("it has %d octets and should have %d pages of %d; it was truncated",
			size, best.pages, best.pageSize)
	}
	return best, nil
}

// metaAt reads the meta on the page at an offset, and says whether it is one.
func metaAt(file io.ReaderAt, size, at int64) (m meta, ok bool, err error) {
	if size-at < pageHeaderSize+metaSize {
		return meta{}, false, nil
	}
	var b [metaSize]byte
	if _, err := file.ReadAt(b[:], at+pageHeaderSize); err != nil {
		return meta{}, false, fmt.Errorf("reading a meta page: %w", err)
	}
	h := fnv.New64a()
	h.Write(b[:metaSize-8])
	if order.Uint32(b[0:]) != boltMagic || order.Uint32(b[4:]) != boltVersion ||
		order.Uint64(b[metaSize-8:]) != h.Sum64() {
		return meta{}, false, nil
	}
	m = meta{
		pageSize: order.Uint32(b[8:]),
		root:     order.Uint64(b[16:]),
		freelist: order.Uint64(b[32:]),
		pages:    order.Uint64(b[40:]),
		txid:     order.Uint64(b[48:]),
	}
	n := m.pageSize
	return m, n >= minPageSize && n <= maxPageSize && n&(n-1) == 0, nil
}

// claim marks a page and those it overflows to as belonging somewhere.
func (c *checker) claim(id uint64, overflow uint32) error {
	if id >= c.pages || uint64(overflow) >= c.pages-id {
		return corrupt("page %d with %d more is beyond the end", id, overflow)
	}
	for i := id; i <= id+uint64(overflow); i++ {
		if c.used[i] {
			return corrupt("page %d is in use twice", i)
		}
		c.used[i] = true
	}
	return nil
}

// page claims and reads a page with its overflow.
func (c *checker) page(id uint64) (flags, count uint16, b []byte, err error) {
	if id >= c.pages {
		return 0, 0, nil, corrupt("page %d is beyond the end", id)
	}
	at := int64(id) * int64(c.pageSize)
	var h [pageHeaderSize]byte
	if _, err := c.file.ReadAt(h[:], at); err != nil {
		return 0, 0, nil, fmt.Errorf("reading page %d: %w", id, err)
	}
	if self := order.Uint64(h[0:]); self != id {
		return 0, 0, nil, corrupt("page %d says it is page %d", id, self)
	}
	overflow := order.Uint32(h[12:])
	if err := c.claim(id, overflow); err != nil {
		return 0, 0, nil, err
	}
	b = make([]byte, (int64(overflow)+1)*int64(c.pageSize))
	if _, err := c.file.ReadAt(b, at); err != nil {
		return 0, 0, nil, fmt.Errorf("reading page %d: %w", id, err)
	}
	return order.Uint16(h[8:]), order.Uint16(h[10:]), b, nil
}

// freePages claims the free pages, and those of the list itself.
func (c *checker) freePages() error {
	if c.freelist == noFreelist {
		return corrupt("it has no list of free pages")
	}
	flags, count, b, err := c.page(c.freelist)
	if err != nil {
		return err
	}
	if flags != freelistPage {
		return corrupt("page %d is not a list of free pages", c.freelist)
	}
	ids := b[pageHeaderSize:]
	n := uint64(count)
	if count == 0xFFFF { // the count stands in the first element
		n, ids = order.Uint64(ids), ids[8:]
	}
	if n > uint64(len(ids)/8) {
		return corrupt("list of free pages is longer than its page")
	}
	var last uint64
	for i := range n {
		id := order.Uint64(ids[8*i:])
		if id <= last {
			return corrupt("list of free pages is not sorted")
		}
		if err := c.claim(id, 0); err != nil {
			return err
		}
		last = id
	}
	return nil
}

// tree walks the pages below id. buckets says that the entries are buckets,
// as those of the topmost tree are and no others.
func (c *checker) tree(id uint64, depth int, buckets bool) error {
	if depth > maxDepth {
		return corrupt("tree is deeper than %d", maxDepth)
	}
	flags, count, b, err := c.page(id)
	if err != nil {
		return err
	}
	switch flags {
	case leafPage:
		return c.leaf(id, int(count), b, depth, buckets)
	case branchPage:
		return c.branch(id, int(count), b, depth, buckets)
	}
	return corrupt("page %d is not part of a tree", id)
}

// branch checks the elements of a branch page (pos 4, ksize 4, page 8).
func (c *checker) branch(id uint64, count int, b []byte, depth int, buckets bool) error {
	if count == 0 {
		return corrupt("branch page %d is empty", id)
	}
	if err := firstBehindElements(id, count, 0, b); err != nil {
		return err
	}
	var last []byte
	for i := range count {
		at, e, err := element(id, i, b)
		if err != nil {
			return err
		}
		key, err := slice(id, b, at, order.Uint32(e[0:]), order.Uint32(e[4:]))
		if err != nil {
			return err
		}
		if i > 0 && bytes.Compare(last, key) >= 0 {
			return corrupt("keys of page %d are not sorted", id)
		}
		last = key
		if i > 0 {
			if c.lastKey != nil && bytes.Compare(c.lastKey, key) >= 0 {
				return corrupt("page %d leads past a key", id)
			}
			c.floor = key
		}
		if err := c.tree(order.Uint64(e[8:]), depth+1, buckets); err != nil {
			return err
		}
	}
	return nil
}

// leaf checks the elements of a leaf page (flags 4, pos 4, ksize 4, vsize 4).
func (c *checker) leaf(id uint64, count int, b []byte, depth int, buckets bool) error {
	// bbolt keeps an empty bucket in its parent, as nothing but a page's header.
	if count == 0 && !buckets && len(b) > pageHeaderSize {
		return corrupt("page %d is empty", id)
	}
	if err := firstBehindElements(id, count, 4, b); err != nil {
		return err
	}
	for i := range count {
		at, e, err := element(id, i, b)
		if err != nil {
			return err
		}
		flags, pos, ksize := order.Uint32(e[0:]), order.Uint32(e[4:]), order.Uint32(e[8:])
		key, err := slice(id, b, at, pos, ksize)
		if err != nil {
			return err
		}
		value, err := slice(id, b, at+int(ksize), pos, order.Uint32(e[12:]))
		if err != nil {
			return err
		}
		if len(key) == 0 || bytes.Compare(key, c.floor) < 0 ||
			c.lastKey != nil && bytes.Compare(c.lastKey, key) >= 0 {
			return corrupt("keys of page %d are not sorted", id)
		}
		if (flags == bucketFlag) != buckets || flags&^bucketFlag != 0 {
			return corrupt("page %d has an entry of the wrong kind", id)
		}
		if buckets {
			floor := c.floor
			c.lastKey, c.floor = nil, nil
			if err := c.bucket(id, value, depth); err != nil {
				return err
			}
			c.floor = floor
		}
		c.lastKey = bytes.Clone(key)
	}
	return nil
}

// bucket checks a bucket's value, behind which a small bucket stands itself.
func (c *checker) bucket(id uint64, value []byte, depth int) error {
	if len(value) < bucketSize {
		return corrupt("page %d has a bucket that is cut short", id)
	}
	if root := order.Uint64(value); root != 0 {
		return c.tree(root, depth+1, false)
	}
	inline := value[bucketSize:]
	if len(inline) < pageHeaderSize || order.Uint16(inline[8:]) != leafPage {
		return corrupt("page %d has a bucket without entries' page", id)
	}
	return c.leaf(id, int(order.Uint16(inline[10:])), inline, depth+1, false)
}

// firstBehindElements checks that what the first element points to, by its number
// at posAt, begins where the last element ends: otherwise there were more of them,
// or fewer.
func firstBehindElements(id uint64, count, posAt int, b []byte) error {
	if count == 0 {
		return nil
	}
	_, e, err := element(id, 0, b)
	if err != nil {
		return err
	}
	if order.Uint32(e[posAt:]) != uint32(count*elementSize) {
		return corrupt("page %d has another number of entries than it says", id)
	}
	return nil
}

// element returns the i-th element of a page and where it begins.
func element(id uint64, i int, b []byte) (at int, e []byte, err error) {
	at = pageHeaderSize + i*elementSize
	if at+elementSize > len(b) {
		return 0, nil, corrupt("page %d has more elements than room", id)
	}
	return at, b[at : at+elementSize], nil
}

// slice returns size octets of a page, pos behind the element at.
func slice(id uint64, b []byte, at int, pos, size uint32) ([]byte, error) {
	from := uint64(at) + uint64(pos)
	if end := from + uint64(size); end > uint64(len(b)) {
		return nil, corrupt("page %d has an entry that reaches beyond it", id)
	}
	return b[from : from+uint64(size)], nil
}
