package bkrpserver_test

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/oiweiwei/gokrb5.fork/v9/crypto"
	"github.com/oiweiwei/gokrb5.fork/v9/crypto/etype"

	"github.com/seed05845750/bkrp/bkrpclient"
	"github.com/seed05845750/bkrp/dtyp"
)

const (
	hostileRealm = "BKRP.TEST"
	// hostileHost is the server's name in tickets: clients that know it by its
	// address ask for one of this name.
	hostileHost = "127.0.0.1"
)

// Encryption types (RFC 3962, RFC 8009) and the checksums that go with them.
// gokrb5 has no keys of the right length for type 20.
var hostileETypes = []int32{17, 18, 19}

func checksumOf(etype int32) uint32 {
	if etype < 19 {
		return uint32(etype - 2)
	}
	return uint32(etype)
}

// hostileKDC makes the tickets of a domain for one server, whose keys it
// shares. Messages are written from RFC 4120 and [MS-PAC], the cryptography is
// that of gokrb5: nothing of it is the server's own.
type hostileKDC struct {
	keytab string           // its path
	keys   map[int32][]byte // by encryption type
	kvno   uint32
	// LOGON_INFO and UPN_DNS_INFO that a domain controller made for alice, and
	// who she is.
	logon, names []byte
	sid          dtyp.SID
}

// startHostileKDC makes the keys, and a keytab file with them.
func startHostileKDC(t *testing.T) *hostileKDC {
	t.Helper()
	k := &hostileKDC{
		keytab: filepath.Join(t.TempDir(), "keytab"), keys: make(map[int32][]byte), kvno: 3,
		sid: dtyp.MustParseSID("S-1-5-21-2278770526-3179308356-4268549237-1103"),
	}
	file := []byte{5, 2}
	for _, e := range hostileETypes {
		k.keys[e] = randomSecret(etypeOf(e).GetKeyByteSize())
		r := binary.BigEndian.AppendUint16(nil, 2)
		for _, s := range []string{hostileRealm, "host", hostileHost} {
			r = append(binary.BigEndian.AppendUint16(r, uint16(len(s))), s...)
		}
		r = binary.BigEndian.AppendUint32(r, 3) // NT-SRV-HST
		r = binary.BigEndian.AppendUint32(r, 0)
		r = append(r, byte(k.kvno))
		r = binary.BigEndian.AppendUint16(r, uint16(e))
		r = append(binary.BigEndian.AppendUint16(r, uint16(len(k.keys[e]))), k.keys[e]...)
		file = append(binary.BigEndian.AppendUint32(file, uint32(len(r))), r...)
	}
	if err := os.WriteFile(k.keytab, file, 0o600); err != nil {
		t.Fatal(err)
	}
	pac, err := os.ReadFile("../internal/gss/pac/testdata/samba-alice.pac")
	if err != nil {
		t.Fatal(err)
	}
	buffer := func(i int) []byte {
		entry := pac[8+16*i:]
		return pac[binary.LittleEndian.Uint64(entry[8:]):][:binary.LittleEndian.Uint32(entry[4:])]
	}
	k.logon, k.names = buffer(0), buffer(2)
	return k
}

// etypeOf is one of hostileETypes, all of which gokrb5 knows.
func etypeOf(id int32) etype.EType {
	e, _ := crypto.GetEtype(id)
	return e
}

// The messages of a logon at which it can be spoilt, from the inside to the
// outside. What is outside of a stage is made as it should be, with the
// checksums and ciphertexts of what was spoilt.
type stage int

const (
	stageLogonInfo     stage = iota // of the PAC
	stageClientInfo                 // of the PAC
	stageUPNDNSInfo                 // of the PAC
	stageRequestor                  // of the PAC
	stagePACTable                   // kinds, sizes and offsets
	stageSignedPAC                  // behind its signature's back
	stageAuthData                   // around the PAC
	stageTicketPart                 // the ticket before it is sealed
	stageTicketCipher               // and after it
	stageTicket                     // around the ciphertext
	stageChecksum                   // the flags of the context
	stageAuthenticator              // before it is sealed
	stageAuthCipher                 // and after it
	stageAPReq
	stageToken      // in its frame
	stageThirdPart  // the client's AP-REP before it is sealed
	stageThirdToken // and after it
	stages
)

