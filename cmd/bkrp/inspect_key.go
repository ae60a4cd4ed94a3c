package main

import (
	"bytes"
	"crypto/rsa"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"time"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/dtyp"
)

// 2.2.5 ClientWrap RSA Key Pair
func inspectKeyPair(data []byte) (*report, error) {
	// The word behind the version is the length of the key, which no wrapped
	// secret of that version has there.
	if !bytes.HasPrefix(data, []byte{2, 0, 0, 0, 0x94, 4, 0, 0}) {
		return nil, errUnknown
	}
	k, err := bkrp.ParseKeyPair(data)
	if err != nil {
		return nil, err
	}
	defer k.Clear()
	r := newReport("key-pair", "ClientWrap key pair of a domain", "2.2.5", data)
	r.add("GUID", "guid", k.GUID().String())
	publicKeyFields(r, k.PublicKey())
	r.octets("private key", "private_key", 1172, "in the clear: whoever has this file opens every secret wrapped under it")
	r.add("numbers consistent", "consistent", k.CRT())
	r.add("certificate", "certificate", certificateReport(k.Certificate()))
	return r, nil
}

// publicKeyFields tell one key from another.
func publicKeyFields(r *report, pub *rsa.PublicKey) {
	r.add("modulus", "modulus_bits", pub.N.BitLen()).note = "bits"
	r.add("modulus SHA-256", "modulus_sha256", fingerprint(pub.N.Bytes())).note = "of its octets, big-endian"
	r.add("public exponent", "public_exponent", pub.E)
}

func inspectPVK(data []byte) (*report, error) {
	if v, ok := firstWord(data); !ok || v != 0xb0b5f11e {
		return nil, errUnknown
	}
	// The file has no name and no date; those given here stand in for them and
	// are not shown.
	k, err := bkrp.KeyPairFromPVK(data, dtyp.GUID{15: 1}, "inspect.invalid", time.Unix(0, 0))
	if err != nil {
		return nil, err
	}
	defer k.Clear()
	r := newReport("pvk", "PVK file, not encrypted", "", data)
	publicKeyFields(r, k.PublicKey())
	r.octets("private key", "private_key", 1172, "in the clear: whoever has this file opens every secret wrapped under it")
	r.add("numbers consistent", "consistent", k.CRT())
	return r, nil
}

// 2.2.7 ServerWrap key
func inspectServerKey(data []byte) (*report, error) {
	if v, ok := firstWord(data); !ok || v != 1 || len(data) != bkrp.ServerKeySize {
		return nil, errUnknown
	}
	// A ServerWrap secret may be as long; it says so itself.
	if _, err := bkrp.ParseServerWrapped(data); err == nil {
		return nil, errUnknown
	}
	k, err := bkrp.ParseServerKey(data)
	if err != nil {
		return nil, err
	}
	k.Clear()
	r := newReport("server-key", "ServerWrap key of a domain", "2.2.7", data)
	r.octets("Key", "key", bkrp.ServerKeySize-4, "in the clear: whoever has this file opens every secret wrapped under it")
	return r, nil
}

// inspectPointer takes the 16 octets that the secrets G$BCKUPKEY_P and
// G$BCKUPKEY_PREFERRED hold. Any 16 octets are a GUID.
func inspectPointer(data []byte) (*report, error) {
	if len(data) != dtyp.GUIDSize {
		return nil, errUnknown
	}
	r := newReport("key-pointer", "pointer to a domain's current key", "3.1.4.1.1, 3.1.4.1.3", data)
	guid := dtyp.GUID(data).String()
	r.add("GUID", "guid", guid)
	r.add("names the secret", "secret_name", "G$BCKUPKEY_"+guid)
	return r, nil
}

// 2.2.1 Server public key, DER or PEM
func inspectCertificate(data []byte) (*report, error) {
	der := data
	if block, _ := pem.Decode(data); block != nil {
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("inspecting PEM: it holds %q, which is neither a certificate nor a private key", block.Type)
		}
		der = block.Bytes
	}
	if len(der) < 2 || der[0] != 0x30 || der[1] != 0x82 {
		return nil, errUnknown
	}
	c, err := bkrp.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return certificateReport(c), nil
}

func certificateReport(c *bkrp.Certificate) *report {
	const layout = "2006-01-02T15:04:05Z"
	r := newReport("certificate", "certificate of a domain's public key", "2.2.1", c.Raw)
	r.add("version", "version", c.Version).note = fmt.Sprintf("X.509 v%d", c.Version+1)
	r.add("subjectUniqueID", "guid", c.GUID.String()).note = "the key's GUID"
	r.add("issuerUniqueID the same", "issuer_unique_id_matches", bytes.Equal(c.IssuerUniqueID, c.GUID[:]))
	r.add("serial number", "serial", hex.EncodeToString(c.Serial))
	r.add("serial is the GUID", "serial_matches", c.SerialIsGUID())
	r.add("subject", "subject", c.Subject)
	r.add("issuer", "issuer", c.Issuer)
	r.add("not before", "not_before", c.NotBefore.Format(layout))
	r.add("not after", "not_after", c.NotAfter.Format(layout)).note = "servers and clients go on using it"
	publicKeyFields(r, c.PublicKey)
	r.add("signature algorithm", "signature_algorithm", c.SignatureAlgorithm.String())
	r.add("SHA-256", "sha256", fingerprint(c.Raw)).note = "of the certificate"
	signed := c.CheckSignature()
	r.add("signed by itself", "self_signed", signed == nil)
	if signed != nil {
		r.fields[len(r.fields)-1].note = signed.Error()
	}
	return r
}
