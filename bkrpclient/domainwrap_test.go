package bkrpclient_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/bkrpclient"
	"github.com/seed05845750/bkrp/bkrpserver"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/backuprkey"
	"github.com/seed05845750/bkrp/internal/dclocator/locatortest"
	"github.com/seed05845750/bkrp/internal/ndr"
)

// serverBlob is a well-formed ServerWrap blob.
func serverBlob(t *testing.T) []byte {
	t.Helper()
	s := startServer(t, bkrpserver.Config{})
	blob, err := dial(t, configFor(s.addr)).Wrap(t.Context(), []byte("secret"), bkrpclient.WrapOptions{Mode: bkrpclient.ModeServer})
	if err != nil {
		t.Fatal(err)
	}
	return blob
}

// byAction answers each action by its own; one that is not there with 0x57.
func byAction(answers map[bkrp.Action]answer) answer {
	return func(q backuprkey.Request, enc ndr.Encoding) ([]byte, error) {
		if f := answers[bkrp.Action(q.Action)]; f != nil {
			return f(q, enc)
		}
		return good(nil, 0x57)(q, enc)
	}
}

func TestDomainWrap(t *testing.T) {
	s := startServer(t, bkrpserver.Config{})
	d := startDomain(t, &dcAt{DC: locatortest.DC{Name: "dc1"}, addr: s.addr})
	cfg := d.config()
	cfg.SID = dtyp.SID{}
	c := openDomain(t, cfg)
	wrap := func(o bkrpclient.WrapOptions, size int) (uint32, bkrpclient.Trace) {
		t.Helper()
		var trace bkrpclient.Trace
		ctx := bkrpclient.WithTrace(t.Context(), &trace)
		secret := bytes.Repeat([]byte{7}, size)
		blob, err := c.Wrap(ctx, secret, o)
		if err != nil {
			t.Fatal(err)
		}
		steps := trace
		if got, err := c.Unwrap(ctx, blob); err != nil || !bytes.Equal(got, secret) {
			t.Fatalf("%x, %v", got, err)
		}
		return uint32(blob[0]), steps
	}
	t.Run("C-3.2.4.1-01 A-55 the first one asks for the key and the SID", func(t *testing.T) {
		version, trace := wrap(bkrpclient.WrapOptions{}, 64)
		if version != 2 || len(trace) != 5 || trace[3].Doing != "RETRIEVE" || trace[4].Doing != "SID" {
			t.Errorf("C-3.2.4.1-06 version %d; %v", version, trace)
		}
	})
	t.Run("C-3.2.4-01 the next one asks nobody", func(t *testing.T) {
		if version, trace := wrap(bkrpclient.WrapOptions{}, 64); version != 2 || len(trace) != 0 {
			t.Errorf("version %d; %v", version, trace)
		}
	})
	t.Run("C-3.2.4.1-06 version 3 where it is asked for", func(t *testing.T) {
		if version, _ := wrap(bkrpclient.WrapOptions{Version: 3}, 181); version != 3 {
			t.Errorf("version %d", version)
		}
	})
	t.Run("ServerWrap", func(t *testing.T) {
		if version, trace := wrap(bkrpclient.WrapOptions{Mode: bkrpclient.ModeServer}, 1000); version != 1 || len(trace) != 1 {
			t.Errorf("version %d; %v", version, trace)
		}
		if version, _ := wrap(bkrpclient.WrapOptions{Mode: bkrpclient.ModeAuto}, 206); version != 1 {
			t.Errorf("version %d", version)
		}
		if version, _ := wrap(bkrpclient.WrapOptions{Mode: bkrpclient.ModeAuto}, 205); version != 2 {
			t.Errorf("version %d", version)
		}
	})
	t.Run("A-55 SID", func(t *testing.T) {
		if sid, err := c.SID(t.Context()); err != nil || sid != s.sid {
			t.Errorf("%v, %v", sid, err)
		}
	})
	t.Run("C-3.2.4.1-06 version 3 by configuration", func(t *testing.T) {
		cfg.Version = 3
		blob, err := openDomain(t, cfg).Wrap(t.Context(), []byte("secret"), bkrpclient.WrapOptions{})
		if err != nil || blob[0] != 3 {
			t.Errorf("%v", err)
		}
	})
	t.Run("what only the server can wrap, for somebody else", func(t *testing.T) {
		for _, mode := range []bkrpclient.Mode{bkrpclient.ModeServer, bkrpclient.ModeAuto} {
			o := bkrpclient.WrapOptions{Mode: mode, SID: dtyp.MustParseSID("S-1-5-21-1-2-3-999")}
			if blob, err := c.Wrap(t.Context(), make([]byte, 1000), o); blob != nil || !errors.Is(err, bkrpclient.ErrOwner) {
				t.Errorf("%v: %v", mode, err)
			}
		}
	})
	for name, tt := range map[string]struct {
		size int
		o    bkrpclient.WrapOptions
		want error
	}{
		"A-22 empty":                   {0, bkrpclient.WrapOptions{}, bkrpclient.ErrEmptySecret},
		"C-3.2.4.1-07 206 octets":      {206, bkrpclient.WrapOptions{}, bkrp.ErrSecretTooLong},
		"C-3.2.4.1-08 182 octets":      {182, bkrpclient.WrapOptions{Version: 3}, bkrp.ErrSecretTooLong},
		"there is no version 4":        {1, bkrpclient.WrapOptions{Version: 4}, bkrp.ErrVersion},
		"there is no version 4, auto":  {1000, bkrpclient.WrapOptions{Version: 4, Mode: bkrpclient.ModeAuto}, bkrp.ErrVersion},
		"there is no version 1, empty": {0, bkrpclient.WrapOptions{Version: 1}, bkrpclient.ErrEmptySecret},
	} {
		t.Run(name, func(t *testing.T) {
			var trace bkrpclient.Trace
			if _, err := c.Wrap(bkrpclient.WithTrace(t.Context(), &trace), make([]byte, tt.size), tt.o); !errors.Is(err, tt.want) || len(trace) != 0 {
				t.Errorf("%v; %v", err, trace)
			}
		})
	}
}

