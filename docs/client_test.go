package docs_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/bkrpclient"
	"github.com/seed05845750/bkrp/bkrptest"
)

func config(server, domain, user string, password bkrpclient.Password) bkrpclient.Config {
	return bkrpclient.Config{
		Server:     server, // "dc1.example.com"
		Credential: bkrpclient.Credential{Domain: domain, User: user, Password: password},
	}
}

func wrapAndRecover(ctx context.Context, cfg bkrpclient.Config, passphrase []byte) ([]byte, error) {
	c, err := bkrpclient.Dial(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	blob, err := c.Wrap(ctx, passphrase, bkrpclient.WrapOptions{})
	if err != nil {
		return nil, err
	}
	return c.Unwrap(ctx, blob)
}

func wrapInDomain(ctx context.Context, cfg bkrpclient.DomainConfig, secrets [][]byte) ([][]byte, error) {
	d, err := bkrpclient.OpenDomain(cfg)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	blobs := make([][]byte, len(secrets))
	for i, secret := range secrets {
		if blobs[i], err = d.Wrap(ctx, secret, bkrpclient.WrapOptions{Version: 3}); err != nil {
			return nil, err
		}
	}
	return blobs, nil
}

func advice(err error) string {
	switch {
	case errors.Is(err, bkrpclient.ErrLogon):
		return "check the name and the password"
	case errors.Is(err, bkrp.StatusInvalidAccess):
		return "the secret is another user's, or was altered"
	case errors.Is(err, bkrpclient.ErrNoServer):
		return "no domain controller answers"
	}
	return "try again later"
}

func TestClientGoCode(t *testing.T) {
	goIsRun(t, "client.md", "client_test.go", 4)
	d := bkrptest.NewDomain(t)
	alice := d.User("alice")

	cfg := config(d.Addr(), d.NetBIOSName, alice.Name, alice.Password)
	got, err := wrapAndRecover(t.Context(), cfg, []byte("correct horse"))
	if err != nil || string(got) != "correct horse" {
		t.Errorf("%q, %v", got, err)
	}
	wrong := config(d.Addr(), d.NetBIOSName, alice.Name, "wrong")
	if _, err := wrapAndRecover(t.Context(), wrong, []byte("x")); advice(err) != "check the name and the password" {
		t.Errorf("of a wrong password: %v", err)
	}

	blobs, err := wrapInDomain(t.Context(), alice.InDomain(), [][]byte{[]byte("one"), []byte("two")})
	if err != nil || len(blobs) != 2 {
		t.Fatalf("%d blobs, %v", len(blobs), err)
	}
	bob, err := bkrpclient.Dial(t.Context(), d.User("bob").NTLM())
	if err != nil {
		t.Fatal(err)
	}
	defer bob.Close()
	if _, err := bob.Unwrap(t.Context(), blobs[1]); advice(err) != "the secret is another user's, or was altered" {
		t.Errorf("of another's secret: %v", err)
	}
}

// The commands of docs/client.md are run as they stand there, in a shell.
func TestClientCommands(t *testing.T) {
	d := bkrptest.NewDomain(t)
	alice := d.User("alice")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "password"), []byte(alice.Password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	sh := shell{dir: dir, env: []string{
		"PATH=" + programs(t) + ":" + os.Getenv("PATH"), "HOME=" + dir,
		"SERVER=" + d.Addr(), `OWNER=` + d.NetBIOSName + `\` + alice.Name, "BKRP_PASSWORD_FILE=password",
	}}
	var script strings.Builder
	for _, block := range blocks(t, "client.md", "sh", 2) {
		script.WriteString(block)
	}
	out := sh.run(t, script.String(), "")
	if !strings.Contains(out, "Client-Side-Wrapped Secret") || !strings.HasSuffix(out, "it opens\n") {
		t.Errorf("the commands print %q", out)
	}
	made, err := os.ReadFile(filepath.Join(dir, "disk.key"))
	if err != nil || len(made) != 32 {
		t.Fatalf("%d octets, %v", len(made), err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "recovered.key")); err != nil || string(got) != string(made) {
		t.Errorf("what was recovered is not what was wrapped: %d octets, %v", len(got), err)
	}
}
