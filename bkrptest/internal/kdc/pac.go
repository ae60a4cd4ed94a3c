package kdc

import (
	"encoding/binary"
	"errors"
	"strings"
	"time"
	"unicode/utf16"

	"github.com/oiweiwei/gokrb5.fork/v9/crypto"
	"github.com/oiweiwei/gokrb5.fork/v9/types"

	"github.com/seed05845750/bkrp/dtyp"
)

// Kinds of buffers ([MS-PAC] 2.4), the checksum of aes256 (RFC 3962 7) and its
// length, and the key usage of the signatures.
const (
	kindLogonInfo       = 1
	kindServerSignature = 6
	kindKDCSignature    = 7
	kindClientInfo      = 10

	checksumAES256 = 16
	checksumSize   = 12
	usagePAC       = 17
)

var errSID = errors.New("kdc: the user's SID is not one of a domain")

// pac is a privilege attribute certificate ([MS-PAC] 2.3) with both signatures
// (2.8).
func (k *KDC) pac(u User, client types.PrincipalName, authTime time.Time, service types.EncryptionKey) ([]byte, error) {
	logon, err := k.logonInfo(u, authTime)
	if err != nil {
		return nil, err
	}
	empty := append(binary.LittleEndian.AppendUint32(nil, checksumAES256), make([]byte, checksumSize)...)
	buffers := []struct {
		kind uint32
		data []byte
	}{
		{kindLogonInfo, logon}, {kindClientInfo, clientInfo(strings.Join(client.NameString, "/"), authTime)},
		{kindServerSignature, empty}, {kindKDCSignature, empty},
	}
	head := 8 + 16*len(buffers)
	pac := binary.LittleEndian.AppendUint64(nil, uint64(len(buffers))) // cBuffers, and Version 0
	var body []byte
	at := make(map[uint32]int)
	for _, b := range buffers {
		at[b.kind] = head + len(body)
		pac = binary.LittleEndian.AppendUint32(pac, b.kind)
		pac = binary.LittleEndian.AppendUint32(pac, uint32(len(b.data)))
		pac = binary.LittleEndian.AppendUint64(pac, uint64(head+len(body)))
		body = append(body, b.data...)
		body = append(body, make([]byte, -len(body)&7)...)
	}
	pac = append(pac, body...)
	server, err := signature(service, pac)
	if err != nil {
		return nil, err
	}
	kdc, err := signature(k.realm, server)
	if err != nil {
		return nil, err
	}
	copy(pac[at[kindServerSignature]+4:], server)
	copy(pac[at[kindKDCSignature]+4:], kdc)
	return pac, nil
}

func signature(key types.EncryptionKey, data []byte) ([]byte, error) {
	e, err := crypto.GetEtype(key.KeyType)
	if err != nil {
		return nil, err
	}
	return e.GetChecksumHash(key.KeyValue, data, usagePAC)
}

