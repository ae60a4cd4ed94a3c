package interop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/bkrpclient"
	"github.com/seed05845750/bkrp/bkrptest"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/interop/peers"
)

// bkrpCaller is a user at a BackupKey server: a bkrpclient.Client, or a
// bkrpclient.Domain.
type bkrpCaller interface {
	RetrieveKey(context.Context) (*bkrp.Certificate, error)
	Wrap(context.Context, []byte, bkrpclient.WrapOptions) ([]byte, error)
	Unwrap(context.Context, []byte) ([]byte, error)
	SID(context.Context) (dtyp.SID, error)
	Close() error
}

// testDomain is a domain with alice and bob in it, and how they come to it.
type testDomain struct {
	sid  func(t *testing.T, user string) string
	ways map[string]func(t *testing.T, user string) (bkrpCaller, error)
}

// testBkrptest is the domain of package bkrptest.
func testBkrptest(t *testing.T) testDomain {
	d := bkrptest.NewDomain(t)
	direct := func(config func(*bkrptest.User) bkrpclient.Config) func(*testing.T, string) (bkrpCaller, error) {
		return func(t *testing.T, user string) (bkrpCaller, error) {
			return bkrpclient.Dial(t.Context(), config(d.User(user)))
		}
	}
	found := func(config func(*bkrptest.User) bkrpclient.DomainConfig) func(*testing.T, string) (bkrpCaller, error) {
		return func(_ *testing.T, user string) (bkrpCaller, error) {
			return bkrpclient.OpenDomain(config(d.User(user)))
		}
	}
	return testDomain{
		sid: func(_ *testing.T, user string) string { return d.User(user).SID.String() },
		ways: map[string]func(*testing.T, string) (bkrpCaller, error){
			"NTLM":               direct((*bkrptest.User).NTLM),
			"Kerberos":           direct((*bkrptest.User).Kerberos),
			"domain by NTLM":     found((*bkrptest.User).InDomain),
			"domain by Kerberos": found((*bkrptest.User).InDomainKerberos),
		},
	}
}

// testSamba is Samba's.
func testSamba(t *testing.T) testDomain {
	dc := DC(t)
	password := func(user string) bkrpclient.Credential {
		return bkrpclient.Credential{Domain: dc.NetBIOS(), User: user, Password: bkrpclient.Password(dc.Password(user))}
	}
	found := func(c bkrpclient.Credential) (bkrpCaller, error) {
		return bkrpclient.OpenDomain(bkrpclient.DomainConfig{
			Domain: strings.ToLower(dc.Realm()), Resolver: askDC(dc), PingDelay: 10 * time.Second, // there is no other
			Client:  bkrpclient.Config{Credential: c, RequireMutual: c.Kerberos != nil},
			Address: func(string, netip.Addr) string { return net.JoinHostPort(dc.Addr, bkrpclient.DefaultPort) },
		})
	}
	return testDomain{
		sid: func(t *testing.T, user string) string { return sidOf(t, dc, user) },
		ways: map[string]func(*testing.T, string) (bkrpCaller, error){
			"NTLM": func(t *testing.T, user string) (bkrpCaller, error) {
				return bkrpclient.Dial(t.Context(), bkrpclient.Config{Server: dc.Addr, Credential: password(user)})
			},
			"domain by NTLM": func(_ *testing.T, user string) (bkrpCaller, error) { return found(password(user)) },
			"domain by Kerberos": func(t *testing.T, user string) (bkrpCaller, error) {
				cache, err := dc.Kinit(t.Context(), user)
				if err != nil {
					return nil, err
				}
				return found(bkrpclient.Credential{Kerberos: &bkrpclient.Kerberos{CCache: cache, Conf: dc.Krb5Conf()}})
			},
		},
	}
}

// TestClientInDomains has our client do everything it can, in the domain of
// package bkrptest and in Samba's: what is seen in the one holds in the other.
func TestClientInDomains(t *testing.T) {
	for name, start := range map[string]func(*testing.T) testDomain{"bkrptest": testBkrptest, "Samba": testSamba} {
		t.Run(name, func(t *testing.T) {
			d := start(t)
			for way, open := range d.ways {
				t.Run(way, func(t *testing.T) {
					user := func(name string) bkrpCaller {
						c, err := open(t, name)
						if err != nil {
							t.Fatal(err)
						}
						t.Cleanup(func() { c.Close() })
						return c
					}
					clientInDomain(t, user(peers.Alice), user(peers.Bob), d.sid(t, peers.Alice))
				})
			}
		})
	}
}

