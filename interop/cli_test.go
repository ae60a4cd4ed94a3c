package interop

import (
	"bytes"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed05845750/bkrp/interop/peers"
)

// Exit codes of bkrp that the tests tell apart.
const (
	bkrpOK      = 0
	bkrpLogon   = 3
	bkrpRefused = 4
)

// bkrp runs our client command against the target as one of its users.
func (g target) bkrp(t *testing.T, who peers.Credentials, stdin []byte, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte(who.Password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	args = append([]string{build(t, "bkrp"), args[0], "--server", net.JoinHostPort(g.host, g.port),
		"-U", who.Domain + `\` + who.User}, args[1:]...)
	return try(t, []string{"BKRP_PASSWORD_FILE=" + password}, string(stdin), args...)
}

// Our client against a server that has never heard of it.
func TestOursOnSamba(t *testing.T) {
	sambaTarget(t, DC(t)).client(t)
}

// The same against our own server.
func TestOursOnOurs(t *testing.T) {
	peers.Need(t, "bash")
	startBkrpd(t, options{}).target().client(t)
}

// client is what a user does with bkrp, on any server.
func (g target) client(t *testing.T) {
	alice, bob := g.login(peers.Alice), g.login(peers.Bob)
	t.Run("sid", func(t *testing.T) {
		out, stderr, code := g.bkrp(t, alice, nil, "sid")
		if want := g.sid(peers.Alice); code != bkrpOK || strings.TrimSpace(out) != want {
			t.Errorf("exit code %d, %q, want %s: %s", code, out, want, stderr)
		}
	})
	t.Run("cert", func(t *testing.T) {
		out, stderr, code := g.bkrp(t, alice, nil, "cert", "--json")
		var cert struct {
			Key  string
			Bits int
			Size int
		}
		if err := json.Unmarshal([]byte(out), &cert); code != bkrpOK || err != nil {
			t.Fatalf("exit code %d, %v, %q: %s", code, err, out, stderr)
		}
		if len(cert.Key) != 36 || cert.Bits != 2048 || cert.Size < 512 {
			t.Errorf("a certificate of 2048 bits with its GUID should be there: %s", out)
		}
	})
	t.Run("wrong password", func(t *testing.T) {
		wrong := alice
		wrong.Password += "x"
		if out, stderr, code := g.bkrp(t, wrong, nil, "cert"); code != bkrpLogon || out != "" {
			t.Errorf("exit code %d, want %d: %q %s", code, bkrpLogon, out, stderr)
		}
	})
	// A secret may hold anything, so these hold what a text would not.
	secret := []byte("\x00line\r\n\xff\x00")
	for _, way := range []struct {
		name   string
		secret []byte
		args   []string
	}{
		{"ClientWrap 2", secret, []string{"--mode", "client", "--version", "2"}},
		{"ClientWrap 2, longest C-3.2.4.1", bytes.Repeat([]byte{0x55}, 205), []string{"--mode", "client", "--version", "2"}},
		{"ClientWrap 3", secret, []string{"--mode", "client", "--version", "3"}},
		{"ClientWrap 3, longest C-3.2.4.1", bytes.Repeat([]byte{0xAA}, 181), []string{"--mode", "client", "--version", "3"}},
		{"ServerWrap", secret, []string{"--mode", "server"}},
		{"ServerWrap, several fragments", bytes.Repeat(secret, 5000), []string{"--mode", "server"}},
	} {
		t.Run(way.name, func(t *testing.T) {
			blob, stderr, code := g.bkrp(t, alice, way.secret, append([]string{"wrap"}, way.args...)...)
			if code != bkrpOK || len(blob) <= len(way.secret) || bytes.Contains([]byte(blob), way.secret) {
				t.Fatalf("wrapping: exit code %d, %d octets: %s", code, len(blob), stderr)
			}
			opened, stderr, code := g.bkrp(t, alice, []byte(blob), "unwrap")
			if code != bkrpOK || opened != string(way.secret) {
				t.Errorf("its owner: exit code %d, %d octets, want %d: %s", code, len(opened), len(way.secret), stderr)
			}
			opened, stderr, code = g.bkrp(t, bob, []byte(blob), "unwrap")
			if code != bkrpRefused || opened != "" {
				t.Errorf("another user: exit code %d, %d octets, want %d and none: %s", code, len(opened), bkrpRefused, stderr)
			}
			broken := []byte(blob)
			broken[len(broken)-1] ^= 1
			opened, stderr, code = g.bkrp(t, alice, broken, "unwrap")
			if code != bkrpRefused || opened != "" {
				t.Errorf("a broken blob: exit code %d, %d octets, want %d and none: %s", code, len(opened), bkrpRefused, stderr)
			}
		})
	}
}

// A blob is opened by what did not make it: impacket's of ours, and ours of
// impacket's, on the same server.
func TestBlobsAcrossClients(t *testing.T) {
	needImpacket(t)
	for _, server := range []struct {
		name  string
		start func() target
	}{
		{"Samba", func() target { return sambaTarget(t, DC(t)) }},
		{"bkrpd", func() target { return startBkrpd(t, options{}).target() }},
	} {
		t.Run(server.name, func(t *testing.T) {
			g := server.start()
			secret := octets("across clients")
			theirs := g.impacket(t, peers.Alice, ndr, []octets{secret}, call{"BACKUP", secret})
			blobs := []octets{theirs.Results[0].Data}
			for _, w := range theirs.Wrapped {
				blobs = append(blobs, w.Blob)
			}
			for i, blob := range blobs {
				out, stderr, code := g.bkrp(t, g.login(peers.Alice), blob, "unwrap")
				if code != bkrpOK || out != string(secret) {
					t.Errorf("blob %d of impacket's: exit code %d, %d octets: %s", i, code, len(out), stderr)
				}
			}
			for _, version := range []string{"2", "3"} {
				blob, stderr, code := g.bkrp(t, g.login(peers.Alice), secret, "wrap", "--mode", "client", "--version", version)
				if code != bkrpOK {
					t.Fatalf("wrapping: exit code %d: %s", code, stderr)
				}
				r := g.impacket(t, peers.Alice, ndr, nil, call{"RESTORE", octets(blob)}).Results[0]
				if want := append(make([]byte, 4), secret...); r.Status != 0 || !bytes.Equal(r.Data, want) {
					t.Errorf("our blob, version %s: status %#x and %d octets", version, r.Status, len(r.Data))
				}
			}
		})
	}
}
