package docs_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/bkrpclient"
	"github.com/seed05845750/bkrp/bkrptest"
	"github.com/seed05845750/bkrp/internal/doctest"
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

// The commands and the code of docs/client.md, as they stand there.
func TestClient(t *testing.T) {
	doc := doctest.Open(t, "client.md")
	doc.Go("client_test.go")
	d := bkrptest.NewDomain(t)
	alice := d.User("alice")
	t.Run("Go", func(t *testing.T) { clientCode(t, d, alice) })

	sh, dir := newShell(t, "BKRP_PASSWORD_FILE=password")
	write(t, filepath.Join(dir, "password"), string(alice.Password)+"\n")
	replace := []string{"dc1.example.com", d.Addr(), `EXAMPLE\alice`, d.NetBIOSName + `\` + alice.Name}
	doc.Follow(doctest.Script{Shell: sh, Replace: replace, Steps: map[string]doctest.Step{
		`bkrp unwrap --server $SERVER -U "$OWNER" -i disk.wrapped -o recovered.key`: {After: func(doctest.Result) {
			made, err := os.ReadFile(filepath.Join(dir, "disk.key"))
			if err != nil || len(made) != 32 {
				t.Fatalf("%d octets, %v", len(made), err)
			}
			if got, err := os.ReadFile(filepath.Join(dir, "recovered.key")); err != nil || string(got) != string(made) {
				t.Errorf("what was recovered is not what was wrapped: %d octets, %v", len(got), err)
			}
		}},
		"bkrp inspect disk.wrapped": {After: func(r doctest.Result) { want(t, "inspect", r.Stdout, "^Client-Side-Wrapped Secret") }},
		`bkrp unwrap --server $SERVER -U "$OWNER" -i disk.wrapped >/dev/null…`: {After: func(r doctest.Result) {
			if r.Stdout != "it opens\n" {
				t.Errorf("it says %q", r.Stdout)
			}
		}},
	}})
}

func clientCode(t *testing.T, d *bkrptest.Domain, alice *bkrptest.User) {
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
