package doctor_test

import (
	"encoding/binary"
	"io"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/bkrpclient"
	"github.com/seed05845750/bkrp/internal/dcerpc"
	"github.com/seed05845750/bkrp/internal/dclocator/locatortest"
	"github.com/seed05845750/bkrp/internal/doctor"
	"github.com/seed05845750/bkrp/internal/smb2/wire"
)

// fakeWell is what is found of a fake that does everything right.
var fakeWell = []want{
	{doctor.CheckLogon, doctor.OK, ""}, {doctor.CheckPrivacy, doctor.OK, "enforced"}, {doctor.CheckCertificate, doctor.OK, ""},
	{doctor.CheckSID, doctor.OK, fakeSID.String()}, {doctor.CheckClientWrap2, doctor.OK, ""}, {doctor.CheckClientWrap3, doctor.OK, ""},
	{doctor.CheckServerWrap, doctor.OK, ""}, {doctor.CheckOracle, doctor.OK, "ClientWrap version 2"},
	{doctor.CheckOracle, doctor.OK, "ClientWrap version 3"}, {doctor.CheckOracle, doctor.OK, "ServerWrap"},
}

// but is the list with other findings for some checks.
func but(list []want, others ...want) []want {
	return append(slices.DeleteFunc(slices.Clone(list), func(w want) bool {
		return slices.ContainsFunc(others, func(o want) bool { return o.check == w.check })
	}), others...)
}

func TestFakeIsWell(t *testing.T) {
	t.Parallel()
	expect(t, examine(t, fakeConfig(newFake(t).start(t)), doctor.Options{Oracle: true}), "127", fakeWell...)
}

func TestPrivacyNotEnforced(t *testing.T) {
	t.Parallel()
	for level, found := range map[dcerpc.AuthLevel]string{
		dcerpc.LevelIntegrity: "at level integrity",
		dcerpc.LevelPacket:    "at level integrity, packet",
		dcerpc.LevelNone:      "at level integrity, packet, connect, none",
	} {
		f := newFake(t)
		f.minLevel = level
		r := examine(t, fakeConfig(f.start(t)), doctor.Options{})
		expect(t, r, "127", want{doctor.CheckPrivacy, doctor.Broken, found}, want{doctor.CheckServerWrap, doctor.OK, ""})
	}
}

func TestCertificates(t *testing.T) {
	t.Parallel()
	// issue makes a certificate of the fake's key.
	issue := func(f *fake, domain string, made time.Time) []byte {
		c, err := bkrp.IssueCertificate(f.pair.PublicKey(), f.pair.DecryptRaw, f.pair.GUID(), domain, made)
		if err != nil {
			t.Fatal(err)
		}
		return c.Raw
	}
	warning := func(found string) []want {
		return []want{{doctor.CheckCertificate, doctor.Warning, found}, {doctor.CheckClientWrap2, doctor.OK, ""}}
	}
	for name, tt := range map[string]struct {
		cert  func(f *fake) []byte
		wants []want
	}{
		"W-2.2.1-12 signature": {func(f *fake) []byte {
			b := slices.Clone(f.pair.Certificate().Raw)
			b[len(b)-1] ^= 1
			return b
		}, warning("not signed by its own key")},
		"W-2.2.1-06 subject": {func(f *fake) []byte { return issue(f, "other.example", time.Now()) }, warning(`"other.example"`)},
		"W-2.2.1-09 made tomorrow": {func(f *fake) []byte { return issue(f, fakeDomain, time.Now().Add(24*time.Hour)) },
			warning("not yet")},
		"W-2.2.1-10 life": {func(f *fake) []byte {
			b := issue(f, fakeDomain, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
			return replace(t, b, "270102030405Z", "280102030405Z")
		}, warning("not for 365 days")},
		"A-30 long past": {func(f *fake) []byte { return issue(f, fakeDomain, time.Now().Add(-1000*24*time.Hour)) }, []want{
			{doctor.CheckCertificate, doctor.OK, "1000 days old"}, {doctor.CheckCertificate, doctor.Note, "it was valid until"}}},
		"W-2.2.1-11 issuerUniqueID": {func(f *fake) []byte {
			// [1], of which [2], subjectUniqueID, is the same.
			guid := f.pair.GUID()
			return replace(t, f.pair.Certificate().Raw, "\x81\x11\x00"+string(guid[:]), "\x81\x11\x00sixteen octets..")
		}, warning("issuerUniqueID")},
		"no certificate": {func(*fake) []byte { return []byte("no certificate") }, []want{{doctor.CheckCertificate, doctor.Broken, "malformed"}}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			der := tt.cert(f)
			f.cert = func() []byte { return der }
			d := locatortest.Start(t, fakeDomain, &locatortest.DC{Name: "dc1"})
			addr := f.start(t)
			r := examineDomain(t, fakeDomainConfig(d, map[string]string{"dc1." + fakeDomain: addr}), doctor.Options{})
			expect(t, r, "dc1", tt.wants...)
		})
	}
}

