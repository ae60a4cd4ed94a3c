package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/seed05845750/bkrp/dtyp"
)

// sampleConfig is a configuration as bkrpd init makes it.
func sampleConfig() config {
	c := defaultConfig()
	c.Domain = domainConfig{Name: "corp.example", NetBIOS: "CORP", SID: dtyp.MustParseSID("S-1-5-21-1-2-3")}
	return c
}

func sampleText(t *testing.T, c config) string {
	t.Helper()
	var b strings.Builder
	if err := writeSample(&b, c); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

var compareConfig = cmp.Options{cmp.Comparer(func(a, b dtyp.SID) bool { return a == b }), cmpopts.EquateEmpty()}

func TestSampleIsTheDefaults(t *testing.T) {
	want := sampleConfig()
	text := sampleText(t, want)
	got, err := parseConfig("bkrpd.toml", text, nil, nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if diff := cmp.Diff(&want, got, compareConfig); diff != "" {
		t.Error(diff)
	}
	for _, o := range want.options() {
		name := o.key[strings.LastIndexByte(o.key, '.')+1:]
		if !strings.Contains(text, "# "+o.doc) || !strings.Contains(text, "\n"+name+" = ") {
			t.Errorf("the sample does not explain %s", o.key)
		}
	}
}

// Whatever is in a configuration comes back from the file it is written to.
func TestSampleKeepsEveryValue(t *testing.T) {
	want := config{
		Listen: []string{"[::1]:445", "host.example:0", "samba:/var/run/samba/ncalrpc"}, Pipes: []string{"ntsvcs", "protected_storage"},
		ErrorCodes: "windows", ServerWrap: "off", ClientWrap: "unwrap-only", ServerWrapSrvKey: "leading64", MaxInput: 12345, Control: "/run/\"odd\"\\name\x01",
		CanaryInterval: duration(time.Hour), ShutdownGrace: duration(90 * time.Second),
		Log:    logConfig{Level: "debug", Format: "json"},
		Domain: domainConfig{Name: "a.b-c.d", NetBIOS: "A-B", SID: dtyp.MustParseSID("S-1-5-21-4-5-6")},
		Store: storeConfig{Backend: "lsa", Replica: "one", Bolt: boltConfig{Path: "/var/lib/größe.db"}, Etcd: etcdConfig{
			Endpoints: []string{"https://etcd1:2379", "etcd2:2379"}, Prefix: "/other/", CAFile: "/etc/ca", CertFile: "/etc/cert", KeyFile: "/etc/key",
			User: "bkrpd", PasswordFile: "/etc/etcd", Plaintext: "anywhere", Timeout: duration(time.Hour)}, LSA: lsaStoreConfig{
			Server: "dc1.a.b-c.d:445", User: `A-B\Administrator`, PasswordFile: "/etc/dc", Poll: duration(time.Minute), Timeout: duration(time.Second)}},
		Seal:   sealConfig{KEK: kekURI{kekPassphraseFile, "/etc/p:w"}},
		HSM:    hsmConfig{Token: "kms:pkcs11:token=bkrp?module-path=/usr/lib/p11.so", ClientWrapKeys: "token", Timeout: duration(time.Minute)},
		Memory: memoryConfig{Lock: "require"},
		Auth: authConfig{NTLM: "off", NTLMMIC: "required", Keytab: "/etc/krb5.keytab", KerberosRC4: "allowed", ClockSkew: duration(time.Minute),
			PrincipalSIDs: []principalSID{{"alice@A.B", dtyp.MustParseSID("S-1-5-21-4-5-6-1100")}}},
		LSA: lsaConfig{Administrators: []dtyp.SID{dtyp.MustParseSID("S-1-5-32-544"), dtyp.MustParseSID("S-1-5-21-4-5-6-500")}, SecretEncryption: "require"},
		SMB: smbConfig{Encryption: "require", MinDialect: "3.0", MaxDialect: "3.0.2", MaxConnections: 1,
			MaxConnectionsPerAddress: 2, AuthenticationTimeout: duration(time.Minute), MaxUnauthenticatedBytes: 1 << 20,
			MaxSessions: 3, MaxOpens: 4, MaxOpensPerUser: 6, MaxOutstanding: 5, IdleTimeout: duration(time.Hour), WriteTimeout: duration(1500 * time.Millisecond)},
		Netlogon: netlogonConfig{Server: "dc1.a.b-c.d", Account: "SRV1$", PasswordFile: "/etc/machine", Timeout: duration(time.Second), SessionLifetime: duration(time.Hour)},
	}
	for _, o := range want.options() {
		if o.value.IsZero() {
			t.Fatalf("this test leaves %s at zero", o.key)
		}
	}
	got, err := parseConfig("bkrpd.toml", sampleText(t, want), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&want, got, compareConfig); diff != "" {
		t.Error(diff)
	}
}

func TestPrecedence(t *testing.T) {
	text := sampleText(t, sampleConfig()) // listen is its default
	text = strings.Replace(text, `error_codes = "spec"`, `error_codes = "windows"`, 1)
	text = strings.Replace(text, `encryption = "offer"`, `encryption = "require"`, 1)
	environ := []string{
		"HOME=/root", "BKRPD_SMB_ENCRYPTION=offer", "BKRPD_LISTEN=127.0.0.1:1, 127.0.0.1:2",
		"BKRPD_SMB_MAX_OPENS=7", "BKRPD_LSA_ADMINISTRATORS=S-1-5-21-1-2-3-500",
	}
	got, err := parseConfig("f", text, environ, []flagSetting{{"--listen", "listen", "127.0.0.1:3"}})
	if err != nil {
		t.Fatal(err)
	}
	if got.ErrorCodes != "windows" {
		t.Errorf("error_codes of the file is not taken: %q", got.ErrorCodes)
	}
	if got.SMB.Encryption != "offer" || got.SMB.MaxOpens != 7 || len(got.LSA.Administrators) != 1 {
		t.Errorf("the environment does not override the file: %+v %+v", got.SMB, got.LSA)
	}
	if !reflect.DeepEqual(got.Listen, []string{"127.0.0.1:3"}) {
		t.Errorf("the command line does not override the environment: %q", got.Listen)
	}
}

func TestRefusals(t *testing.T) {
	const domain = "[domain]\nname = \"corp.example\"\nnetbios = \"CORP\"\nsid = \"S-1-5-21-1-2-3\"\n"
	const netlogon = "[auth]\nntlm = \"netlogon\"\n[netlogon]\n"
	for _, c := range []struct {
		name string
		text string
		want string
	}{
		{"no TOML", domain + "max_input = =\n", "f:5: "},
		{"twice", domain + "name = \"b.example\"\n", "f:5: "},
		{"slip", domain + "[smb]\nencription = \"offer\"", "f:6: smb.encription: unknown key; did you mean smb.encryption?"},
		{"capitals", "Listen = []\n" + domain, "f:1: Listen: unknown key; did you mean listen?"},
		{"wrong table", "encryption = \"require\"\n" + domain, "f:1: encryption: unknown key; did you mean smb.encryption?"},
		{"unknown table once", domain + "[radius]\nserver = \"x\"\nport = 1", "f:5: radius: unknown key"},
		{"table slip", domain + "[smbb]\nencryption = \"offer\"", "f:5: smbb: unknown key"},
		{"dotted", "smb.max_open = 1\n" + domain, "f:1: smb.max_open: unknown key; did you mean smb.max_opens?"},
		{"no list", "listen = \"127.0.0.1:1\"\n" + domain, "f:1: listen: must be a list in brackets"},
		{"list of numbers", "listen = [1]\n" + domain, "f:1: listen: must be a string in quotes"},
		{"empty list", "listen = []\n" + domain, "f:1: listen: must name at least one address"},
		{"address", "listen = [\"127.0.0.1\"]\n" + domain, `f:1: listen: "127.0.0.1": must be host:port`},
		{"behind smbd, relative", "listen = [\"samba:run\"]\n" + domain, `f:1: listen: "samba:run": must be samba: and the whole path`},
		{"pipe", "pipes = [\"protected_storage\", \"spoolss\"]\n" + domain, `f:1: pipes: "spoolss" is not supported by this build, only "protected_storage" and "ntsvcs"`},
		{"codes", "error_codes = \"samba\"\n" + domain, `f:1: error_codes: "samba" is not supported by this build, only "spec" and "windows"`},
		{"size", "max_input = \"4MB\"\n" + domain, `f:1: max_input: "4MB" is not a size`},
		{"size as number", "max_input = 4\n" + domain, `f:1: max_input: must be a string in quotes`},
		{"size out of range", "max_input = \"1GiB\"\n" + domain, "f:1: max_input: must be between 1KiB and 64MiB"},
		{"size overflow", "max_input = \"9223372036854775807GiB\"\n" + domain, "f:1: max_input: "},
		{"negative size", "max_input = \"-1KiB\"\n" + domain, "f:1: max_input: "},
		{"duration", "shutdown_grace = \"10\"\n" + domain, `f:1: shutdown_grace: "10" is not a duration`},
		{"table for a value", domain + "[listen]\nx = 1", "f:5: listen: must be a value, not a table"},
		{"value for a table", "smb = 1\n" + domain, "f:1: smb: must be a table, not a value"},
		{"array of tables", domain + "[[smb]]\nencryption = \"offer\"", "f:5: smb: must be a table, not a value"},
		{"no domain", "", "f: domain.sid: must be the SID"},
		{"bad SID", "[domain]\nsid = \"S-1-x\"", "f:2: domain.sid: dtyp: malformed SID"},
		{"bad NetBIOS name", strings.Replace(domain, "CORP", "corp.example", 1), "f:3: domain.netbios: "},
		{"unknown backend", domain + "[store]\nbackend = \"consul\"", `f:6: store.backend: "consul" is not supported by this build, only "bolt"`},
		{"no cluster", domain + "[store]\nbackend = \"etcd\"", "store.etcd.endpoints: must name at least one member"},
		{"half a certificate", domain + "[store]\nbackend = \"etcd\"\n[store.etcd]\nendpoints = [\"https://a:2379\"]\ncert_file = \"c\"", "store.etcd.key_file: must be set"},
		{"no password", domain + "[store]\nbackend = \"etcd\"\n[store.etcd]\nendpoints = [\"https://a:2379\"]\nuser = \"u\"", "store.etcd.password_file: must be set"},
		{"no time", domain + "[store]\nbackend = \"etcd\"\n[store.etcd]\nendpoints = [\"https://a:2379\"]\ntimeout = \"10ms\"", "f:9: store.etcd.timeout: must be 1s or more"},
		{"later key service", domain + "[seal]\nkek = \"vault:x\"", `f:6: seal.kek: a key-encryption key by "vault" is not known, only file:, passphrase-file: and kms: are`},
		{"no token", domain + "[seal]\nkek = \"kms:yubikey:x\"", "f:6: seal.kek: hsm: PKCS#11 URI is not usable: it does not begin with pkcs11:"},
		{"no key in the token", domain + "[seal]\nkek = \"kms:pkcs11:token=a?module-path=/p\"", "f:6: seal.kek: must name the key in the token"},
		{"PIN in the clear", domain + "[seal]\nkek = \"kms:pkcs11:token=a;object=k?module-path=/p&pin-value=1\"", "f:6: seal.kek: hsm: PKCS#11 URI is not usable: a PIN does not belong here: write it into a file"},
		{"keys in no token", domain + "[hsm]\nclientwrap_keys = \"token\"", "f: hsm.token: must name a token if hsm.clientwrap_keys is"},
		{"a key for a token", domain + "[hsm]\ntoken = \"kms:pkcs11:token=a;object=k?module-path=/p\"", "f:6: hsm.token: must name a token, and no key in it"},
		{"a token as such", domain + "[hsm]\ntoken = \"pkcs11:token=a?module-path=/p\"", "f:6: hsm.token: must be kms:pkcs11:token=LABEL"},
		{"unknown logon", domain + "[auth]\nntlm = \"radius\"", `f:6: auth.ntlm: "radius" is not supported by this build, only "local", "netlogon" and "off"`},
		{"no domain controller", domain + "[auth]\nntlm = \"netlogon\"", "f: netlogon.server: must name a domain controller"},
		{"odd domain controller", domain + netlogon + "server = \"dc 1\"", "f:8: netlogon.server: must name a domain controller"},
		{"user's account", domain + netlogon + "account = \"SRV1\"", "f:8: netlogon.account: must be the NetBIOS name of this server and $"},
		{"no patience", domain + netlogon + "timeout = \"0s\"", "f:8: netlogon.timeout: must be more than 0s"},
		{"session without end", domain + netlogon + "session_lifetime = \"0s\"", "f:8: netlogon.session_lifetime: must be between"},
		{"nobody", domain + "[auth]\nntlm = \"off\"", "f:6: auth.ntlm: must not be \"off\" without a keytab"},
		{"half a principal", domain + "[auth]\nprincipal_sids = [\"alice=S-1-5-21-1-2-3-4\"]", "f:6: auth.principal_sids: \"alice=S-1-5-21-1-2-3-4\" is not NAME@REALM=SID"},
		{"no limit", domain + "[smb]\nmax_connections = 0", "f:6: smb.max_connections: must be between 1 and "},
		{"no number", domain + "[smb]\nmax_connections = \"9\"", "f:6: smb.max_connections: must be a whole number"},
		{"dialects crossed", domain + "[smb]\nmin_dialect = \"3.1.1\"\nmax_dialect = \"3.0\"", "f:6: smb.min_dialect: must not be newer"},
		{"encryption without", domain + "[smb]\nencryption = \"require\"\nmax_dialect = \"2.1\"", "f:6: smb.encryption: cannot be required"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := parseConfig("f", c.text, nil, nil)
			if err == nil || got != nil {
				t.Fatalf("accepted: %+v", got)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %q, want %q", err, c.want)
			}
			if n := strings.Count(err.Error(), "radius"); c.name == "unknown table once" && n != 1 {
				t.Errorf("%d complaints about one table: %v", n, err)
			}
		})
	}
}

func TestRefusalsBesideTheFile(t *testing.T) {
	text := sampleText(t, sampleConfig())
	for _, c := range []struct {
		name    string
		environ []string
		flags   []flagSetting
		want    string
	}{
		{"variable", []string{"BKRPD_SMB_ENCRYPTON=require"}, nil, "environment: BKRPD_SMB_ENCRYPTON: unknown key; did you mean smb.encryption?"},
		{"variable's value", []string{"BKRPD_SMB_MAX_OPENS=many"}, nil, "environment BKRPD_SMB_MAX_OPENS: smb.max_opens: must be a whole number"},
		{"variable's range", []string{"BKRPD_SMB_MAX_OPENS=0"}, nil, "environment BKRPD_SMB_MAX_OPENS: smb.max_opens: must be between"},
		{"flag", nil, []flagSetting{{"--listen", "listen", "here"}}, `--listen: listen: "here": must be host:port`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := parseConfig("f", text, c.environ, c.flags)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

// Where nobody says who checks NTLM logons, a keytab leaves nobody.
func TestNTLMByDefault(t *testing.T) {
	const domain = "[domain]\nname = \"corp.example\"\nnetbios = \"CORP\"\nsid = \"S-1-5-21-1-2-3\"\n[auth]\n"
	for _, c := range []struct {
		text    string
		environ []string
		want    string
	}{
		{"", nil, "local"},
		{"keytab = \"k\"", nil, "off"},
		{"ntlm = \"local\"\nkeytab = \"k\"", nil, "local"},
		{"keytab = \"k\"", []string{"BKRPD_AUTH_NTLM=local"}, "local"},
		{"", []string{"BKRPD_AUTH_KEYTAB=k"}, "off"},
	} {
		got, err := parseConfig("f", domain+c.text, c.environ, nil)
		if err != nil || got.Auth.NTLM != c.want {
			t.Errorf("%q, %v: %v, %v, want %q", c.text, c.environ, got, err, c.want)
		}
	}
	for _, set := range [][]string{{"auth.keytab=k"}, {"auth.keytab=k", "auth.ntlm=local"}} {
		got, err := initConfig(initOptions{Domain: "corp.example", Set: set})
		if err != nil || (got.Auth.NTLM == "off") != (len(set) == 1) {
			t.Errorf("init --set %v: %v, %v", set, got, err)
		}
	}
}

// All that is wrong is said at once.
func TestEveryFaultIsReported(t *testing.T) {
	_, err := parseConfig("f", "max_input = 1\nlog = 2\nnothing = 3\n", []string{"BKRPD_NOTHING=1"}, nil)
	if err == nil {
		t.Fatal("accepted")
	}
	if lines := strings.Split(err.Error(), "\n"); len(lines) != 4 {
		t.Errorf("%d lines, want 4:\n%v", len(lines), err)
	}
}

func TestLoadResolvesPaths(t *testing.T) {
	dir := t.TempDir()
	c := sampleConfig()
	c.Control = "/run/elsewhere.sock"
	path := filepath.Join(dir, "bkrpd.toml")
	if err := os.WriteFile(path, []byte(sampleText(t, c)), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := loadConfig(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got.Seal.KEK.Path != filepath.Join(dir, "kek.bin") || got.Store.Bolt.Path != filepath.Join(dir, "bkrpd.db") ||
		got.Control != "/run/elsewhere.sock" || got.Auth.Keytab != "" {
		t.Errorf("paths: %q %q %q %q", got.Seal.KEK.Path, got.Store.Bolt.Path, got.Control, got.Auth.Keytab)
	}
	if _, err := loadConfig(filepath.Join(dir, "absent.toml"), nil); err == nil || !strings.Contains(err.Error(), "absent.toml") {
		t.Errorf("error %v does not name the absent file", err)
	}
}

func TestTextForms(t *testing.T) {
	for s, want := range map[size]string{0: "0B", 1: "1B", 1 << 10: "1KiB", 1536: "1536B", 4 << 20: "4MiB", 3 << 30: "3GiB"} {
		if got := s.String(); got != want {
			t.Errorf("size %d is %q, want %q", int64(s), got, want)
		}
		var back size
		if err := back.UnmarshalText([]byte(want)); err != nil || back != s {
			t.Errorf("%q is %d, %v", want, int64(back), err)
		}
	}
	for d, want := range map[time.Duration]string{0: "0s", 90 * time.Second: "1m30s", 15 * time.Minute: "15m", 2 * time.Hour: "2h", 3661 * time.Second: "1h1m1s", 10 * time.Minute: "10m"} {
		if got := duration(d).String(); got != want {
			t.Errorf("duration %v is %q, want %q", d, got, want)
		}
		var back duration
		if err := back.UnmarshalText([]byte(want)); err != nil || time.Duration(back) != d {
			t.Errorf("%q is %v, %v", want, back, err)
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	var b strings.Builder
	if err := writeSample(&b, sampleConfig()); err != nil {
		f.Fatal(err)
	}
	f.Add(b.String())
	f.Add("smb = 1\n[smb.x]\n")
	f.Add("a.b = 1\na.c = [[1], {x = 2}]\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parseConfig("f", text, nil, nil)
		if err != nil {
			return
		}
		again, err := parseConfig("f", sampleText(t, *c), nil, nil)
		if err != nil {
			t.Fatalf("what was accepted is not when written anew: %v", err)
		}
		if diff := cmp.Diff(c, again, compareConfig); diff != "" {
			t.Error(diff)
		}
	})
}