// TestSchedule: what is asked of whom when the key cannot be fetched.
func TestSchedule(t *testing.T) {
	blob := serverBlob(t)
	failing := good(nil, 0x32)
	backupOnly := byAction(map[bkrp.Action]answer{bkrp.ActionBackup: good(blob, 0)})
	fallBack := func(c *bkrpclient.DomainConfig) { c.FallBack = true }
	for name, tt := range map[string]struct {
		answers []answer
		change  func(*bkrpclient.DomainConfig)
		ok      bool
		want    []string
	}{
		"C-3.2.4.1-03 no fall-back unless asked for": {[]answer{backupOnly, backupOnly}, func(*bkrpclient.DomainConfig) {}, false,
			[]string{"dc1 RETRIEVE", "dc2 RETRIEVE"}},
		"C-3.2.4.1-20 four calls": {[]answer{failing, failing}, fallBack, false,
			[]string{"dc1 RETRIEVE", "dc2 RETRIEVE", "dc2 BACKUP", "dc1 BACKUP"}},
		"C-3.2.4.1-20 P-7-18 the third is good": {[]answer{failing, backupOnly}, fallBack, true,
			[]string{"dc1 RETRIEVE", "dc2 RETRIEVE", "dc2 BACKUP"}},
		"C-3.2.4.1-20 the fourth is good": {[]answer{backupOnly, failing}, fallBack, true,
			[]string{"dc1 RETRIEVE", "dc2 RETRIEVE", "dc2 BACKUP", "dc1 BACKUP"}},
		"C-3.2.4.1-20 there is no other": {[]answer{failing}, fallBack, false,
			[]string{"dc1 RETRIEVE", "dc1 BACKUP"}},
		"C-3.2.4.1-20 the same once more": {[]answer{failing}, func(c *bkrpclient.DomainConfig) { c.FallBack, c.RetrySame = true, true }, false,
			[]string{"dc1 RETRIEVE", "dc1 RETRIEVE", "dc1 BACKUP", "dc1 BACKUP"}},
		"C-3.2.4.1-05 A-46 a certificate that is none": {[]answer{good([]byte("no certificate"), 0), backupOnly}, fallBack, false,
			[]string{"dc1 RETRIEVE"}},
	} {
		t.Run(name, func(t *testing.T) {
			d := fakes(t, tt.answers...)
			cfg := d.config()
			tt.change(&cfg)
			got, err := openDomain(t, cfg).Wrap(t.Context(), []byte("secret"), bkrpclient.WrapOptions{})
			if tt.ok != (err == nil) || tt.ok != bytes.Equal(got, blob) {
				t.Errorf("%d octets, %v", len(got), err)
			}
			d.wantAsked(t, tt.want...)
			if !tt.ok {
				wantDomainError(t, err, tt.want[len(tt.want)-1][:3]+"."+dnsDomain+": "+tt.want[len(tt.want)-1][4:])
			}
		})
	}
	t.Run("C-3.2.4.1-20 rediscovery before each second try", func(t *testing.T) {
		d := fakes(t, failing, failing)
		cfg := d.config()
		cfg.FallBack = true
		var trace bkrpclient.Trace
		openDomain(t, cfg).Wrap(bkrpclient.WithTrace(t.Context(), &trace), []byte("secret"), bkrpclient.WrapOptions{})
		var order []string
		for _, s := range trace {
			if s.Doing == "find" && s.Address != "" {
				order = append(order, "ping "+s.Server[:3])
			} else if s.Doing != "find" && s.Doing != "connect" {
				order = append(order, s.Server[:3]+" "+s.Doing)
			}
		}
		want := []string{"ping dc1", "dc1 RETRIEVE", "ping dc2", "dc2 RETRIEVE", "dc2 BACKUP", "ping dc1", "dc1 BACKUP"}
		if len(order) != len(want) {
			t.Fatalf("%q", order)
		}
		for i := range want {
			if order[i] != want[i] {
				t.Fatalf("%q, want %q", order, want)
			}
		}
	})
}

