package doctor

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/binary"
	"fmt"
	"math/big"
	"slices"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/dtyp"
)

// stranger is a SID that no caller has.
var stranger = dtyp.MustParseSID("S-1-5-21-1-1-1-1234567")

// clientProbes are malformed ClientWrap secrets of one version (2.2.2). Each
// but those from outside is a good one with one thing wrong.
func clientProbes(cert *bkrp.Certificate, sid dtyp.SID, version uint32) ([]probe, error) {
	canary := newCanary()
	defer clear(canary)
	good, err := bkrp.WrapClient(cert, sid, canary, version)
	if err != nil {
		return nil, err
	}
	foreign, err := bkrp.WrapClient(cert, stranger, canary, version)
	if err != nil {
		return nil, err
	}
	w, err := bkrp.ParseClientWrapped(good)
	if err != nil {
		return nil, err
	}
	list := []probe{
		{owner, "another one's SID", bkrp.ActionRestore, foreign},
		{outside, "half of it", bkrp.ActionRestore, good[:len(good)/2]},
		{outside, "one octet less", bkrp.ActionRestore, good[:len(good)-1]},
	}
	unknown := *w
	unknown.KeyGUID[0] ^= 0xFF
	blob, err := unknown.AppendBinary(nil)
	if err != nil {
		return nil, err
	}
	list = append(list, probe{outside, "an unknown key", bkrp.ActionRestore, blob})
	for _, m := range messages(cert.PublicKey.Size(), version) {
		changed := *w
		changed.EncryptedSecret = encryptRaw(cert.PublicKey, m.em)
		if blob, err = changed.AppendBinary(nil); err != nil {
			return nil, fmt.Errorf("%s: %w", m.name, err)
		}
		list = append(list, probe{m.kind, m.name, bkrp.ActionRestore, blob})
	}
	for _, at := range []struct {
		name string
		at   int
	}{{"first octet of the AccessCheck", 0}, {"middle of the AccessCheck", len(w.AccessCheck) / 2}, {"hash of the AccessCheck", len(w.AccessCheck) - 1}} {
		changed := *w
		changed.AccessCheck = slices.Clone(w.AccessCheck)
		changed.AccessCheck[at.at] ^= 0x01
		if blob, err = changed.AppendBinary(nil); err != nil {
			return nil, fmt.Errorf("%s: %w", at.name, err)
		}
		list = append(list, probe{access, at.name, bkrp.ActionRestore, blob})
	}
	return list, nil
}

// message is an encoded message before RSA (RFC 8017 7.2.1).
type message struct {
	kind probeKind
	name string
	em   []byte
}

// messages are encoded messages, each wrong in its own way, as long as the
// modulus.
func messages(size int, version uint32) []message {
	secret := secretStructure(version)
	wrong := func(change func(em []byte)) []byte {
		em := pad(size, secret)
		change(em)
		return em
	}
	structure := func(change func(m []byte) []byte) []byte {
		return pad(size, change(slices.Clone(secret)))
	}
	return []message{
		{padding, "block type 1", wrong(func(em []byte) { em[1] = 1 })},
		{padding, "block type 0", wrong(func(em []byte) { em[1] = 0 })},
		{padding, "no leading zero", wrong(func(em []byte) { em[0] = 1 })},
		{padding, "padding of 2 octets", wrong(func(em []byte) { em[4] = 0 })},
		{padding, "no end of the padding", wrong(func(em []byte) {
			for i := 2; i < len(em); i++ {
				em[i] |= 1
			}
		})},
		{padding, "random octets", wrong(func(em []byte) { rand.Read(em[1:]); em[0], em[1] = 0, em[1]|4 })},
		{content, "no message", structure(func([]byte) []byte { return nil })},
		{content, "4 octets of message", structure(func(m []byte) []byte { return m[:4] })},
		{content, "a message of random octets", structure(func(m []byte) []byte { rand.Read(m); return m })},
		{content, "cbSecret too long", structure(func(m []byte) []byte { m[1] = 0x10; return m })},
		{content, "wrong length of the key", structure(func(m []byte) []byte { m[4]++; return m })},
		{access, "another payload key", structure(func(m []byte) []byte { return m })},
	}
}

// secretStructure is an EncryptedSecret of a random secret and a random key
// (2.2.2.1, 2.2.2.2).
func secretStructure(version uint32) []byte {
	words, key := []uint32{canarySize, 0x20}, 32
	if version == bkrp.ClientWrappedVersion3 {
		words, key = []uint32{canarySize, 0x30, 0x6610, 0x800e}, 48
	}
	var m []byte
	for _, w := range words {
		m = binary.LittleEndian.AppendUint32(m, w)
	}
	random := make([]byte, canarySize+key)
	rand.Read(random)
	return append(m, random...)
}

// pad is 00 02 PS 00 M, with PS of octets that are not zero.
func pad(size int, m []byte) []byte {
	em := make([]byte, size)
	ps := em[2 : size-len(m)-1]
	rand.Read(ps)
	for i := range ps {
		ps[i] |= 1
	}
	em[1] = 2
	copy(em[size-len(m):], m)
	return em
}

// encryptRaw is the public operation on em as it is, least significant octet
// first. What is not below the modulus comes back as something else.
func encryptRaw(public *rsa.PublicKey, em []byte) []byte {
	c := new(big.Int).Exp(new(big.Int).SetBytes(em), big.NewInt(int64(public.E)), public.N)
	b := c.FillBytes(make([]byte, public.Size()))
	slices.Reverse(b)
	return b
}

// serverProbes are a ServerWrap secret with changes to what its MAC protects
// (2.2.4, 2.2.4.1): R3, the MAC, the SID and the secret, in that order in the
// ciphertext.
func serverProbes(good []byte) ([]probe, error) {
	w, err := bkrp.ParseServerWrapped(good)
	if err != nil {
		return nil, err
	}
	list := []probe{
		{outside, "half of it", bkrp.ActionRestoreWin2K, good[:len(good)/2]},
	}
	add := func(kind probeKind, name string, change func(w *bkrp.ServerWrapped)) error {
		changed := *w
		changed.Ciphertext = slices.Clone(w.Ciphertext)
		change(&changed)
		blob, err := changed.AppendBinary(nil)
		list = append(list, probe{kind, name, bkrp.ActionRestoreWin2K, blob})
		return err
	}
	const r3, mac, sid = 0, 32, 52
	if err := add(outside, "an unknown key", func(w *bkrp.ServerWrapped) { w.KeyGUID[0] ^= 0xFF }); err != nil {
		return nil, err
	}
	if err := add(sealed, "R2", func(w *bkrp.ServerWrapped) { w.R2[0] ^= 1 }); err != nil {
		return nil, err
	}
	for _, at := range []struct {
		name  string
		at    int
		flips byte
	}{
		{"R3", r3, 1}, {"the MAC", mac, 1}, {"the SID's revision", sid, 1}, {"the SID's count", sid + 1, 0x80},
		{"the SID's last octet", sid + 27, 1}, {"the secret", len(w.Ciphertext) - 1, 1},
	} {
		if err := add(sealed, at.name, func(w *bkrp.ServerWrapped) { w.Ciphertext[at.at] ^= at.flips }); err != nil {
			return nil, err
		}
	}
	return list, nil
}