func clientInDomain(t *testing.T, alice, bob bkrpCaller, aliceSID string) {
	t.Run("A-55 SID", func(t *testing.T) {
		if sid, err := alice.SID(t.Context()); err != nil || sid.String() != aliceSID {
			t.Errorf("%v, %v, want %s", sid, err, aliceSID)
		}
	})
	var cert *bkrp.Certificate
	t.Run("3.1.4.1.3 retrieve", func(t *testing.T) {
		var err error
		if cert, err = alice.RetrieveKey(t.Context()); err != nil {
			t.Fatal(err)
		}
		again, err := bob.RetrieveKey(t.Context())
		if err != nil || !bytes.Equal(again.Raw, cert.Raw) {
			t.Errorf("another key for bob: %v, %v", again, err)
		}
		if err := cert.CheckSignature(); err != nil || !cert.SerialIsGUID() {
			t.Errorf("W-2.2.1-08 %v, W-2.2.1-12 %v", cert.SerialIsGUID(), err)
		}
	})
	for _, tt := range []struct {
		o    bkrpclient.WrapOptions
		size int
	}{
		{bkrpclient.WrapOptions{Version: 2}, 1}, {bkrpclient.WrapOptions{Version: 2}, 205},
		{bkrpclient.WrapOptions{Version: 3}, 1}, {bkrpclient.WrapOptions{Version: 3}, 181},
		{bkrpclient.WrapOptions{Mode: bkrpclient.ModeServer}, 1}, {bkrpclient.WrapOptions{Mode: bkrpclient.ModeServer}, 60000},
		{bkrpclient.WrapOptions{Mode: bkrpclient.ModeAuto}, 64}, {bkrpclient.WrapOptions{Mode: bkrpclient.ModeAuto}, 206},
	} {
		t.Run(fmt.Sprintf("mode %d, version %d, %d octets", tt.o.Mode, tt.o.Version, tt.size), func(t *testing.T) {
			secret := bytes.Repeat([]byte{0xA5}, tt.size)
			blob, err := alice.Wrap(t.Context(), secret, tt.o)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := alice.Unwrap(t.Context(), blob); err != nil || !bytes.Equal(got, secret) {
				t.Errorf("%d octets, %v", len(got), err)
			}
			var refused *bkrpclient.ServerError
			if got, err := bob.Unwrap(t.Context(), blob); !errors.As(err, &refused) || got != nil {
				t.Errorf("bob unwraps it: %d octets, %v", len(got), err)
			}
			blob[len(blob)-1] ^= 1
			if got, err := alice.Unwrap(t.Context(), blob); !errors.As(err, &refused) || got != nil {
				t.Errorf("with one bit flipped: %d octets, %v", len(got), err)
			}
		})
	}
}