// refused tells whether nobody may log on by what was spoilt at the stage:
// somebody without the keys could have done it.
func (s stage) refused() bool {
	return s == stageSignedPAC || s == stageTicketCipher || s == stageAuthCipher
}

// spoiler changes the message of one stage; nil changes none.
type spoiler func(s stage, b []byte) []byte

func (f spoiler) at(s stage, b []byte) []byte {
	if f == nil {
		return b
	}
	return f(s, b)
}

// hostileTicket is a ticket and what its client has to know.
type hostileTicket struct {
	der     []byte
	session int32 // the session key's encryption type
	key     []byte
	client  string
	realm   string
}

// ticketOrder says what kind of ticket is to be made.
type ticketOrder struct {
	client, realm string
	service       string // class of the service
	etype         int32
	session       int32
	spoil         spoiler
}

var aliceOrder = ticketOrder{client: aliceName, realm: hostileRealm, service: "cifs", etype: 18, session: 18}

func (k *hostileKDC) ticket(o ticketOrder) *hostileTicket {
	now := time.Now().UTC().Truncate(time.Second)
	auth := now.Add(-time.Minute)
	t := &hostileTicket{session: o.session, client: o.client, realm: o.realm}
	t.key = randomSecret(etypeOf(o.session).GetKeyByteSize())
	pac := k.pac(o, auth)
	relevant := authorization(1, o.spoil.at(stageAuthData, authorization(128, pac)))
	part := der(derApplied|3, der(derSequence,
		derField(0, der(derBits, []byte{0, 0x40, 0x20, 0, 0})),
		derField(1, krbKey(o.session, t.key)),
		derField(2, der(derText, []byte(o.realm))),
		derField(3, krbName(1, o.client)),
		derField(4, der(derSequence, derField(0, derInt(1)), derField(1, der(derOctets)))),
		derField(5, krbTime(auth)),
		derField(6, krbTime(auth)),
		derField(7, krbTime(now.Add(10*time.Hour))),
		derField(10, relevant)))
	cipher := krbSeal(o.etype, k.keys[o.etype], 2, o.spoil.at(stageTicketPart, part))
	t.der = o.spoil.at(stageTicket, der(derApplied|1, der(derSequence,
		derField(0, derInt(5)),
		derField(1, der(derText, []byte(hostileRealm))),
		derField(2, krbName(2, o.service, hostileHost)),
		derField(3, krbSealed(o.etype, k.kvno, o.spoil.at(stageTicketCipher, cipher))))))
	return t
}

// Kinds of the PAC's signatures ([MS-PAC] 2.4).
const (
	serverSignature = 6
	kdcSignature    = 7
)

// pac is a privilege attribute certificate ([MS-PAC] 2.3), signed by the
// service's key.
func (k *hostileKDC) pac(o ticketOrder, auth time.Time) []byte {
	const epoch = 11644473600 // seconds from 1601 to 1970
	name := utf16.Encode([]rune(o.client))
	info := binary.LittleEndian.AppendUint64(nil, uint64(auth.Unix()+epoch)*1e7)
	info = binary.LittleEndian.AppendUint16(info, uint16(2*len(name)))
	for _, u := range name {
		info = binary.LittleEndian.AppendUint16(info, u)
	}
	e := etypeOf(o.etype)
	size := e.GetHMACBitLength() / 8
	sum := append(binary.LittleEndian.AppendUint32(nil, checksumOf(o.etype)), make([]byte, size)...)
	requestor, _ := k.sid.AppendBinary(nil)
	buffers := []struct {
		kind uint32
		data []byte
	}{
		{1, o.spoil.at(stageLogonInfo, k.logon)}, {0xa, o.spoil.at(stageClientInfo, info)},
		{0xc, o.spoil.at(stageUPNDNSInfo, k.names)}, {0x12, o.spoil.at(stageRequestor, requestor)},
		{serverSignature, sum}, {kdcSignature, sum},
	}
	head := 8 + 16*len(buffers)
	table := binary.LittleEndian.AppendUint64(nil, uint64(len(buffers)))
	var body []byte
	at := make(map[uint32]int)
	for _, b := range buffers {
		at[b.kind] = head + len(body)
		table = binary.LittleEndian.AppendUint32(table, b.kind)
		table = binary.LittleEndian.AppendUint32(table, uint32(len(b.data)))
		table = binary.LittleEndian.AppendUint64(table, uint64(head+len(body)))
		body = append(body, b.data...)
		body = append(body, make([]byte, -len(body)&7)...)
	}
	spoilt := o.spoil.at(stagePACTable, table)
	shift := len(spoilt) - len(table)
	pac := append(bytes.Clone(spoilt), body...)
	signature, err := e.GetChecksumHash(k.keys[o.etype], pac, 17)
	if err != nil {
		return nil // never: the key is as long as it should be
	}
	copy(pac[at[serverSignature]+shift+4:], signature)
	rand.Read(pac[at[kdcSignature]+shift+4:][:size]) // of the KDC, which nobody here can judge
	// The KDC's is what the server's does not cover.
	return slices.Concat(o.spoil.at(stageSignedPAC, pac[:at[kdcSignature]+shift]), pac[at[kdcSignature]+shift:])
}

