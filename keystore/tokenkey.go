package keystore

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/le"
)

var (
	// ErrNoToken says that the private half of a key is in a token, and that
	// the Store has been given none. It is no answer to whether there is such a
	// key.
	ErrNoToken = errors.New("keystore: the private key is in a token, and none is configured (hsm.token)")
	// ErrNotExportable says that the private half of a key is in a token and does
	// not come out: there is no form of [MS-BKRP] 2.2.5 of it.
	ErrNotExportable = errors.New("keystore: the private key is in a token and cannot be read out of it")
)

// Tokens keeps private keys of the ClientWrap subprotocol where they do not
// come out of: in a hardware module. All calls come to an end in bounded time,
// also where the token does not answer. It is safe for concurrent use.
type Tokens interface {
	// Name names the token to the operator. It is not secret.
	Name() string
	// Generate makes an RSA key of 2048 bits that cannot be extracted, under an
	// identity of 16 octets. It is durable when Generate returns.
	Generate(ctx context.Context, id []byte, label string) (*rsa.PublicKey, error)
	// DecryptRaw is the RSA operation of the private key of that identity and
	// public half without unpadding, big-endian, 256 octets in. The result may
	// lack leading zeros.
	DecryptRaw(ctx context.Context, id []byte, public *rsa.PublicKey, ciphertext []byte) ([]byte, error)
}

// A key pair whose private half is in a token is kept as (integers are
// little-endian)
//
//	magic        4 octets, "BKTK"
//	version      4 octets, 1
//	cbID         4 octets
//	cbToken      4 octets
//	cbCert       4 octets
//	rejection    32 octets, random, for the answers to wrong padding
//	id           cbID octets, what the token knows the key by (CKA_ID)
//	token        cbToken octets, its name when the key was made, for messages
//	certificate  cbCert octets, DER (2.2.1)
//
// Neither a key pair (2.2.5) nor a server key (2.2.7) begins like this: their
// first words are 2 and 1.
const (
	tokenRecordMagic   = 0x4b544b42
	tokenRecordVersion = 1
	tokenRecordHeader  = 5*4 + rejectionSize
	rejectionSize      = 32
	// maxTokenID bounds an identity, and maxTokenName a name, in octets.
	maxTokenID   = 255
	maxTokenName = 1024
)

// tokenRecord is the entry of such a key.
type tokenRecord struct {
	rejection   [rejectionSize]byte
	id          []byte
	token       string
	certificate *bkrp.Certificate
}

// isTokenRecord says whether the secret of a key is a tokenRecord.
func isTokenRecord(secret []byte) bool {
	return len(secret) >= tokenRecordHeader && binary.LittleEndian.Uint32(secret) == tokenRecordMagic
}

// parseTokenRecord reads a record that fills b, and copies it.
func parseTokenRecord(b []byte) (*tokenRecord, error) {
	c := le.NewCursor(b)
	magic, version := c.Uint32(), c.Uint32()
	idSize, nameSize, certificateSize := c.Uint32(), c.Uint32(), c.Uint32()
	r := new(tokenRecord)
	c.Fill(r.rejection[:])
	r.id = slices.Clone(c.Bytes(uint64(idSize)))
	r.token = string(c.Bytes(uint64(nameSize)))
	der := slices.Clone(c.Bytes(uint64(certificateSize)))
	if err := c.Done(); err != nil {
		return nil, err
	}
	if magic != tokenRecordMagic || version != tokenRecordVersion {
		return nil, fmt.Errorf("keystore: record of a key in a token has version %d, this program knows %d", version, tokenRecordVersion)
	}
	if idSize == 0 || idSize > maxTokenID || nameSize > maxTokenName {
		return nil, errors.New("keystore: record of a key in a token is not readable")
	}
	var err error
	r.certificate, err = bkrp.ParseCertificate(der)
	return r, err
}