// TestBkrptestMIT has MIT's programs log on at the KDC of package bkrptest: it is
// a Kerberos that others understand, and not just our own client.
func TestBkrptestMIT(t *testing.T) {
	peers.Need(t, "kinit", "kvno", "klist")
	d := bkrptest.NewDomain(t)
	alice := d.User("alice")
	cache := filepath.Join(t.TempDir(), "cache")
	mit := func(t *testing.T, stdin string, args ...string) (string, error) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
		cmd.Env = append(os.Environ(), "KRB5_CONFIG="+d.Krb5Conf(), "KRB5CCNAME=FILE:"+cache)
		cmd.Stdin = strings.NewReader(stdin)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	check := func(t *testing.T) {
		t.Helper()
		if out, err := mit(t, "", "kvno", "cifs/127.0.0.1", "host/127.0.0.1", "host/dc1."+d.Name); err != nil {
			t.Fatalf("kvno: %v\n%s", err, out)
		}
		out, err := mit(t, "", "klist", "-e")
		if err != nil || !strings.Contains(out, "alice@"+d.Realm) || !strings.Contains(out, "cifs/127.0.0.1@"+d.Realm) {
			t.Errorf("klist: %v\n%s", err, out)
		}
		cfg := alice.Kerberos()
		// With the tickets that kvno got, and nobody to ask for others.
		cfg.Credential.Kerberos = &bkrpclient.Kerberos{CCache: cache, Conf: os.DevNull}
		c, err := bkrpclient.Dial(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if sid, err := c.SID(t.Context()); err != nil || sid != alice.SID {
			t.Errorf("%v, %v", sid, err)
		}
	}
	for _, etype := range []string{"aes256-cts-hmac-sha1-96", "aes128-cts-hmac-sha1-96"} {
		t.Run("kinit, "+etype, func(t *testing.T) {
			os.Remove(cache)
			conf, err := os.ReadFile(d.Krb5Conf())
			if err != nil {
				t.Fatal(err)
			}
			narrow := bytes.Replace(conf, []byte("[libdefaults]"), []byte("[libdefaults]\n\tpermitted_enctypes = "+etype), 1)
			if err := os.WriteFile(d.Krb5Conf(), narrow, 0o600); err != nil {
				t.Fatal(err)
			}
			defer os.WriteFile(d.Krb5Conf(), conf, 0o600)
			if out, err := mit(t, string(alice.Password)+"\n", "kinit", "alice"); err != nil {
				t.Fatalf("kinit: %v\n%s", err, out)
			}
			if etype != "aes256-cts-hmac-sha1-96" {
				return // the servers' keys are not of this type
			}
			check(t)
		})
	}
	t.Run("the cache that is ready-made", func(t *testing.T) {
		ready, err := os.ReadFile(alice.CCache())
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(cache, ready, 0o600); err != nil {
			t.Fatal(err)
		}
		check(t)
	})
	t.Run("a wrong password", func(t *testing.T) {
		os.Remove(cache)
		if out, err := mit(t, "wrong\n", "kinit", "alice"); err == nil || !strings.Contains(out, "Password incorrect") {
			t.Errorf("kinit: %v\n%s", err, out)
		}
	})
	t.Run("nobody", func(t *testing.T) {
		if out, err := mit(t, "x\n", "kinit", "nobody"); err == nil || !strings.Contains(out, "not found in Kerberos database") {
			t.Errorf("kinit: %v\n%s", err, out)
		}
	})
	t.Run("disabled", func(t *testing.T) {
		d.User("bob").Disable()
		if out, err := mit(t, string(d.User("bob").Password)+"\n", "kinit", "bob"); err == nil || !strings.Contains(out, "revoked") {
			t.Errorf("kinit: %v\n%s", err, out)
		}
	})
}

// TestBkrptestSambaClient has Samba's client, whose Kerberos is Heimdal's, log on
// at the KDC by a password and call the server over sealed RPC.
func TestBkrptestSambaClient(t *testing.T) {
	peers.Need(t, "rpcclient", "unshare", "bash")
	d := bkrptest.NewDomain(t)
	alice := d.User("alice")
	c, err := peers.NewClient(t.TempDir(), d.NetBIOSName, d.Realm)
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(d.Addr())
	if err != nil {
		t.Fatal(err)
	}
	// It asks for tickets to hosts that have a name, and a domain.
	host := "dc1." + d.Name
	hosts := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(hosts, []byte("127.0.0.1 localhost "+host+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	const inDomain = `set -e
mount --make-rprivate /
mount --bind "$1" /etc/hosts
export KRB5_CONFIG="$2"
shift 2
exec "$@"`
	for kerberos, user := range map[string]string{
		"required": alice.Name + "@" + d.Realm, "disabled": d.NetBIOSName + `\` + alice.Name,
	} {
		t.Run("Kerberos "+kerberos, func(t *testing.T) {
			out, err := c.Exec(t.Context(), "unshare", "--mount", "bash", "-c", inDomain, "in-domain", hosts, d.Krb5Conf(),
				"rpcclient", "-s", c.Conf(), "-p", port, "-U", user+"%"+string(alice.Password),
				"--use-kerberos="+kerberos, "-c", "getusername;lookupnames alice", "ncacn_np:"+host+"[seal]")
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(out.Stdout, "Account Name: alice") || !strings.Contains(out.Stdout, alice.SID.String()) {
				t.Error(out)
			}
		})
	}
}