// replace changes octets to as many others.
func replace(t *testing.T, b []byte, from, to string) []byte {
	t.Helper()
	b = slices.Clone(b)
	for i := range len(b) - len(from) {
		if string(b[i:i+len(from)]) == from {
			copy(b[i:], to)
			return b
		}
	}
	t.Fatalf("no %q", from)
	return nil
}

func fakeDomainConfig(d *locatortest.Domain, addresses map[string]string) bkrpclient.DomainConfig {
	cfg := fakeConfig("")
	return bkrpclient.DomainConfig{
		Domain: fakeDomain, Resolver: d.Resolver(), Client: cfg,
		Address: func(dc string, _ netip.Addr) string { return addresses[dc] },
	}
}

// TestDifferentKeys: servers of one domain that have not heard of each other.
func TestDifferentKeys(t *testing.T) {
	t.Parallel()
	one, two, three := newFake(t), newFake(t), newFake(t)
	three.guid = two.guid // and another key by that name
	d := locatortest.Start(t, fakeDomain, &locatortest.DC{Name: "dc1"}, &locatortest.DC{Name: "dc2"}, &locatortest.DC{Name: "dc3"},
		&locatortest.DC{Name: "dead", Dead: true}, &locatortest.DC{Name: "gone", Unnamed: true})
	silent := listen(t)
	defer silent.Close()
	cfg := fakeDomainConfig(d, map[string]string{
		"dc1.bkrp.example": one.start(t), "dc2.bkrp.example": two.start(t), "dc3.bkrp.example": three.start(t),
		"dead.bkrp.example": silent.Addr().String(),
	})
	r := patiently(func(timeout time.Duration) *doctor.Report {
		cfg.Client.Timeout = timeout
		if cfg.PingDelay = 0; timeout > 2*time.Second { // which is the least that an answer has
			cfg.PingDelay = min(timeout, 5*time.Second) // the time for all of them is 15 s
		}
		return examineDomain(t, cfg, doctor.Options{})
	}, func(r *doctor.Report) bool {
		for _, dc := range []string{"dc1", "dc2", "dc3"} {
			if !found(r, dc, want{doctor.CheckPing, doctor.OK, ""}) || !found(r, dc, want{doctor.CheckExchange, doctor.Broken, "does not open what dc"}) {
				return false
			}
		}
		return true
	})
	expect(t, r, "", want{doctor.CheckSameKey, doctor.Broken, "different ServerWrap keys"}, want{doctor.CheckSameKey, doctor.OK, "public key"},
		want{doctor.CheckDNS, doctor.OK, "5 domain controllers, of which 3"})
	for _, dc := range []string{"dc1", "dc2", "dc3"} {
		expect(t, r, dc, want{doctor.CheckServerWrap, doctor.OK, ""}, want{doctor.CheckExchange, doctor.Broken, "does not open what dc"})
	}
	expect(t, r, "dead", want{doctor.CheckPing, doctor.Broken, ""}, want{doctor.CheckReachable, doctor.Broken, "timeout"})
	expect(t, r, "gone", want{doctor.CheckDNS, doctor.Broken, "no such name in DNS"})
}

