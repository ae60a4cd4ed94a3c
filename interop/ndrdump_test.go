package interop

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/rc4"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/interop/peers"
)

// ndrdump reads data as one of the structures of Samba's backupkey.idl and
// gives the fields as text. It fails the test if Samba cannot, leaves octets
// unread, or writes other octets back. The last is not asked of AccessCheck,
// whose padding is random here (3.2.4.1 step 4) and zeros there.
func ndrdump(t *testing.T, structure string, data []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), structure)
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"backupkey", structure, "struct", name}
	if !strings.HasPrefix(structure, "bkrp_access_check") {
		args = append(args, "--validate")
	}
	out, err := exec.CommandContext(t.Context(), "ndrdump", args...).CombinedOutput()
	text := string(out)
	if err != nil || !strings.Contains(text, "pull returned Success") || !strings.Contains(text, "dump OK") || strings.Contains(text, "WARNING") {
		t.Fatalf("ndrdump of %s: %v\n%s", structure, err, text)
	}
	return text
}

// wantField fails unless the text has a line with that name and value.
func wantField(t *testing.T, text, name, value string) {
	t.Helper()
	for line := range strings.Lines(text) {
		n, v, ok := strings.Cut(line, ":")
		if ok && strings.TrimSpace(n) == name && strings.TrimSpace(v) == value {
			return
		}
	}
	t.Errorf("Samba does not read %s as %q:\n%s", name, value, text)
}

var ndrdumpSID = dtyp.MustParseSID("S-1-5-21-1004336348-1177238915-682003330-1103")

// TestNDRDumpClientWrap has Samba read every level of a ClientWrap blob of ours.
func TestNDRDumpClientWrap(t *testing.T) {
	peers.Need(t, "ndrdump")
	pair, err := bkrp.GenerateKeyPair("bkrp.example", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	t.Run("W-2.2.5-01", func(t *testing.T) {
		stored, err := pair.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		text := ndrdump(t, "bkrp_exported_RSA_key_pair", stored)
		wantField(t, text, "certificate_len", fmt.Sprintf("0x%08x (%d)", len(pair.Certificate().Raw), len(pair.Certificate().Raw)))
	})
	for _, tt := range []struct {
		id      string
		version uint32
		header  int
		keySize int
		newer   func([]byte) (cipher.Block, error)
	}{
		{"W-2.2.2-01 v2", 2, 8, 24, des.NewTripleDESCipher},
		{"W-2.2.2-01 v3", 3, 16, 32, aes.NewCipher},
	} {
		t.Run(tt.id, func(t *testing.T) {
			blob, err := bkrp.WrapClient(pair.Certificate(), ndrdumpSID, []byte("a secret"), tt.version)
			if err != nil {
				t.Fatal(err)
			}
			text := ndrdump(t, "bkrp_client_side_wrapped", blob)
			wantField(t, text, "version", fmt.Sprintf("0x%08x (%d)", tt.version, tt.version))
			wantField(t, text, "guid", pair.GUID().String())

			w, err := bkrp.ParseClientWrapped(blob)
			if err != nil {
				t.Fatal(err)
			}
			c := slices.Clone(w.EncryptedSecret)
			slices.Reverse(c)
			em, err := pair.DecryptRaw(c)
			if err != nil {
				t.Fatal(err)
			}
			message := em[3+bytes.IndexByte(em[2:], 0):]
			ndrdump(t, fmt.Sprintf("bkrp_encrypted_secret_v%d", tt.version), message)

			payloadKey := message[tt.header+len("a secret"):]
			block, err := tt.newer(payloadKey[:tt.keySize])
			if err != nil {
				t.Fatal(err)
			}
			check := slices.Clone(w.AccessCheck)
			cipher.NewCBCDecrypter(block, payloadKey[tt.keySize:]).CryptBlocks(check, check)
			text = ndrdump(t, fmt.Sprintf("bkrp_access_check_v%d", tt.version), check)
			wantField(t, text, "sid", ndrdumpSID.String())
			wantField(t, text, "nonce_len", "0x00000020 (32)")
		})
	}
	t.Run("W-2.2.3-01", func(t *testing.T) {
		ndrdump(t, "bkrp_client_side_unwrapped", bkrp.AppendUnwrapped(nil, []byte("a secret")))
	})
}

// TestNDRDumpServerWrap has Samba read a ServerWrap blob and key of ours.
func TestNDRDumpServerWrap(t *testing.T) {
	peers.Need(t, "ndrdump")
	key := bkrp.GenerateServerKey()
	stored, err := key.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("W-2.2.7-01", func(t *testing.T) { ndrdump(t, "bkrp_dc_serverwrap_key", stored) })
	t.Run("W-2.2.4-01", func(t *testing.T) {
		guid := dtyp.MustParseGUID("01234567-89ab-4def-8123-456789abcdef")
		derive := func(salt []byte) [20]byte { return key.Derive(bkrp.SrvKeyFull, salt) }
		blob, err := bkrp.WrapServer(derive, guid, ndrdumpSID, []byte("a secret"))
		if err != nil {
			t.Fatal(err)
		}
		text := ndrdump(t, "bkrp_server_side_wrapped", blob)
		wantField(t, text, "guid", guid.String())
		wantField(t, text, "payload_length", "0x00000008 (8)")

		w, err := bkrp.ParseServerWrapped(blob)
		if err != nil {
			t.Fatal(err)
		}
		symKey := derive(w.R2[:])
		c, err := rc4.NewCipher(symKey[:])
		if err != nil {
			t.Fatal(err)
		}
		plain := slices.Clone(w.Ciphertext)
		c.XORKeyStream(plain, plain)
		text = ndrdump(t, "bkrp_rc4encryptedpayload", plain)
		wantField(t, text, "sid", ndrdumpSID.String())
	})
}
