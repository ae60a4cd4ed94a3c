package interop

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/interop/peers"
)

// keyFiles is a store whose keys go in and out of files by the command line.
type keyFiles struct {
	*testing.T
	bkrpd, dir string
}

func newKeyFiles(t *testing.T) *keyFiles {
	t.Helper()
	k := &keyFiles{T: t, bkrpd: build(t, "bkrpd"), dir: t.TempDir()}
	command(t, "", k.bkrpd, "init", "--dir", k.path("d"), "--domain", "bkrp.example")
	return k
}

func (k *keyFiles) path(name string) string { return filepath.Join(k.dir, name) }

func (k *keyFiles) importFile(arg ...string) {
	k.Helper()
	command(k.T, "", append([]string{k.bkrpd, "keys", "import", "--config", k.path("d/bkrpd.toml")}, arg...)...)
}

// export writes a key in the clear and returns the file.
func (k *keyFiles) export(guid, form string) string {
	k.Helper()
	file := k.path(guid + "." + form)
	command(k.T, "", k.bkrpd, "keys", "export", guid, "--format", form, "--plaintext", "-o", file, "--config", k.path("d/bkrpd.toml"))
	return file
}

func (k *keyFiles) read(file string) []byte {
	k.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		k.Fatal(err)
	}
	return b
}

func (k *keyFiles) write(name string, b []byte) string {
	k.Helper()
	if err := os.WriteFile(k.path(name), b, 0o600); err != nil {
		k.Fatal(err)
	}
	return k.path(name)
}

var modulusLine = regexp.MustCompile(`Modulus=([0-9A-F]+)`)

// modulus is the one that openssl reads in a file.
func (k *keyFiles) modulus(arg ...string) string {
	k.Helper()
	out := command(k.T, "", append(append([]string{"openssl"}, arg...), "-noout", "-modulus")...)
	m := modulusLine.FindStringSubmatch(out)
	if m == nil {
		k.Fatalf("openssl %q gives no modulus: %s", arg, out)
	}
	return m[1]
}

const filedKey = "45cbf2fb-b468-471a-a374-3ca17b50cf3b"

// TestKeyFilesOfOpenSSL takes keys that openssl made, in each form that it
// writes, and gives them back in each form that it and Samba read.
func TestKeyFilesOfOpenSSL(t *testing.T) {
	peers.Need(t, "openssl", "ndrdump")
	for _, tt := range []struct {
		name string
		make []string // from made.pem to the file that is imported
	}{
		{"PKCS8", []string{"pkey", "-in", "made.pem"}},
		{"PKCS1", []string{"pkey", "-in", "made.pem", "-traditional"}},
		{"PVK", []string{"rsa", "-in", "made.pem", "-outform", "PVK", "-pvk-none"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k := newKeyFiles(t)
			command(t, "", "openssl", "genrsa", "-out", k.path("made.pem"), "2048")
			arg := append([]string{"openssl"}, tt.make...)
			for i := range arg {
				arg[i] = strings.Replace(arg[i], "made.pem", k.path("made.pem"), 1)
			}
			command(t, "", append(arg, "-out", k.path("key"))...)
			k.importFile(k.path("key"), "--guid", filedKey)
			want := k.modulus("rsa", "-in", k.path("made.pem"))
			k.openSSLReads(filedKey, want)

			stored := k.read(k.export(filedKey, "lsa"))
			text := ndrdump(t, "bkrp_exported_RSA_key_pair", stored)
			pair, err := bkrp.ParseKeyPair(stored)
			if err != nil {
				t.Fatal(err)
			}
			length := len(pair.Certificate().Raw)
			wantField(t, text, "certificate_len", fmt.Sprintf("0x%08x (%d)", length, length))
		})
	}
}

// openSSLReads has openssl read a key and its certificate in the forms it knows,
// and see that the numbers of the key belong together.
func (k *keyFiles) openSSLReads(guid, modulus string) {
	k.Helper()
	pem, pvk := k.export(guid, "pem"), k.export(guid, "pvk")
	if out := command(k.T, "", "openssl", "pkey", "-in", pem, "-check", "-noout"); !strings.Contains(out, "Key is valid") {
		k.Errorf("openssl of the PEM file: %s", out)
	}
	for what, got := range map[string]string{
		"PEM key":         k.modulus("rsa", "-in", pem),
		"PEM certificate": k.modulus("x509", "-in", pem),
		"PVK key":         k.modulus("rsa", "-in", pvk, "-inform", "PVK"),
	} {
		if got != modulus {
			k.Errorf("%s: another modulus", what)
		}
	}
	// What openssl writes of it again is the same file.
	command(k.T, "", "openssl", "rsa", "-in", pem, "-outform", "PVK", "-pvk-none", "-out", k.path("again.pvk"))
	again, ours := k.read(k.path("again.pvk")), k.read(pvk)
	const keyType = 8 // openssl says AT_SIGNATURE or AT_KEYEXCHANGE as it likes
	if len(again) != len(ours) || string(again[:keyType]) != string(ours[:keyType]) || string(again[keyType+4:24]) != string(ours[keyType+4:24]) ||
		string(again[32:]) != string(ours[32:]) {
		k.Error("openssl writes the PVK file otherwise")
	}
}

// TestKeyFilesOfWindows has openssl and Samba read what was a Windows domain's
// key, with a certificate as Windows issues it.
func TestKeyFilesOfWindows(t *testing.T) {
	peers.Need(t, "openssl", "ndrdump")
	dir := filepath.Join("..", "..", "shared", "vectors", "dsinternals-adatum")
	if _, err := os.Stat(filepath.Dir(dir)); err != nil {
		t.Skipf("no recorded data of real domains: %v", err)
	}
	const client, server = "efe756ec-f87c-493a-902f-259030203445", "585c52d5-1778-4d43-9d7b-c22b4f7e5fa4"
	k := newKeyFiles(t)
	k.importFile(filepath.Join(dir, "lsa_secret_BCKUPKEY_"+client+".bin"))
	k.importFile(filepath.Join(dir, "lsa_secret_BCKUPKEY_"+server+"_serverwrap.bin"))
	k.openSSLReads(client, k.modulus("x509", "-inform", "der", "-in", filepath.Join(dir, "cert.der")))
	ndrdump(t, "bkrp_exported_RSA_key_pair", k.read(k.export(client, "lsa")))
	ndrdump(t, "bkrp_dc_serverwrap_key", k.read(k.export(server, "lsa")))

	// A PEM file as openssl puts it together, with text around the blocks.
	der := k.path("cert.pem")
	command(t, "", "openssl", "x509", "-inform", "der", "-in", filepath.Join(dir, "cert.der"), "-text", "-out", der)
	key := command(t, "", "openssl", "pkey", "-in", k.path(client+".pem"))
	fresh := newKeyFiles(t)
	fresh.importFile(fresh.write("both.pem", append(k.read(der), key...)))
	if string(fresh.read(fresh.export(client, "lsa"))) != string(k.read(k.path(client+".lsa"))) {
		t.Error("openssl's PEM file is imported as another key")
	}
}