// append is the inverse of parseTokenRecord.
func (r *tokenRecord) append(b []byte) []byte {
	// At once, so that no secret stays behind in an outgrown array.
	b = slices.Grow(b, tokenRecordHeader+len(r.id)+len(r.token)+len(r.certificate.Raw))
	for _, word := range []int{tokenRecordMagic, tokenRecordVersion, len(r.id), len(r.token), len(r.certificate.Raw)} {
		b = binary.LittleEndian.AppendUint32(b, uint32(word))
	}
	b = append(b, r.rejection[:]...)
	b = append(b, r.id...)
	b = append(b, r.token...)
	return append(b, r.certificate.Raw...)
}

// parseTokenKey reads the record of a key. It does not ask the token, which may
// be away: the key is there nevertheless.
func (s *Store) parseTokenKey(guid dtyp.GUID, secret []byte) (*ClientWrapKey, error) {
	r, err := parseTokenRecord(secret)
	if err != nil {
		return nil, fmt.Errorf("%w: %v: %w", ErrMalformedKey, guid, err)
	}
	defer clear(r.rejection[:])
	if r.certificate.GUID != guid {
		return nil, fmt.Errorf("%w: %v: certificate names key %v", ErrMalformedKey, guid, r.certificate.GUID)
	}
	return s.newTokenKeyOf(r)
}

func (s *Store) newTokenKeyOf(r *tokenRecord) (*ClientWrapKey, error) {
	public := r.certificate.PublicKey
	// The protocol's calls are not cut off halfway; Tokens limits the time.
	raw, err := bkrp.ProveRaw(public, s.rawByToken(context.Background(), r.id, r.token, public))
	if err != nil {
		return nil, fmt.Errorf("%w: %v: %w", ErrMalformedKey, r.certificate.GUID, err)
	}
	id, token := r.id, r.token
	try := func(ctx context.Context) error {
		raw, err := bkrp.ProveRaw(public, s.rawByToken(ctx, id, token, public))
		if err != nil {
			return err
		}
		probe := make([]byte, public.Size())
		rand.Read(probe[1:]) // and so below the modulus
		_, err = raw(probe)
		return err
	}
	k := &ClientWrapKey{
		try:         try,
		guid:        r.certificate.GUID,
		certificate: r.certificate.Raw,
		raw:         raw,
		rejection:   bkrp.NewRejectionKey(r.rejection[:]),
	}
	wipeAfter(k, k.rejection)
	return k, nil
}

// rawByToken is the private operation of a key in the token, as long as ctx lasts.
func (s *Store) rawByToken(ctx context.Context, id []byte, name string, public *rsa.PublicKey) bkrp.RawRSA {
	public = &rsa.PublicKey{N: new(big.Int).Set(public.N), E: public.E}
	return func(c []byte) ([]byte, error) {
		if s.tokens == nil {
			return nil, fmt.Errorf("%w: it was made in %s", ErrNoToken, name)
		}
		return s.tokens.DecryptRaw(ctx, id, public, c)
	}
}

// newTokenKey makes a key pair whose private half stays in the token, and its
// record. The private exponent is not known here, and so the rejection key is
// drawn and kept, for every replica to have the same.
func (s *Store) newTokenKey(ctx context.Context) (*ClientWrapKey, []byte, error) {
	if s.tokens == nil {
		return nil, nil, ErrNoToken
	}
	guid := bkrp.NewKeyGUID()
	r := &tokenRecord{id: guid[:], token: s.tokens.Name()}
	r.token = r.token[:min(len(r.token), maxTokenName)]
	rand.Read(r.rejection[:])
	defer clear(r.rejection[:])
	public, err := s.tokens.Generate(ctx, r.id, "BackupKey "+guid.String())
	if err != nil {
		return nil, nil, fmt.Errorf("in %s: %w", r.token, err)
	}
	raw := s.rawByToken(ctx, r.id, r.token, public)
	if r.certificate, err = bkrp.IssueCertificate(public, raw, guid, s.domain.DNSName, s.now()); err != nil {
		return nil, nil, err
	}
	k, err := s.newTokenKeyOf(r)
	if err != nil {
		return nil, nil, err
	}
	s.log.Info("made a private key in a token; it is in no backup of the store", "key", guid, "token", r.token)
	return k, r.append(nil), nil
}