// authorization is AuthorizationData of one element (RFC 4120 5.2.6).
func authorization(kind int64, data []byte) []byte {
	return der(derSequence, der(derSequence, derField(0, derInt(kind)), derField(1, der(derOctets, data))))
}

func krbTime(t time.Time) []byte { return der(derTime, []byte(t.UTC().Format("20060102150405Z"))) }

func krbName(kind int64, parts ...string) []byte {
	var list []byte
	for _, p := range parts {
		list = append(list, der(derText, []byte(p))...)
	}
	return der(derSequence, derField(0, derInt(kind)), derField(1, der(derSequence, list)))
}

func krbKey(etype int32, key []byte) []byte {
	return der(derSequence, derField(0, derInt(int64(etype))), derField(1, der(derOctets, key)))
}

// krbSealed is EncryptedData (RFC 4120 5.2.9); version 0 is none.
func krbSealed(etype int32, version uint32, cipher []byte) []byte {
	var kvno []byte
	if version != 0 {
		kvno = derField(1, derInt(int64(version)))
	}
	return der(derSequence, derField(0, derInt(int64(etype))), kvno, derField(2, der(derOctets, cipher)))
}

// krbSeal is the encryption function of RFC 3961 3. It fails for keys of a
// wrong length only, which nobody makes here.
func krbSeal(etype int32, key []byte, usage uint32, plain []byte) []byte {
	_, cipher, err := etypeOf(etype).EncryptMessage(key, plain, usage)
	if err != nil {
		return nil
	}
	return cipher
}

// ccache writes a credential cache with tickets for the server, as kinit and
// kvno would leave it, and gives the configuration of a client that uses it.
func (k *hostileKDC) client(t *testing.T, addr, client string) bkrpclient.Config {
	t.Helper()
	counted := func(b, v []byte) []byte { return append(binary.BigEndian.AppendUint32(b, uint32(len(v))), v...) }
	principal := func(b []byte, kind uint32, parts ...string) []byte {
		b = binary.BigEndian.AppendUint32(b, kind)
		b = counted(binary.BigEndian.AppendUint32(b, uint32(len(parts))), []byte(hostileRealm))
		for _, p := range parts {
			b = counted(b, []byte(p))
		}
		return b
	}
	file := principal([]byte{5, 4, 0, 0}, 1, client)
	for _, service := range []string{"cifs", "host"} {
		o := aliceOrder
		o.client, o.service = client, service
		ticket := k.ticket(o)
		file = principal(principal(file, 1, client), 2, service, hostileHost)
		file = counted(binary.BigEndian.AppendUint16(file, uint16(ticket.session)), ticket.key)
		now := uint32(time.Now().Unix())
		for _, at := range []uint32{now - 60, now - 60, now + 36000, 0} {
			file = binary.BigEndian.AppendUint32(file, at)
		}
		file = append(file, make([]byte, 1+4+4+4)...) // no second key, flags, addresses, restrictions
		file = counted(counted(file, ticket.der), nil)
	}
	path := filepath.Join(t.TempDir(), "ccache")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	return bkrpclient.Config{
		Server: addr, Timeout: hangTime, RequireMutual: true,
		Credential: bkrpclient.Credential{Kerberos: &bkrpclient.Kerberos{CCache: path, Conf: os.DevNull}},
	}
}

// strangers are clients that have nothing to do with alice.
func stranger(n int) string { return fmt.Sprintf("stranger%06d", n) }
