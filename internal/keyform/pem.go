package keyform

import (
	"bytes"
	"encoding/asn1"
	"encoding/pem"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// The labels of RFC 7468, and the older one of a PKCS#1 key.
const (
	labelPKCS8       = "PRIVATE KEY"
	labelPKCS1       = "RSA PRIVATE KEY"
	labelCertificate = "CERTIFICATE"
)

var oidRSAEncryption = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}

// marshalPEM writes the key as PKCS#8 and the certificate as it is.
func marshalPEM(blob, certificate []byte) ([]byte, error) {
	der, err := marshalPKCS8(blob)
	if err != nil {
		return nil, err
	}
	defer clear(der)
	var b bytes.Buffer
	b.Grow(2 * (len(der) + len(certificate))) // or growing would leave copies of the key behind
	if err := pem.Encode(&b, &pem.Block{Type: labelPKCS8, Bytes: der}); err != nil {
		return nil, err
	}
	if err := pem.Encode(&b, &pem.Block{Type: labelCertificate, Bytes: certificate}); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// parsePEM reads one private key and at most one certificate.
func parsePEM(b []byte, given Given) (*Key, error) {
	blob, certificate, err := splitPEM(b)
	defer clear(blob)
	if err != nil {
		return nil, err
	}
	if certificate != nil {
		if given.Certificate != nil && !bytes.Equal(certificate, given.Certificate) {
			return nil, fmt.Errorf("%w: the PEM file has another certificate than the one given", ErrOtherKey)
		}
		given.Certificate = certificate
	}
	return bareKey(blob, given)
}

// splitPEM takes the blocks of a file apart, in any order and with any text
// around them. The key is a blob whose numbers nobody has looked at, and the
// certificate nil if there is none.
func splitPEM(b []byte) (blob, certificate []byte, err error) {
	for {
		block, rest := pem.Decode(b)
		if block == nil {
			break
		}
		b = rest
		err := readBlock(block, &blob, &certificate)
		clear(block.Bytes)
		if err != nil {
			return blob, nil, err
		}
	}
	if bytes.Contains(b, []byte("-----BEGIN ")) {
		return blob, nil, fmt.Errorf("%w: a block of the PEM file is damaged", ErrFormat)
	}
	if blob == nil {
		return nil, nil, fmt.Errorf("%w: the PEM file has no private key", ErrFormat)
	}
	return blob, certificate, nil
}

// readBlock takes in one block. What it keeps is copied.
func readBlock(block *pem.Block, blob, certificate *[]byte) (err error) {
	if len(block.Headers) != 0 {
		return fmt.Errorf("%w: a block of the PEM file is encrypted or has headers; decrypt it first", ErrFormat)
	}
	switch block.Type {
	case labelPKCS8, labelPKCS1:
		if *blob != nil {
			return fmt.Errorf("%w: the PEM file has several private keys; put each in a file of its own", ErrFormat)
		}
		if block.Type == labelPKCS8 {
			*blob, err = parsePKCS8(block.Bytes)
		} else {
			*blob, err = parsePKCS1(block.Bytes)
		}
		return err
	case labelCertificate:
		if *certificate != nil {
			return fmt.Errorf("%w: the PEM file has several certificates", ErrFormat)
		}
		*certificate = bytes.Clone(block.Bytes)
		return nil
	case "ENCRYPTED " + labelPKCS8:
		return fmt.Errorf("%w: the private key of the PEM file is encrypted; decrypt it first", ErrFormat)
	}
	return fmt.Errorf("%w: the PEM file has a block that is neither a private key nor a certificate", ErrFormat)
}

// ParseCertificateFile takes the certificate out of a file in PEM, or in DER as
// it is, without looking into it. The error is ErrFormat.
func ParseCertificateFile(b []byte) ([]byte, error) {
	if !bytes.Contains(b, []byte("-----BEGIN ")) {
		return bytes.Clone(b), nil
	}
	var found []byte
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != labelCertificate {
			continue
		}
		if found != nil {
			return nil, fmt.Errorf("%w: several certificates", ErrFormat)
		}
		found = block.Bytes
	}
	if found == nil {
		return nil, fmt.Errorf("%w: no certificate in the PEM file", ErrFormat)
	}
	return found, nil
}

// marshalPKCS8 writes a PrivateKeyInfo (RFC 5208 5) with an RSAPrivateKey (RFC
// 8017 A.1.2). crypto/x509 would take the key apart and put it together again.
func marshalPKCS8(blob []byte) ([]byte, error) {
	k := readBlob(blob)
	defer k.clear()
	b := cryptobyte.NewBuilder(make([]byte, 0, 2*blobSize))
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Uint64(0)
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(oidRSAEncryption)
			b.AddASN1NULL()
		})
		b.AddASN1(cbasn1.OCTET_STRING, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1Uint64(0)
				addInteger(b, k.n)
				b.AddASN1Uint64(uint64(k.e))
				for _, x := range [][]byte{k.d, k.p, k.q, k.dP, k.dQ, k.qInv} {
					addInteger(b, x)
				}
			})
		})
	})
	return b.Bytes()
}

// addInteger adds a positive INTEGER in its shortest form.
func addInteger(b *cryptobyte.Builder, x []byte) {
	x = bytes.TrimLeft(x, "\x00")
	b.AddASN1(cbasn1.INTEGER, func(b *cryptobyte.Builder) {
		if len(x) == 0 || x[0] >= 0x80 {
			b.AddUint8(0)
		}
		b.AddBytes(x)
	})
}

var errDER = fmt.Errorf("%w: the private key of the PEM file is no PKCS#8 or PKCS#1 key of RSA with two primes", ErrFormat)

func parsePKCS8(der []byte) ([]byte, error) {
	var info, algorithm, key cryptobyte.String
	var version uint
	var oid asn1.ObjectIdentifier
	outer := cryptobyte.String(der)
	if !outer.ReadASN1(&info, cbasn1.SEQUENCE) || !outer.Empty() ||
		!info.ReadASN1Integer(&version) || version > 1 ||
		!info.ReadASN1(&algorithm, cbasn1.SEQUENCE) ||
		!algorithm.ReadASN1ObjectIdentifier(&oid) || !oid.Equal(oidRSAEncryption) ||
		!info.ReadASN1(&key, cbasn1.OCTET_STRING) {
		return nil, errDER
	}
	// Attributes may follow (RFC 5958 2); Windows writes the key's usage there.
	return parsePKCS1(key)
}

func parsePKCS1(der []byte) ([]byte, error) {
	k := new(rsaNumbers)
	defer k.clear()
	var sequence cryptobyte.String
	var version uint
	outer := cryptobyte.String(der)
	ok := outer.ReadASN1(&sequence, cbasn1.SEQUENCE) && outer.Empty() &&
		sequence.ReadASN1Integer(&version) && version == 0 &&
		sequence.ReadASN1Integer(&k.n) && sequence.ReadASN1Integer(&k.e)
	for _, x := range []*[]byte{&k.d, &k.p, &k.q, &k.dP, &k.dQ, &k.qInv} {
		ok = ok && sequence.ReadASN1Integer(x)
	}
	if !ok || !sequence.Empty() {
		return nil, errDER
	}
	return k.blob()
}
