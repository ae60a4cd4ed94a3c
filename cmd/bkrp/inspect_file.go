package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"time"

	"filippo.io/age/armor"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/dpapi"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/keyform"
)

// inspectPEMKey takes PEM files with a private key, which may come with its
// certificate.
func inspectPEMKey(data []byte) (*report, error) {
	if form, err := keyform.Detect(data); err != nil || form != keyform.PEM || !bytes.Contains(data, []byte("PRIVATE KEY-----")) {
		return nil, errUnknown
	}
	named := true
	k, err := keyform.Parse(keyform.PEM, data, keyform.Given{})
	if errors.Is(err, keyform.ErrNoGUID) {
		// What stands in for the certificate is not shown.
		named = false
		k, err = keyform.Parse(keyform.PEM, data, keyform.Given{GUID: dtyp.GUID{15: 1}, Domain: "inspect.invalid", Now: time.Unix(0, 0)})
	}
	if err != nil {
		return nil, err
	}
	defer k.Clear()
	pair, err := bkrp.ParseKeyPair(k.Secret)
	if err != nil {
		return nil, err
	}
	defer pair.Clear()
	r := newReport("pem-key", "private key in PEM, not encrypted", "", data)
	if named {
		r.add("GUID", "guid", pair.GUID().String())
	}
	publicKeyFields(r, pair.PublicKey())
	r.octets("file", "file", len(data), "the key is in the clear: whoever has this file opens every secret wrapped under it")
	r.add("numbers consistent", "consistent", pair.CRT())
	if named {
		r.add("certificate", "certificate", certificateReport(pair.Certificate()))
	}
	return r, nil
}

// ageIntro begins an age file that is not armored (age-encryption.org/v1).
const ageIntro = "age-encryption.org/v1\n"

// maxAgeHeader bounds what is read of an age file, in octets.
const maxAgeHeader = 64 << 10

// inspectAge looks at the head of an age file, where it says to how many
// recipients it is encrypted, and of what types.
func inspectAge(data []byte) (*report, error) {
	var in io.Reader = bytes.NewReader(data)
	armored := bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte(armor.Header))
	switch {
	case armored:
		in = armor.NewReader(in)
	case !bytes.HasPrefix(data, []byte(ageIntro)):
		return nil, errUnknown
	}
	types, err := ageRecipients(bufio.NewReader(io.LimitReader(in, maxAgeHeader)))
	if err != nil {
		return nil, err
	}
	r := newReport("age-file", "file encrypted by age", "", data)
	r.add("armored", "armored", armored)
	r.add("recipients", "recipients", len(types)).note = strings.Join(types, ", ")
	r.octets("file", "file", len(data), "encrypted; bkrpd exports keys and makes backups so, and an identity of one of the recipients opens it")
	return r, nil
}

// ageRecipients are the types of the recipients, as the header has them: each
// begins a line with an arrow, and a line with dashes ends the header.
func ageRecipients(in *bufio.Reader) (types []string, err error) {
	malformed := errors.New("inspecting an age file: its head is malformed")
	for first := true; ; first = false {
		line, err := in.ReadString('\n')
		if err != nil || first && line != ageIntro {
			return nil, malformed
		}
		if strings.HasPrefix(line, "---") {
			break
		}
		words := strings.Fields(line)
		if len(words) < 2 || words[0] != "->" {
			continue
		}
		if strings.ContainsFunc(words[1], func(c rune) bool { return c <= ' ' || c > '~' }) {
			return nil, malformed
		}
		types = append(types, words[1])
	}
	if len(types) == 0 {
		return nil, malformed
	}
	return types, nil
}

// inspectBareKey takes as many octets as a master key has, which look like
// nothing else: a master key in the clear is all there is of that length here.
func inspectBareKey(data []byte) (*report, error) {
	if len(data) != dpapi.MasterKeySize || printable(data) {
		return nil, errUnknown
	}
	r := newReport("bare-secret", "octets without any structure", "", data)
	r.octets("length", "data", len(data), "that of a DPAPI master key in the clear, as unwrapping gives it; nothing tells whether it is one")
	return r, nil
}

// printable says whether data is text on the face of it.
func printable(data []byte) bool {
	for _, c := range data {
		if (c < ' ' || c > '~') && c != '\n' && c != '\r' && c != '\t' {
			return false
		}
	}
	return true
}