// samba answers as Samba does: wrong padding and wrong content are told apart.
func (f *fake) samba(blob []byte) ([]byte, bkrp.Status) {
	if w, err := bkrp.ParseClientWrapped(blob); err == nil {
		c := slices.Clone(w.EncryptedSecret)
		slices.Reverse(c)
		em, err := f.pair.DecryptRaw(c)
		if err != nil || em[0] != 0 || em[1] != 2 || slices.Index(em[2:], 0) < 8 {
			return nil, bkrp.StatusInvalidParameter
		}
	}
	return f.restoreRight(blob)
}

func TestOracles(t *testing.T) {
	t.Parallel()
	open := func(f *fake, blob []byte) *bkrp.ClientSecret {
		w, err := bkrp.ParseClientWrapped(blob)
		if err != nil {
			return nil
		}
		s, _ := w.Open(f.pair.DecryptRaw, f.pair.RejectionKey())
		return s
	}
	client := func(level doctor.Level, found string) []want {
		return but(fakeWell, want{doctor.CheckOracle, level, "ClientWrap version 2, 19 secrets: " + found},
			want{doctor.CheckOracle, level, "ClientWrap version 3, 19 secrets: " + found}, want{doctor.CheckOracle, doctor.OK, "ServerWrap"})
	}
	server := func(level doctor.Level, found string) []want {
		return but(fakeWell, want{doctor.CheckOracle, doctor.OK, "ClientWrap version 2"}, want{doctor.CheckOracle, doctor.OK, "ClientWrap version 3"},
			want{doctor.CheckOracle, level, found})
	}
	for name, tt := range map[string]struct {
		bend  func(f *fake)
		wants []want
	}{
		"Samba's two codes": {func(f *fake) { f.restore = f.samba }, client(doctor.Broken, "a padding oracle")},
		"anybody's secret": {func(f *fake) {
			f.restore = func(blob []byte) ([]byte, bkrp.Status) {
				if s := open(f, blob); s != nil {
					return bkrp.AppendUnwrapped(nil, s.Secret), 0
				}
				return nil, bkrp.StatusInvalidData
			}
		}, client(doctor.Broken, "it opens a secret of another SID")},
		"a word on the AccessCheck": {func(f *fake) {
			f.restore = func(blob []byte) ([]byte, bkrp.Status) {
				out, status := f.restoreRight(blob)
				// What the fake cannot see by itself: whether the last octet of the hash is all that is wrong.
				if len(blob) > 0 && status == bkrp.StatusInvalidData {
					blob[len(blob)-1] ^= 1
					if open(f, blob) != nil {
						return nil, bkrp.StatusInvalidAccess
					}
				}
				return out, status
			}
		}, client(doctor.Warning, "no padding oracle by its answers, yet")},
		"ServerWrap's SID before its MAC": {func(f *fake) {
			f.win2K = func(blob []byte) ([]byte, bkrp.Status) {
				if w, err := bkrp.ParseServerWrapped(blob); err == nil && !f.sidIsReadable(w) {
					return nil, bkrp.StatusInvalidSID
				}
				return f.win2KRight(blob)
			}
		}, server(doctor.Warning, "ServerWrap, 9 secrets: the answers tell where it was changed")},
		"ServerWrap without a MAC": {func(f *fake) {
			f.win2K = func(blob []byte) ([]byte, bkrp.Status) {
				out, status := f.win2KRight(blob)
				if w, err := bkrp.ParseServerWrapped(blob); status != 0 && err == nil && w.KeyGUID == f.guid {
					return []byte("whatever"), 0
				}
				return out, status
			}
		}, server(doctor.Broken, "opened after a change to")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			tt.bend(f)
			expect(t, examine(t, fakeConfig(f.start(t)), doctor.Options{Oracle: true}), "127", tt.wants...)
		})
	}
}

// sidIsReadable finds out whether one octet of the SID's head was changed, by
// changing it back.
func (f *fake) sidIsReadable(w *bkrp.ServerWrapped) bool {
	for at, flips := range map[int]byte{52: 1, 53: 0x80} {
		changed := *w
		changed.Ciphertext = slices.Clone(w.Ciphertext)
		changed.Ciphertext[at] ^= flips
		if _, _, err := changed.Open(f.derive); err == nil {
			return false
		}
	}
	return true
}

