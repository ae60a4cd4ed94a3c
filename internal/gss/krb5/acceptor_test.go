package krb5

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/gss"
)

// try has an acceptor judge a forgery, and gives what it logged.
func (f *forgery) try(t *testing.T, cfg Config, again int) (out []byte, sc gss.Context, log string, err error) {
	t.Helper()
	var logged bytes.Buffer
	cfg.Log = slog.New(slog.NewTextHandler(&logged, nil))
	a := f.acceptor(t, cfg)
	token := f.seal(t, true)
	for range again + 1 {
		logged.Reset()
		out, sc, err = a.Accept(gss.AcceptOptions{}).Step(t.Context(), token)
	}
	return out, sc, logged.String(), err
}

func (f *forgery) acceptor(t testing.TB, cfg Config) *acceptor {
	t.Helper()
	cfg.Keytab = writeKeytab(t, f.keytab)
	if cfg.Now == nil {
		cfg.Now = func() time.Time { return f.now }
	}
	a, err := NewAcceptor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return a.(*acceptor)
}

// Every reason to refuse a logon, with its line in the log, its sentinel, and
// what the client is told.
func TestRefusals(t *testing.T) {
	const guest = "S-1-5-21-1-2-3-501"
	for name, tt := range map[string]struct {
		change   func(t *testing.T, f *forgery)
		cfg      Config
		again    int
		log      string
		sentinel error
		code     int32
	}{
		"expired ticket": {
			change: func(_ *testing.T, f *forgery) { f.part.end = f.now.Add(-DefaultClockSkew - time.Second) },
			log:    "the ticket has expired", sentinel: gss.ErrExpired, code: codeTicketExpired,
		},
		"ticket of tomorrow": {
			change: func(_ *testing.T, f *forgery) { f.part.start = f.now.Add(24 * time.Hour) },
			log:    "the ticket is not valid yet", sentinel: gss.ErrLogon, code: codeTicketNotYet,
		},
		"postdated ticket": {
			change: func(_ *testing.T, f *forgery) { f.part.flags |= ticketInvalid },
			log:    "the ticket is not valid yet", sentinel: gss.ErrLogon, code: codeTicketNotYet,
		},
		"client's clock ahead": {
			change: func(_ *testing.T, f *forgery) { f.auth.ctime = f.auth.ctime.Add(DefaultClockSkew + 2*time.Second) },
			log:    "the clocks are too far apart: gss: logon failure: the client's is 5m", sentinel: gss.ErrLogon, code: codeSkew,
		},
		"client's clock behind": {
			change: func(_ *testing.T, f *forgery) { f.auth.ctime = f.auth.ctime.Add(-DefaultClockSkew - 2*time.Second) },
			log:    "the clocks are too far apart: gss: logon failure: the client's is -5m", sentinel: gss.ErrLogon, code: codeSkew,
		},
		"replayed request": {
			again: 1,
			log:   "the request was seen before", sentinel: gss.ErrLogon, code: codeRepeat,
		},
		"wrong SPN": {
			change: func(_ *testing.T, f *forgery) {
				f.ticket.service = principal{2, []string{"cifs", "other.bkrp.test"}}
			},
			log: "the keytab does not have the service of the ticket", sentinel: gss.ErrRefused, code: codeNotUs,
		},
		"another realm's service": {
			change: func(_ *testing.T, f *forgery) { f.ticket.realm = "OTHER.TEST" },
			log:    "the keytab does not have the service of the ticket", sentinel: gss.ErrRefused, code: codeNotUs,
		},
		"another service's key": {
			change: func(t *testing.T, f *forgery) { f.service.key = drawKey(t, f.service.key.Type) },
			log:    "sealed with another key than the keytab's", sentinel: gss.ErrLogon, code: codeModified,
		},
		"another key version": {
			change: func(_ *testing.T, f *forgery) { f.kvno += 7 },
			log:    "does not have the key version or type", sentinel: gss.ErrLogon, code: codeBadKeyVersion,
		},
		"another key type": {
			change: func(t *testing.T, f *forgery) { f.service.key = drawKey(t, AES128SHA2) },
			log:    "does not have the key version or type", sentinel: gss.ErrLogon, code: codeBadKeyVersion,
		},
		"RC4 ticket": {
			change: func(t *testing.T, f *forgery) { f.useRC4(t) },
			log:    "rc4-hmac is not allowed", sentinel: gss.ErrRefused, code: codeGeneric,
		},
		"RC4 session key": {
			change: func(t *testing.T, f *forgery) {
				f.part.key = drawKey(t, RC4HMAC)
				f.authKey = f.part.key
			},
			log: "the session key is of rc4-hmac, which is not allowed", sentinel: gss.ErrRefused, code: codeGeneric,
		},
		"RC4 sub-key": {
			change: func(t *testing.T, f *forgery) {
				k := drawKey(t, RC4HMAC)
				f.auth.subkey = &k
			},
			log: "the session key is of rc4-hmac, which is not allowed", sentinel: gss.ErrRefused, code: codeGeneric,
		},
		"DES session key": {
			change: func(t *testing.T, f *forgery) { f.part.key = Key{3, make([]byte, 8)} },
			log:    "encryption type 3 is not supported", sentinel: gss.ErrRefused, code: codeGeneric,
		},
		"user-to-user": {
			change: func(_ *testing.T, f *forgery) { f.options |= optionUseSessionKey },
			log:    "user-to-user", sentinel: gss.ErrRefused, code: codeGeneric,
		},
		"authenticator under another key": {
			change: func(t *testing.T, f *forgery) { f.authKey = drawKey(t, f.authKey.Type) },
			log:    "the authenticator is sealed with another key", sentinel: gss.ErrLogon, code: codeModified,
		},
		"name in the authenticator": {
			change: func(_ *testing.T, f *forgery) { f.auth.client = principal{1, []string{"Administrator"}} },
			log:    "names another client than the ticket", sentinel: gss.ErrLogon, code: codeBadMatch,
		},
		"realm in the authenticator": {
			change: func(_ *testing.T, f *forgery) { f.auth.realm = "OTHER.TEST" },
			log:    "names another client than the ticket", sentinel: gss.ErrLogon, code: codeBadMatch,
		},
		"checksum that is none": {
			change: func(_ *testing.T, f *forgery) { f.auth.checksum = &checksum{7, make([]byte, 16)} },
			log:    "malformed flags of the context", sentinel: gss.ErrToken, code: codeGeneric,
		},
		"restricted ticket": {
			change: func(_ *testing.T, f *forgery) { f.pac, f.part.authData = nil, []authData{{4711, []byte("x")}} },
			log:    "restricted in a way that is not understood: gss: logon refused by policy: authorization data of type 4711", sentinel: gss.ErrRefused, code: codeGeneric,
		},
		"no PAC": {
			change: func(_ *testing.T, f *forgery) { f.pac, f.part.authData = nil, nil },
			log:    "no PAC, and auth.principal_sids no SID", sentinel: gss.ErrRefused, code: codeGeneric,
		},
		"principal_sids that contradict the PAC": {
			cfg: Config{PrincipalSIDs: map[string]dtyp.SID{"alice@BKRP.TEST": dtyp.MustParseSID("S-1-5-21-1-2-3-1104")}},
			log: "auth.principal_sids S-1-5-21-1-2-3-1104", sentinel: gss.ErrRefused, code: codeGeneric,
		},
		"no PAC, another realm": {
			change: func(_ *testing.T, f *forgery) {
				f.pac, f.part.authData = nil, nil
				f.part.realm, f.auth.realm, f.part.flags = "OTHER.TEST", "OTHER.TEST", 0
			},
			cfg: Config{PrincipalSIDs: map[string]dtyp.SID{"alice@OTHER.TEST": dtyp.MustParseSID("S-1-5-21-1-2-3-1104")}},
			log: "not checked the realms", sentinel: gss.ErrRefused, code: codeGeneric,
		},
		"cut PAC": {
			change: func(_ *testing.T, f *forgery) { f.pac = f.pac[:len(f.pac)-16] },
			log:    "pac: malformed: place of buffer", sentinel: gss.ErrRefused, code: codeGeneric,
		},
		"altered PAC": {
			change: func(t *testing.T, f *forgery) {
				_, logon := f.buffer(t, 1)
				binary.LittleEndian.PutUint32(logon[userIDOffset:], 500)
			},
			log: "pac: bad server signature", sentinel: gss.ErrRefused, code: codeGeneric,
		},
		"unsigned PAC": {
			change: func(t *testing.T, f *forgery) {
				entry, _ := f.buffer(t, 6)
				binary.LittleEndian.PutUint32(entry, 99)
			},
			log: "pac: a buffer is missing: no buffer of type 6", sentinel: gss.ErrRefused, code: codeGeneric,
		},
		"PAC signed by another key": {
			change: func(t *testing.T, f *forgery) { f.sign, f.signer = true, drawKey(t, f.signer.Type) },
			log:    "pac: bad server signature", sentinel: gss.ErrRefused, code: codeGeneric,
		},
		"PAC signed by another type": {
			change: func(t *testing.T, f *forgery) { f.sign, f.signer = true, drawKey(t, AES128SHA1) },
			log:    "of type 15 where the key makes type 16", sentinel: gss.ErrRefused, code: codeGeneric,
		},
		"PAC of another client": {
			change: func(_ *testing.T, f *forgery) {
				f.part.client = principal{1, []string{"bob"}}
				f.auth.client = f.part.client
			},
			log: `pac: not of the ticket's client: made for \"alice\"`, sentinel: gss.ErrRefused, code: codeGeneric,
		},
		"PAC of another ticket": {
			change: func(_ *testing.T, f *forgery) { f.part.authTime = f.part.authTime.Add(time.Second) },
			log:    "pac: not of the ticket's client: made for a ticket of another time", sentinel: gss.ErrRefused, code: codeGeneric,
		},
		"guest": {
			change: func(t *testing.T, f *forgery) {
				_, logon := f.buffer(t, 1)
				binary.LittleEndian.PutUint32(logon[userIDOffset:], 501)
				f.sign = true
			},
			log: "a guest or nobody", sentinel: gss.ErrRefused, code: codeGeneric,
		},
		"PAC that contradicts itself": {
			change: func(t *testing.T, f *forgery) {
				_, logon := f.buffer(t, 1)
				binary.LittleEndian.PutUint32(logon[userIDOffset:], 500)
				f.sign = true
			},
			log: "it names S-1-5-21-", sentinel: gss.ErrRefused, code: codeGeneric,
		},
		"PAC of nobody": {
			change: func(t *testing.T, f *forgery) {
				_, logon := f.buffer(t, 1)
				binary.LittleEndian.PutUint32(logon[userIDOffset:], 0)
				binary.LittleEndian.PutUint32(logon[userFlagsOffset:], 0)
				f.sign = true
			},
			log: "it names no user", sentinel: gss.ErrRefused, code: codeGeneric,
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := forge(t)
			if tt.change != nil {
				tt.change(t, f)
			}
			out, sc, log, err := f.try(t, tt.cfg, tt.again)
			if !errors.Is(err, tt.sentinel) || sc != nil {
				t.Fatalf("context %v, error %v", sc, err)
			}
			if !strings.Contains(log, `msg="kerberos logon refused"`) || !strings.Contains(log, tt.log) || strings.Contains(log, guest) {
				t.Errorf("log: %s", log)
			}
			id, message, framed, err := unframe(out)
			if err != nil || id != tokenError || !framed {
				t.Fatalf("answer %x: %v", out, err)
			}
			if e, err := parseKrbError(message); err != nil || e.code != tt.code || !e.stime.Equal(f.now.Truncate(time.Second)) {
				t.Errorf("KRB-ERROR %+v, %v", e, err)
			}
		})
	}
}