// TestFallBackNotAfterRefusedLogon: a wrong password is tried by the rule of 3.2.4
// alone, and the fall-back does not double that: accounts get locked by it.
func TestFallBackNotAfterRefusedLogon(t *testing.T) {
	dc1, dc2 := startServer(t, bkrpserver.Config{}), startServer(t, bkrpserver.Config{})
	d := startDomain(t, &dcAt{DC: locatortest.DC{Name: "dc1"}, addr: dc1.addr}, &dcAt{DC: locatortest.DC{Name: "dc2"}, addr: dc2.addr})
	cfg := d.config()
	cfg.FallBack = true
	cfg.Client.Credential.Password = "wrong"
	var trace bkrpclient.Trace
	_, err := openDomain(t, cfg).Wrap(bkrpclient.WithTrace(t.Context(), &trace), []byte("secret"), bkrpclient.WrapOptions{})
	if !errors.Is(err, bkrpclient.ErrLogon) {
		t.Errorf("%v", err)
	}
	logons := 0
	for _, s := range trace {
		if s.Doing == "connect" {
			logons++
		}
	}
	if logons != 2 {
		t.Errorf("%d log-ons: %v", logons, trace)
	}
}

// cache is a KeyCache in memory.
type cache struct {
	mu      sync.Mutex
	name    string
	der     []byte
	fetched time.Time
	err     error
	stored  int
}

func (c *cache) Load(_ context.Context, name string) ([]byte, time.Time, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil && (c.der == nil || name != c.name) {
		return nil, time.Time{}, fs.ErrNotExist
	}
	return c.der, c.fetched, c.err
}

func (c *cache) Store(_ context.Context, name string, der []byte, fetched time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.name, c.der, c.fetched, c.stored = name, der, fetched, c.stored+1
	return c.err
}

// keptName is the name of the key of a domain for the users of configFor.
const keptName = dnsDomain + "+S-1-5-21-1-2-3"