// TestNegotiation: what a server says of itself before anyone has logged on.
func TestNegotiation(t *testing.T) {
	t.Parallel()
	good := wire.NegotiateResponse{SecurityMode: wire.SigningEnabled | wire.SigningRequired, Dialect: wire.Dialect302, Capabilities: wire.CapEncryption}
	for name, tt := range map[string]struct {
		change func(r *wire.NegotiateResponse)
		want   want
	}{
		"signing offered":  {func(r *wire.NegotiateResponse) { r.SecurityMode = wire.SigningEnabled }, want{doctor.CheckSigning, doctor.Warning, "not required"}},
		"no signing":       {func(r *wire.NegotiateResponse) { r.SecurityMode = 0 }, want{doctor.CheckSigning, doctor.Broken, "not offered"}},
		"no encryption":    {func(r *wire.NegotiateResponse) { r.Capabilities = 0 }, want{doctor.CheckEncryption, doctor.Note, "not offered"}},
		"SMB 2.0.2":        {func(r *wire.NegotiateResponse) { r.Dialect = wire.Dialect202 }, want{doctor.CheckDialect, doctor.Warning, "2.0.2"}},
		"no list":          {func(*wire.NegotiateResponse) {}, want{doctor.CheckMechanisms, doctor.Note, "does not say"}},
		"a list of junk":   {func(r *wire.NegotiateResponse) { r.Token = []byte("junk") }, want{doctor.CheckMechanisms, doctor.Warning, "not readable"}},
		"no clock":         {func(*wire.NegotiateResponse) {}, want{doctor.CheckClock, doctor.Note, "does not say"}},
		"the year 60000":   {func(r *wire.NegotiateResponse) { r.SystemTime = 1<<64 - 1 }, want{doctor.CheckClock, doctor.Broken, "ahead"}},
		"the year 1601":    {func(r *wire.NegotiateResponse) { r.SystemTime = 1 }, want{doctor.CheckClock, doctor.Broken, "behind"}},
		"and then nothing": {func(*wire.NegotiateResponse) {}, want{doctor.CheckLogon, doctor.Broken, ""}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := good
			tt.change(&r)
			h := wire.Header{Command: wire.Negotiate, Flags: wire.FlagResponse, Credits: 1}
			msg := r.Append(h.Append(nil))
			addr := startAnswer(t, append(binary.BigEndian.AppendUint32(nil, uint32(len(msg))), msg...))
			report := examine(t, fakeConfig(addr), doctor.Options{})
			expect(t, report, "127", tt.want, want{doctor.CheckLogon, doctor.Broken, ""})
		})
	}
	for name, octets := range map[string]string{
		"HTTP": "HTTP/1.1 400 Bad Request\r\n\r\n", "nothing": "", "a long message": "\x00\xFF\xFF\xFF", "cut short": "\x00\x00\x00\x80\xFESMB",
		"no SMB2": "\x00\x00\x00\x04\xFFSMB",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			expect(t, examine(t, fakeConfig(startAnswer(t, []byte(octets))), doctor.Options{}), "127", want{doctor.CheckReachable, doctor.Broken, "NEGOTIATE"})
		})
	}
	t.Run("silence", func(t *testing.T) {
		t.Parallel()
		l := listen(t)
		defer l.Close()
		cfg := fakeConfig(l.Addr().String())
		cfg.Timeout = 200 * time.Millisecond
		expect(t, examine(t, cfg, doctor.Options{}), "127", want{doctor.CheckReachable, doctor.Broken, "timeout"})
	})
	t.Run("nobody", func(t *testing.T) {
		t.Parallel()
		const tcpmux = "127.0.0.1:1" // which nobody serves
		expect(t, examine(t, fakeConfig(tcpmux), doctor.Options{}), "127", want{doctor.CheckReachable, doctor.Broken, "refused"})
	})
}

// startAnswer says the same to everyone after the first message, and hangs up.
func startAnswer(t *testing.T, answer []byte) (addr string) {
	t.Helper()
	l := listen(t)
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(hangTime))
				var length [4]byte
				if _, err := io.ReadFull(conn, length[:]); err != nil {
					return
				}
				io.CopyN(io.Discard, conn, int64(binary.BigEndian.Uint32(length[:])))
				conn.Write(answer)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		running.Wait()
	})
	return l.Addr().String()
}
