package main

import (
	"encoding/binary"
	"fmt"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/dpapi"
	"github.com/seed05845750/bkrp/dtyp"
)

// firstWord is the 32-bit word at the head of data.
func firstWord(data []byte) (uint32, bool) {
	if len(data) < 4 {
		return 0, false
	}
	return binary.LittleEndian.Uint32(data), true
}

// 2.2.2 Client-Side-Wrapped-Secret
func inspectClientWrapped(data []byte) (*report, error) {
	if v, ok := firstWord(data); !ok || v != bkrp.ClientWrappedVersion2 && v != bkrp.ClientWrappedVersion3 {
		return nil, errUnknown
	}
	w, err := bkrp.ParseClientWrapped(data)
	if err != nil {
		return nil, err
	}
	ciphers, section := "3DES and SHA-1", "2.2.2, version 2"
	if w.Version == bkrp.ClientWrappedVersion3 {
		ciphers, section = "AES-256 and SHA-512", "2.2.2, version 3"
	}
	r := newReport(clientWrapped, "Client-Side-Wrapped Secret", section, data)
	r.add("dwVersion", "version", int(w.Version)).note = ciphers
	r.add("guidKey", "key", w.KeyGUID.String()).note = "the domain's key pair that opens it"
	r.octets("EncryptedSecret", "encrypted_secret", len(w.EncryptedSecret), fmt.Sprintf("RSA of %d bits", 8*len(w.EncryptedSecret)))
	r.octets("AccessCheck", "access_check", len(w.AccessCheck), "encrypted; holds the owner's SID")
	r.add("secret at most", "secret_limit", bkrp.MaxClientSecret(len(w.EncryptedSecret), w.Version)).note = "octets"
	return r, nil
}

// 2.2.4 ServerWrap secret
func inspectServerWrapped(data []byte) (*report, error) {
	if v, ok := firstWord(data); !ok || v != bkrp.ServerWrappedVersion {
		return nil, errUnknown
	}
	w, err := bkrp.ParseServerWrapped(data)
	if err != nil {
		return nil, err
	}
	r := newReport(serverWrapped, "ServerWrap secret", "2.2.4", data)
	r.add("GUID_of_Wrapping_Key", "key", w.KeyGUID.String()).note = "the domain's symmetric key that opens it"
	r.octets("Payload_Length", "secret", int(w.PayloadLength), "the secret")
	r.octets("R2", "r2", len(w.R2), "salt")
	r.octets("Rc4EncryptedPayload", "payload", len(w.Ciphertext), "encrypted; holds the owner's SID")
	const overhead = 32 + 20
	sid := len(w.Ciphertext) - overhead - int(w.PayloadLength)
	fits := sid >= 8 && sid <= dtyp.MaxSIDSize && sid%4 == 0
	r.add("lengths leave a SID", "consistent", fits)
	return r, nil
}

// inspectMasterKeyFile looks for the GUID that stands as text behind three
// words.
func inspectMasterKeyFile(data []byte) (*report, error) {
	if v, ok := firstWord(data); !ok || v > 2 || len(data) < 128 || data[28] != '-' || data[29] != 0 {
		return nil, errUnknown
	}
	f, err := dpapi.ParseMasterKeyFile(data)
	if err != nil {
		return nil, err
	}
	r := newReport("master-key-file", "DPAPI master key file", "", data)
	r.add("version", "version", int(f.Version))
	r.add("GUID", "guid", f.GUID.String()).note = "the master key"
	r.add("policy", "policy", fmt.Sprintf("0x%x", f.Policy))
	for _, part := range []struct {
		name, key string
		k         *dpapi.EncryptedKey
	}{{"master key", "master_key", f.MasterKey}, {"backup key", "backup_key", f.BackupKey}} {
		if part.k != nil {
			r.add(part.name, part.key, encryptedKeyReport(part.k))
		}
	}
	if f.CredHist != nil {
		r.add("credential history", "credential_history", f.CredHist.GUID.String())
	}
	if f.DomainKey == nil {
		r.add("domain key", "domain_key", "none").note = "no domain can recover this master key"
		return r, nil
	}
	sub, err := inspectClientWrapped(f.DomainKey)
	if err != nil {
		sub, err = inspectServerWrapped(f.DomainKey)
	}
	if err != nil {
		return nil, err
	}
	r.add("domain key", "domain_key", sub)
	return r, nil
}

func encryptedKeyReport(k *dpapi.EncryptedKey) *report {
	r := &report{kind: "encrypted-key", title: "key under a password or a secret of the machine", size: 32 + len(k.Ciphertext)}
	r.add("version", "version", int(k.Version))
	r.octets("salt", "salt", len(k.Salt), "")
	r.add("iterations", "iterations", int(k.Iterations))
	r.add("hash", "hash", k.Hash.String())
	r.add("cipher", "cipher", k.Cipher.String())
	r.octets("ciphertext", "ciphertext", len(k.Ciphertext), "")
	return r
}

func inspectRoamed(data []byte) (*report, error) {
	if len(data) < 132 || data[0] != '%' || data[2] != '\\' {
		return nil, errUnknown
	}
	c, err := dpapi.ParseRoamedCredential(data)
	if err != nil {
		return nil, err
	}
	r := newReport("roamed-credential", "roamed credential", "", data)
	r.add("kind", "credential_kind", string(c.Kind))
	r.add("name", "name", c.Name)
	r.add("modified", "modified", c.Modified.Format("2006-01-02T15:04:05Z"))
	r.add("flags", "flags", fmt.Sprintf("0x%x", c.Flags))
	if c.Kind != dpapi.RoamedMasterKey {
		r.octets("data", "data", len(c.Data), "not shown")
		return r, nil
	}
	sub, err := inspectMasterKeyFile(c.Data)
	if err != nil {
		return nil, err
	}
	r.add("data", "data", sub)
	return r, nil
}
