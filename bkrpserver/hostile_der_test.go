package bkrpserver_test

import (
	"bytes"
	"slices"
	"testing"
)

// der is one value in DER (X.690): its tag, the length of what the parts are
// together, and those.
func der(tag byte, parts ...[]byte) []byte {
	body := bytes.Join(parts, nil)
	return slices.Concat([]byte{tag}, derLength(len(body)), body)
}

func derLength(n int) []byte {
	switch {
	case n < 0x80:
		return []byte{byte(n)}
	case n < 1<<8:
		return []byte{0x81, byte(n)}
	case n < 1<<16:
		return []byte{0x82, byte(n >> 8), byte(n)}
	}
	return []byte{0x83, byte(n >> 16), byte(n >> 8), byte(n)}
}

const (
	derInteger   = 0x02
	derBits      = 0x03
	derOctets    = 0x04
	derTime      = 0x18
	derText      = 0x1b // GeneralString
	derSequence  = 0x30
	derApplied   = 0x60 // [APPLICATION 0], constructed
	derExplicit  = 0xa0 // [0], constructed
	derStructure = 0x20 // the bit of constructed values
)

// derField is the value in the explicit tag n.
func derField(n byte, value []byte) []byte { return der(derExplicit|n, value) }

func derInt(v int64) []byte {
	b := []byte{byte(v)}
	for v > 0x7f || v < -0x80 {
		v >>= 8
		b = append([]byte{byte(v)}, b...)
	}
	return der(derInteger, b)
}

// derTree is a value with the values in it, so that one of them can be changed
// with the lengths around it staying right.
type derTree struct {
	tag  byte
	body []byte // of a value that is not constructed
	in   []*derTree
}

// parseDER gives the values that fill b, and false if they do not.
func parseDER(b []byte, depth int) (list []*derTree, ok bool) {
	for len(b) > 0 {
		if len(b) < 2 || depth > 32 {
			return nil, false
		}
		tag, n, head := b[0], int(b[1]), 2
		if n > 0x80 {
			head += n & 0x7f
			if head > 5 || len(b) < head {
				return nil, false
			}
			n = 0
			for _, octet := range b[2:head] {
				n = n<<8 | int(octet)
			}
		}
		if n > len(b)-head {
			return nil, false
		}
		node := &derTree{tag: tag, body: b[head : head+n]}
		if tag&derStructure != 0 {
			if in, ok := parseDER(node.body, depth+1); ok {
				node.in, node.body = in, nil
			}
		}
		list, b = append(list, node), b[head+n:]
	}
	return list, true
}

func (d *derTree) append(dst []byte) []byte {
	body := d.body
	for _, in := range d.in {
		body = in.append(body)
	}
	return append(dst, der(d.tag, body)...)
}

// mutateDER gives a spoilt copy of a message in DER. One value in it is
// changed, dropped, doubled or moved and all else is right, or the octets are
// spoilt without regard to what they are.
func (m *mutator) mutateDER(b []byte) []byte {
	trees, ok := parseDER(b, 0)
	if !ok || len(trees) == 0 || m.one(3) {
		return m.mutate(b)
	}
	root := &derTree{in: trees}
	parent, i := m.pick(root)
	at := parent.in[i]
	switch m.IntN(9) {
	case 0:
		parent.in = slices.Delete(parent.in, i, i+1)
	case 1:
		parent.in = slices.Insert(parent.in, i, at)
	case 2:
		j := m.IntN(len(parent.in))
		parent.in[i], parent.in[j] = parent.in[j], at
	case 3:
		at.tag ^= 1 << m.IntN(8)
	case 4: // a length that lies, or is none
		lengths := [][]byte{{0x80}, {0xff}, {0x84, 0xff, 0xff, 0xff, 0xff}, {0x88, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
			{0x81, 1}, {0x82, 0, 1}, {0}, {0x7f}}
		raw := at.append(nil)
		*at = derTree{tag: at.tag, body: append(bytes.Clone(lengths[m.IntN(len(lengths))]), raw...)}
	case 5: // in itself, again and again
		for range 1 + m.IntN(200) {
			at = &derTree{tag: at.tag | derStructure, in: []*derTree{at}}
		}
		parent.in[i] = at
	case 6:
		at.in, at.body = nil, nil
	case 7: // many of it
		if len(at.append(nil)) < 100 {
			parent.in = slices.Insert(parent.in, i, slices.Repeat([]*derTree{at}, 1+m.IntN(300))...)
		}
	default:
		at.body, at.in = m.mutate(at.append(nil)), nil
	}
	var out []byte
	for _, in := range root.in {
		out = in.append(out)
	}
	if len(out) == 0 || bytes.Equal(out, b) {
		return m.mutate(b)
	}
	return out
}

// pick gives some value, as the i-th in its parent.
func (m *mutator) pick(root *derTree) (parent *derTree, i int) {
	type place struct {
		parent *derTree
		i      int
	}
	var places []place
	var walk func(d *derTree)
	walk = func(d *derTree) {
		for i, in := range d.in {
			places = append(places, place{d, i})
			walk(in)
		}
	}
	walk(root)
	p := places[m.IntN(len(places))]
	return p.parent, p.i
}

func TestDERTree(t *testing.T) {
	b := der(derSequence, derField(0, derInt(5)), derField(1, der(derOctets, make([]byte, 300))), derInt(-129), derInt(128))
	list, ok := parseDER(b, 0)
	if !ok || len(list) != 1 || len(list[0].in) != 4 || !bytes.Equal(list[0].append(nil), b) {
		t.Fatalf("%x comes back as %+v", b, list)
	}
	same := 0
	for i := range 2000 {
		if bytes.Equal(newMutator(1, i).mutateDER(b), b) {
			same++
		}
	}
	if same > 200 {
		t.Errorf("%d of 2000 mutations change nothing", same)
	}
}