// 2.7 PAC_CLIENT_INFO
func clientInfo(name string, authTime time.Time) []byte {
	units := utf16.Encode([]rune(name))
	b := binary.LittleEndian.AppendUint64(nil, fileTime(authTime))
	b = binary.LittleEndian.AppendUint16(b, uint16(2*len(units)))
	for _, u := range units {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}

// fileTime counts units of 100 ns from 1601 ([MS-DTYP] 2.3.3).
func fileTime(t time.Time) uint64 {
	const epoch = 11644473600 // seconds from 1601 to 1970
	return uint64(t.Unix()+epoch) * 1e7
}

// Time that never comes, and what is said of accounts and their one group.
const (
	never          = 0x7FFFFFFFFFFFFFFF
	normalAccount  = 0x10
	domainUsers    = 513
	groupEnabled   = 7 // mandatory, by default, enabled
	serverName     = "DC1"
	typeHeaderSize = 16
)

// 2.5 KERB_VALIDATION_INFO, in its type serialization, version 1 ([MS-RPCE]
// 2.2.6).
func (k *KDC) logonInfo(u User, authTime time.Time) ([]byte, error) {
	domain, rid, ok := u.SID.Cut()
	if !ok {
		return nil, errSID
	}
	w := &ndrWriter{}
	w.u32(w.referent())
	for _, t := range []uint64{fileTime(authTime), never, never, fileTime(authTime), fileTime(authTime), never} {
		w.u32(uint32(t))
		w.u32(uint32(t >> 32))
	}
	for _, s := range []string{u.Name, u.Name, "", "", "", ""} { // EffectiveName to HomeDirectoryDrive
		w.text(s, 0)
	}
	w.u16(1) // LogonCount
	w.u16(0) // BadPasswordCount
	w.u32(rid)
	w.u32(domainUsers)
	w.u32(1) // GroupCount
	w.u32(w.referent())
	w.later(func() {
		w.u32(1)
		w.u32(domainUsers)
		w.u32(groupEnabled)
	})
	w.u32(0)    // UserFlags
	w.zeros(16) // UserSessionKey
	w.text(serverName, 1)
	w.text(k.cfg.NetBIOSName, 1)
	w.u32(w.referent())
	w.later(func() { w.sid(domain) })
	w.zeros(8) // Reserved1
	w.u32(normalAccount)
	w.zeros(4 + 8 + 8 + 4 + 4) // SubAuthStatus to Reserved3
	w.zeros(4 + 4)             // no extra SIDs
	w.zeros(4 + 4 + 4)         // nor groups of the resource's domain
	w.finish()
	b := binary.LittleEndian.AppendUint64(make([]byte, 0, typeHeaderSize+len(w.b)), 0xCCCCCCCC_00081001)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(w.b)))
	return append(b, w.b...), nil
}

// ndrWriter writes NDR, little-endian: the fixed part first, and then what its
// pointers point to, in their order.
type ndrWriter struct {
	b         []byte
	referents uint32
	deferred  []func()
}

func (w *ndrWriter) align(n int) { w.b = append(w.b, make([]byte, -len(w.b)&(n-1))...) }

func (w *ndrWriter) u16(v uint16) {
	w.align(2)
	w.b = binary.LittleEndian.AppendUint16(w.b, v)
}

func (w *ndrWriter) u32(v uint32) {
	w.align(4)
	w.b = binary.LittleEndian.AppendUint32(w.b, v)
}

func (w *ndrWriter) zeros(n int) { w.b = append(w.b, make([]byte, n)...) }

// referent is the identifier of another pointer that is not NULL.
func (w *ndrWriter) referent() uint32 {
	w.referents += 4
	return 0x20000 + w.referents - 4
}

func (w *ndrWriter) later(f func()) { w.deferred = append(w.deferred, f) }

func (w *ndrWriter) finish() {
	for _, f := range w.deferred {
		f()
	}
	w.align(8)
}

// text is an RPC_UNICODE_STRING ([MS-DTYP] 2.3.10) in a buffer that has space for
// more characters: domain controllers leave that of a terminator in some.
func (w *ndrWriter) text(s string, spare int) {
	units := utf16.Encode([]rune(s))
	w.u16(uint16(2 * len(units)))
	w.u16(uint16(2 * (len(units) + spare)))
	w.u32(w.referent())
	w.later(func() {
		w.u32(uint32(len(units) + spare)) // maximum count, offset, actual count
		w.u32(0)
		w.u32(uint32(len(units)))
		for _, u := range units {
			w.u16(u)
		}
	})
}

// sid is an RPC_SID ([MS-DTYP] 2.4.2.3).
func (w *ndrWriter) sid(s dtyp.SID) {
	b, err := s.AppendBinary(nil)
	if err != nil { // a SID that Cut gave has a binary form
		return
	}
	w.u32(uint32(b[1]))
	w.b = append(w.b, b...)
}