// Where the user's RID and the flags stand in the logon info, after two
// headers and a pointer: six times, six strings, two counts.
const (
	userIDOffset    = 16 + 4 + 6*8 + 6*8 + 4
	userFlagsOffset = userIDOffset + 16
)

func drawKey(t testing.TB, e EncType) Key {
	t.Helper()
	k, err := newKey(e)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// useRC4 has the service have an RC4 key too, and the ticket sealed with it.
func (f *forgery) useRC4(t *testing.T) {
	t.Helper()
	f.service.key = drawKey(t, RC4HMAC)
	f.signer, f.sign = f.service.key, true
	entries, err := parseKeytab(f.keytab)
	if err != nil {
		t.Fatal(err)
	}
	f.keytab = marshalKeytab(append(entries, f.service))
	// The signature is longer: make the PAC anew around it.
	f.growServerSignature(t, 20)
}

// growServerSignature moves the server's signature to the end of the PAC.
func (f *forgery) growServerSignature(t *testing.T, size int) {
	t.Helper()
	for len(f.pac)%8 != 0 {
		f.pac = append(f.pac, 0)
	}
	at := len(f.pac)
	f.pac = append(f.pac, make([]byte, size)...)
	entry, _ := f.buffer(t, 6)
	binary.LittleEndian.PutUint32(entry[4:], uint32(size))
	binary.LittleEndian.PutUint64(entry[8:], uint64(at))
}

// What is let in.
func TestLogons(t *testing.T) {
	other := dtyp.MustParseSID("S-1-5-21-1-2-3-1104")
	for name, tt := range map[string]struct {
		change func(t *testing.T, f *forgery)
		cfg    Config
		check  func(t *testing.T, f *forgery, sc gss.Context)
	}{
		"as recorded": {},
		"RC4 ticket where allowed": {
			change: func(t *testing.T, f *forgery) { f.useRC4(t) },
			cfg:    Config{AllowRC4: true},
		},
		"host key for another class": {
			change: func(_ *testing.T, f *forgery) {
				f.ticket.service.parts = []string{"ProtectedStorage", "SRV1.bkrp.test"}
			},
		},
		"no version of the key": {change: func(_ *testing.T, f *forgery) { f.kvno = 0 }},
		"just expired": {
			change: func(_ *testing.T, f *forgery) { f.part.end = f.now.Truncate(time.Second).Add(-time.Second) },
			check: func(t *testing.T, f *forgery, sc gss.Context) {
				if want := f.part.end.Add(DefaultClockSkew); !sc.Expiry().Equal(want) {
					t.Errorf("ends at %v, want %v", sc.Expiry(), want)
				}
			},
		},
		"no checksum, no mutual authentication": {
			change: func(_ *testing.T, f *forgery) { f.auth.checksum, f.options, f.auth.subkey = nil, 0, nil },
			check: func(t *testing.T, f *forgery, sc gss.Context) {
				if !bytes.Equal(sc.SessionKey(), f.part.key.Value) || sc.Flags()&gss.Mutual != 0 {
					t.Errorf("flags %b, not the ticket's key", sc.Flags())
				}
			},
		},
		"sub-key, no mutual authentication": {
			change: func(_ *testing.T, f *forgery) { f.auth.checksum, f.options = nil, 0 },
			check: func(t *testing.T, f *forgery, sc gss.Context) {
				if !bytes.Equal(sc.SessionKey(), f.auth.subkey.Value) {
					t.Error("not the client's sub-key")
				}
			},
		},
		"principal_sids": {
			change: func(_ *testing.T, f *forgery) { f.pac, f.part.authData = nil, nil },
			cfg:    Config{PrincipalSIDs: map[string]dtyp.SID{"alice@BKRP.TEST": other}},
			check: func(t *testing.T, _ *forgery, sc gss.Context) {
				if id := sc.Identity(); id.SID != other || id.Domain != "BKRP.TEST" || id.Name != "alice" || id.Groups != nil {
					t.Errorf("identity %v", id)
				}
			},
		},
		"principal_sids that say the same as the PAC": {
			cfg: Config{PrincipalSIDs: map[string]dtyp.SID{"alice@BKRP.TEST": dtyp.MustParseSID(transcripts(t)["samba-smb-1.json"].SID)}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := forge(t)
			if tt.change != nil {
				tt.change(t, f)
			}
			_, sc, log, err := f.try(t, tt.cfg, 0)
			if err != nil || sc == nil {
				t.Fatal(err)
			}
			if !strings.Contains(log, `msg="kerberos logon"`) || !strings.Contains(log, "client=alice@BKRP.TEST") || !strings.Contains(log, "sid="+sc.Identity().SID.String()) {
				t.Errorf("log: %s", log)
			}
			for _, verb := range []string{"%v", "%+v", "%#v"} {
				if text := fmt.Sprintf(verb, sc); !strings.HasPrefix(text, "krb5 context of ") {
					t.Errorf("%s prints %s", verb, text)
				}
			}
			if tt.check != nil {
				tt.check(t, f, sc)
			}
		})
	}
}

// Tokens that do not belong where they come.
func TestOutOfPlace(t *testing.T) {
	f := forge(t)
	a := f.acceptor(t, Config{})
	rep, err := sealAPRep(f.part.key, &apRepPart{ctime: f.now})
	if err != nil {
		t.Fatal(err)
	}
	for name, token := range map[string][]byte{"nothing": nil, "AP-REP": rep, "NTLM": []byte("NTLMSSP\x00"), "short": {0x60}} {
		if out, sc, err := a.Accept(gss.AcceptOptions{}).Step(t.Context(), token); !errors.Is(err, gss.ErrToken) || out != nil || sc != nil {
			t.Errorf("%s: %x, %v", name, out, err)
		}
	}
	x := a.Accept(gss.AcceptOptions{})
	token := f.seal(t, true)
	if _, _, err := x.Step(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	if _, _, err := x.Step(t.Context(), token); !errors.Is(err, gss.ErrToken) {
		t.Errorf("after the end: %v", err)
	}
}

// Names that look alike when their parts are just joined are not the same to
// the configuration.
func TestPrincipalSIDsAreOfOneName(t *testing.T) {
	for _, parts := range [][]string{{"a/b"}, {"a", "b"}, {"a@BKRP.TEST"}} {
		f := forge(t)
		f.pac, f.part.authData = nil, nil
		f.part.client = principal{1, parts}
		f.auth.client = f.part.client
		sids := map[string]dtyp.SID{"a/b@BKRP.TEST": dtyp.MustParseSID("S-1-5-21-1-2-3-4"), "a@BKRP.TEST": dtyp.MustParseSID("S-1-5-21-1-2-3-5")}
		_, sc, _, err := f.try(t, Config{PrincipalSIDs: sids}, 0)
		if len(parts) == 2 {
			if err != nil || sc.Identity().SID != sids["a/b@BKRP.TEST"] {
				t.Errorf("%q: %v", parts, err)
			}
		} else if !errors.Is(err, errNoPAC) {
			t.Errorf("%q: %v", parts, err)
		}
	}
}