func TestKeyCache(t *testing.T) {
	der := certificate(t)
	wrap := func(t *testing.T, keys *cache, change ...func(*bkrpclient.DomainConfig)) []string {
		t.Helper()
		d := fakes(t, good(der, 0))
		cfg := d.config()
		cfg.Keys = keys
		for _, f := range change {
			f(&cfg)
		}
		if _, err := openDomain(t, cfg).Wrap(t.Context(), []byte("secret"), bkrpclient.WrapOptions{}); err != nil {
			t.Error(err)
		}
		return append(d.asked(), d.Log()...)
	}
	keys := new(cache)
	if log := wrap(t, keys); len(log) == 0 || keys.stored != 1 || keys.name != keptName || !bytes.Equal(keys.der, der) {
		t.Errorf("asked %q; %d stored as %q", log, keys.stored, keys.name)
	}
	t.Run("C-3.2.4-01 nobody is asked with a cached key", func(t *testing.T) {
		if log := wrap(t, keys); len(log) != 0 {
			t.Errorf("asked %q", log)
		}
	})
	t.Run("a key under the same name in capitals", func(t *testing.T) {
		if log := wrap(t, keys, func(c *bkrpclient.DomainConfig) { c.Domain = "BKRP.Example." }); len(log) != 0 {
			t.Errorf("asked %q", log)
		}
	})
	for name, tt := range map[string]*cache{
		"too old":                        {name: keptName, der: der, fetched: time.Now().Add(-bkrpclient.DefaultKeyLife)},
		"of the future":                  {name: keptName, der: der, fetched: time.Now().Add(time.Hour)},
		"C-3.2.4.1-04 no key":            {name: keptName, der: []byte("no certificate"), fetched: time.Now()},
		"of another domain":              {name: "other.example+S-1-5-21-1-2-3", der: der, fetched: time.Now()},
		"of another domain by that name": {name: dnsDomain + "+S-1-5-21-3-2-1", der: der, fetched: time.Now()},
		"a cache that does not work":     {err: errors.New("the disk is gone")},
	} {
		t.Run(name, func(t *testing.T) {
			if log := wrap(t, tt); len(log) == 0 || log[0] != "dc1 RETRIEVE" || tt.stored != 1 {
				t.Errorf("asked %q; %d stored", log, tt.stored)
			}
		})
	}
	t.Run("C-3.2.4.1-05 a bad certificate is not kept", func(t *testing.T) {
		d := fakes(t, good([]byte("no certificate"), 0))
		cfg, keys := d.config(), new(cache)
		cfg.Keys = keys
		c := openDomain(t, cfg)
		for range 2 {
			if _, err := c.Wrap(t.Context(), []byte("secret"), bkrpclient.WrapOptions{}); !errors.Is(err, bkrpclient.ErrResponse) {
				t.Error(err)
			}
		}
		d.wantAsked(t, "dc1 RETRIEVE", "dc1 RETRIEVE")
		if keys.stored != 0 {
			t.Error("it was stored")
		}
	})
	t.Run("A-43 a key of a server that proved nothing is none under RequireMutual", func(t *testing.T) {
		d := fakes(t, good(der, 0))
		cfg := d.config()
		cfg.Keys, cfg.Client.RequireMutual = keys, true
		cfg.Client.Credential.Kerberos = &bkrpclient.Kerberos{CCache: t.TempDir() + "/none"}
		if _, err := openDomain(t, cfg).Wrap(t.Context(), []byte("secret"), bkrpclient.WrapOptions{}); !errors.Is(err, bkrpclient.ErrTicket) {
			t.Error(err)
		}
	})
	t.Run("a life", func(t *testing.T) {
		d := fakes(t, good(der, 0))
		cfg := d.config()
		cfg.KeyLife = time.Nanosecond
		c := openDomain(t, cfg)
		for range 2 {
			if _, err := c.Wrap(t.Context(), []byte("secret"), bkrpclient.WrapOptions{}); err != nil {
				t.Error(err)
			}
		}
		d.wantAsked(t, "dc1 RETRIEVE", "dc1 RETRIEVE")
	})
}

