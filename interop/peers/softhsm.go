package peers

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// softHSMProgram is what a SoftHSM needs.
const softHSMProgram = "softhsm2-util"

// SoftHSM is a hardware security module in software, with tokens of its own.
type SoftHSM struct {
	// Module is the PKCS#11 library, and Conf its configuration, which goes into
	// the environment as SOFTHSM2_CONF.
	Module, Conf string
	// PINFile (mode 0600) has the PIN of the users of all tokens.
	PINFile string

	dir string
}

// softHSMPIN is the PIN of users and of security officers.
const softHSMPIN = "4711"

// NewSoftHSM makes a module in a directory, with a token of each label. It
// ends the test unless SoftHSM is installed.
func NewSoftHSM(t testing.TB, dir string, labels ...string) *SoftHSM {
	t.Helper()
	Need(t, softHSMProgram)
	h := &SoftHSM{dir: dir, Conf: filepath.Join(dir, "softhsm2.conf"), PINFile: filepath.Join(dir, "pin")}
	var err error
	if h.Module, err = softHSMModule(); err != nil {
		Unavailable(t, err)
	}
	conf := "directories.tokendir = " + h.TokenDir() + "\nobjectstore.backend = file\nlog.level = ERROR\n"
	err = errors.Join(
		os.MkdirAll(h.TokenDir(), 0o700),
		os.WriteFile(h.Conf, []byte(conf), 0o600),
		os.WriteFile(h.PINFile, []byte(softHSMPIN+"\n"), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	for _, label := range labels {
		h.AddToken(t, label)
	}
	return h
}

// softHSMModule finds the library where distributions put it.
func softHSMModule() (string, error) {
	for _, pattern := range []string{"/usr/lib/softhsm", "/usr/lib/*/softhsm", "/usr/lib64/softhsm", "/usr/local/lib/softhsm", "/usr/lib64/pkcs11"} {
		if found, _ := filepath.Glob(filepath.Join(pattern, "libsofthsm2.so")); len(found) > 0 {
			return found[0], nil
		}
	}
	return "", errors.New("peers: libsofthsm2.so is not where it is expected (script/install-peers installs it)")
}

// TokenDir is the directory of the tokens; without it they are gone.
func (h *SoftHSM) TokenDir() string { return filepath.Join(h.dir, "tokens") }

// Environment is what a program needs to find the tokens.
func (h *SoftHSM) Environment() string { return "SOFTHSM2_CONF=" + h.Conf }

// AddToken makes a token.
func (h *SoftHSM) AddToken(t testing.TB, label string) {
	t.Helper()
	h.util(t, "--init-token", "--free", "--label", label, "--pin", softHSMPIN, "--so-pin", softHSMPIN)
}

// URI is that of a token, or, with a label, of a key in it.
func (h *SoftHSM) URI(token, object string) string {
	uri := "pkcs11:token=" + token
	if object != "" {
		uri += ";object=" + object
	}
	return uri + "?module-path=" + h.Module + "&pin-source=" + h.PINFile
}

func (h *SoftHSM) util(t testing.TB, args ...string) {
	t.Helper()
	cmd := exec.Command(softHSMProgram, args...)
	cmd.Env = append(os.Environ(), h.Environment())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatal(fmt.Errorf("%s %s: %w: %s", softHSMProgram, strings.Join(args, " "), err, out))
	}
}