// TestKeyCacheSID: a domain that was made anew under its name has another SID and
// other keys; what the old one's key wraps, and for the old one's users, nobody opens.
func TestKeyCacheSID(t *testing.T) {
	s := startServer(t, bkrpserver.Config{})
	d := startDomain(t, &dcAt{DC: locatortest.DC{Name: "dc1"}, addr: s.addr})
	steps := func(c *bkrpclient.Domain, o bkrpclient.WrapOptions) string {
		t.Helper()
		var trace bkrpclient.Trace
		blob, err := c.Wrap(bkrpclient.WithTrace(t.Context(), &trace), []byte("secret"), o)
		if err != nil {
			t.Fatal(err)
		}
		if o.SID.IsZero() {
			if secret, err := c.Unwrap(t.Context(), blob); err != nil || string(secret) != "secret" {
				t.Errorf("%q, %v", secret, err)
			}
		}
		var calls []string
		for _, s := range trace {
			if s.Doing != "find" && s.Doing != "connect" {
				calls = append(calls, s.Doing)
			}
		}
		return strings.Join(calls, " ")
	}
	cfg := d.config()
	cfg.SID, cfg.Keys = dtyp.SID{}, &cache{name: dnsDomain + "+S-1-5-21-3-2-1", der: certificate(t), fetched: time.Now()}
	if got := steps(openDomain(t, cfg), bkrpclient.WrapOptions{}); got != "SID RETRIEVE" {
		t.Errorf("the key of the old domain: %q", got)
	}
	c := openDomain(t, cfg)
	if got := steps(c, bkrpclient.WrapOptions{}); got != "SID "+dnsDomain {
		t.Errorf("A-55 the SID that the domain tells says which key it is: %q", got)
	}
	if got := steps(c, bkrpclient.WrapOptions{}); got != "" {
		t.Errorf("C-3.2.4-01 asked again: %q", got)
	}
	other := bkrpclient.WrapOptions{SID: dtyp.MustParseSID("S-1-5-21-3-2-1-1104")}
	if got := steps(c, other); got != "RETRIEVE" {
		t.Errorf("a key that was kept for others: %q", got)
	}
	t.Run("A-55 with another key the SID is asked for again", func(t *testing.T) {
		cfg := d.config()
		cfg.SID, cfg.KeyLife = dtyp.SID{}, time.Hour
		c := openDomain(t, cfg)
		if got := steps(c, bkrpclient.WrapOptions{}); got != "RETRIEVE SID" {
			t.Error(got)
		}
		if _, err := s.svc.Store.RotateClientWrapKey(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := c.RetrieveKey(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := steps(c, bkrpclient.WrapOptions{}); got != "SID" {
			t.Error(got)
		}
	})
	t.Run("A-55 and when its life is over", func(t *testing.T) {
		cfg := d.config()
		cfg.SID, cfg.KeyLife = dtyp.SID{}, time.Nanosecond
		c := openDomain(t, cfg)
		for range 2 {
			if got := steps(c, bkrpclient.WrapOptions{}); got != "RETRIEVE SID" {
				t.Error(got)
			}
		}
	})
	t.Run("a refused logon is tried no more often for it", func(t *testing.T) {
		cfg := d.config()
		cfg.SID, cfg.Keys, cfg.FallBack = dtyp.SID{}, new(cache), true
		cfg.Client.Credential.Password = "wrong"
		var trace bkrpclient.Trace
		_, err := openDomain(t, cfg).Wrap(bkrpclient.WithTrace(t.Context(), &trace), []byte("secret"), bkrpclient.WrapOptions{})
		if !errors.Is(err, bkrpclient.ErrLogon) || strings.Count(trace.String(), ": connect: ") != 1 {
			t.Errorf("%v: %v", err, trace)
		}
	})
}

// TestCrossover: W-2.2.6.1-05, against a server and within a domain.
func TestCrossover(t *testing.T) {
	nonce := bytes.Repeat([]byte{9}, 32)
	blob := blobOf(t, certificate(t))
	sealed, err := bkrp.SealCrossover(&bkrp.ClientSecret{Nonce: nonce, Secret: []byte("secret")})
	if err != nil {
		t.Fatal(err)
	}
	d := fakes(t, byAction(map[bkrp.Action]answer{bkrp.ActionRestoreWin2K: good(sealed, 0)}))
	c := d.open(t)
	if secret, err := c.UnwrapCrossover(t.Context(), blob, nonce); err != nil || string(secret) != "secret" {
		t.Errorf("W-2.2.6-03 %q, %v", secret, err)
	}
	d.wantAsked(t, "dc1 RESTORE_WIN2K")
	if secret, err := c.UnwrapCrossover(t.Context(), blob, nonce[1:]); !errors.Is(err, bkrp.ErrCrossoverMAC) || !errors.Is(err, bkrpclient.ErrResponse) || secret != nil {
		t.Errorf("W-2.2.6.1-05 %q, %v", secret, err)
	}
	for _, blob := range [][]byte{nil, []byte("none"), serverBlob(t)} {
		if _, err := c.UnwrapCrossover(t.Context(), blob, nonce); !errors.Is(err, bkrp.ErrFormat) {
			t.Errorf("A-15 %v", err)
		}
	}
}
