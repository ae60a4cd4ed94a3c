package interop

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/interop/peers"
)

// The cases of smbtorture's rpc.backupkey, as Samba 4.17 has them.
var (
	clientWrapCases = []string{
		"retreive_backup_key_guid",
		"retreive_backup_key_guid_validate",
		"restore_guid",
		"restore_guid version 3",
		"restore_guid_2nd",
		oracleCase,
		"wrong_user_restore_guid",
		"wrong_version_restore_guid",
		"bad_magic_on_secret_restore_guid",
		"bad_hash_on_secret_restore_guid",
		"bad_magic_on_accesscheck_restore_guid",
		"bad_cert_guid_restore_guid",
		"empty_request_restore_guid",
	}
	serverWrapCases = []string{
		"server_wrap_encrypt_decrypt",
		"server_wrap_decrypt_wrong_keyGUID",
		"server_wrap_empty_request",
		"server_wrap_decrypt_short_request",
		"server_wrap_decrypt_wrong_magic",
		"server_wrap_decrypt_wrong_r2",
		"server_wrap_decrypt_wrong_payload_length",
		"server_wrap_decrypt_short_payload_length",
		"server_wrap_decrypt_zero_payload_length",
		"server_wrap_decrypt_wrong_ciphertext_length",
		"server_wrap_decrypt_short_ciphertext_length",
		"server_wrap_decrypt_zero_ciphertext_length",
	}
	// These read the server's keys as LSA secrets.
	administratorCases = []string{
		"server_wrap_encrypt_decrypt_remote_key",
		"server_wrap_encrypt_decrypt_wrong_key",
		"server_wrap_encrypt_decrypt_wrong_sid",
	}
)

const (
	// oracleCase wants another code for bad RSA padding than for bad
	// content, which would make the server a padding oracle.
	oracleCase = "unable_to_decrypt_secret"
	// These two need the codes of Windows for unknown keys.
	unknownKeyPair = "bad_cert_guid_restore_guid"
	unknownKey     = "server_wrap_decrypt_wrong_keyGUID"
	// And this one those for a wrong MAC.
	wrongSalt = "server_wrap_decrypt_wrong_r2"
)

// expectation says which cases are to fail, and on what: each text has to
// stand in what the suite says of the failure.
type expectation map[string][]string

func deniedSecrets() expectation {
	e := expectation{}
	for _, name := range administratorCases {
		e[name] = []string{"NT_STATUS_ACCESS_DENIED", "OpenSecret failed"}
	}
	return e
}

func noOracle() expectation {
	return expectation{oracleCase: {"WERR_INVALID_DATA", "WERR_INVALID_PARAMETER"}}
}

func (e expectation) and(more expectation) expectation {
	maps.Copy(e, more)
	return e
}

// torture runs the suite and compares every one of its 28 cases.
func torture(t *testing.T, client *peers.Client, binding string, who peers.Credentials, want expectation, options ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	results, output, err := client.Torture(ctx, binding, who, options...)
	if err != nil {
		t.Fatal(err)
	}
	if !checkTorture(t, results, want) {
		t.Logf("smbtorture %s as %s %q printed:\n%s", binding, who.User, options, output)
	}
}

// checkTorture compares the results of all cases with what is expected of them.
func checkTorture(t *testing.T, results map[string]peers.Result, want expectation) (good bool) {
	t.Helper()
	cases := slices.Concat(clientWrapCases, serverWrapCases, administratorCases)
	good = true
	for _, name := range cases {
		good = checkCase(t, name, results[name], want[name]) && good
	}
	for name := range results {
		if !slices.Contains(cases, name) {
			t.Errorf("%s: a case this test does not know", name)
			good = false
		}
	}
	return good
}

func checkCase(t *testing.T, name string, got peers.Result, failure []string) bool {
	t.Helper()
	want := peers.Success
	if failure != nil {
		want = peers.Failure
	}
	if got.Verdict != want {
		t.Errorf("%s: verdict %q, want %q: %s", name, got.Verdict, want, got.Detail)
		return false
	}
	for _, text := range failure {
		if !strings.Contains(got.Output+"\n"+got.Detail, text) {
			t.Errorf("%s: failed on another check than expected, without %s: %s", name, text, got.Detail)
			return false
		}
	}
	return true
}

// The suite against Samba itself: all that is expected of ours below is what
// a domain controller in production answers.
func TestTortureSamba(t *testing.T) {
	peers.Need(t, "smbtorture")
	dc := DC(t)
	everywhere := "ncacn_np:" + dc.Addr
	for _, c := range []struct {
		name    string
		flags   string
		user    string
		want    expectation
		options []string
	}{
		{"administrator", "[seal]", peers.Administrator, nil, nil},
		{"ordinary user", "[seal]", peers.Alice, deniedSecrets(), nil},
		{"big-endian", "[seal,bigendian]", peers.Administrator, nil, nil},
		{"only signed", "[sign]", peers.Administrator, nil, nil},
		{"only connected", "[connect]", peers.Administrator, nil, nil},
		{"SMB 2.0.2", "[seal]", peers.Administrator, nil, dialect("SMB2_02")},
	} {
		t.Run(c.name, func(t *testing.T) {
			torture(t, dc.Client, everywhere+c.flags, dc.Credentials(c.user), c.want, c.options...)
		})
	}
}

// dialect makes Samba's clients speak only the named dialect; rpcclient reads
// the options for IPC$, smbtorture the others.
func dialect(name string) []string { return dialects(name, name) }

func dialects(oldest, newest string) []string {
	return []string{
		"--option=client min protocol=" + oldest, "--option=client max protocol=" + newest,
		"--option=client ipc min protocol=" + oldest, "--option=client ipc max protocol=" + newest,
	}
}

// The suite against our server, with the codes of Windows for unknown keys.
func TestTorture(t *testing.T) {
	peers.Need(t, "smbtorture", "unshare", "bash")
	s := startBkrpd(t, options{
		settings:       map[string]string{"error_codes": `"windows"`},
		administrators: []string{peers.Administrator},
	})
	for _, c := range []struct {
		name    string
		flags   string
		user    string
		want    expectation
		options []string
	}{
		{"administrator", "[seal]", peers.Administrator, noOracle(), nil},
		{"ordinary user", "[seal]", peers.Alice, noOracle().and(deniedSecrets()), nil},
		{"only signed S-2.1", "[sign]", peers.Administrator, nil, nil},
		{"only connected", "[connect]", peers.Administrator, nil, nil},
		{"SMB 2.0.2", "[seal]", peers.Administrator, noOracle(), dialect("SMB2_02")},
		{"SMB 2.1", "[seal]", peers.Administrator, noOracle(), dialect("SMB2_10")},
		{"SMB 3.0", "[seal]", peers.Administrator, noOracle(), dialect("SMB3_00")},
		{"SMB 3.0.2", "[seal]", peers.Administrator, noOracle(), dialect("SMB3_02")},
		{"SMB 3.1.1", "[seal]", peers.Administrator, noOracle(), dialect("SMB3_11")},
		{"encrypted SMB", "[seal]", peers.Administrator, noOracle(), []string{"--option=client smb encrypt=required"}},
		{"big-endian", "[seal,bigendian]", peers.Administrator, noOracle(), nil},
		{"NDR64", "[seal,ndr64]", peers.Administrator, noOracle(), nil},
		{"SPNEGO", "[spnego,seal]", peers.Administrator, noOracle(), nil},
		{"NTLM", "[seal,ntlm]", peers.Administrator, noOracle(), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			options := append([]string{"--option=smb ports=" + s.port}, c.options...)
			torture(t, s.client, "ncacn_np:"+s.host+c.flags, s.credentials(c.user), c.want, options...)
		})
	}
}

// By default unknown keys and wrong MACs get the codes of the document, which
// the suite
// counts as three more failures.
func TestTortureSpecCodes(t *testing.T) {
	peers.Need(t, "smbtorture", "unshare", "bash")
	s := startBkrpd(t, options{
		settings: map[string]string{"smb.encryption": `"require"`},
	})
	want := noOracle().and(deniedSecrets()).and(expectation{
		unknownKeyPair: {"WERR_FILE_NOT_FOUND"},
		unknownKey:     {"WERR_FILE_NOT_FOUND"},
		wrongSalt:      {"WERR_INVALID_ACCESS", "WERR_INVALID_PARAMETER"},
	})
	torture(t, s.client, "ncacn_np:"+s.host+"[seal]", s.credentials(peers.Alice), want, "--option=smb ports="+s.port)
}

// What a server that demands encryption, or other dialects, says to a client
// that has none of it. It also shows that the dialects above are spoken.
func TestDialectRefused(t *testing.T) {
	peers.Need(t, "rpcclient", "smbtorture", "bash")
	for _, c := range []struct {
		name     string
		settings map[string]string
		client   string
		want     string
	}{
		{"no encryption", map[string]string{"smb.encryption": `"require"`}, "SMB2_10", "NT_STATUS_ACCESS_DENIED"},
		{"too old", map[string]string{"smb.min_dialect": `"3.0.2"`}, "SMB3_00", "NT_STATUS_NOT_SUPPORTED"},
		{"too new", map[string]string{"smb.max_dialect": `"2.1"`}, "SMB3_00", "NT_STATUS_NOT_SUPPORTED"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := startBkrpd(t, options{settings: c.settings})
			who := s.credentials(peers.Alice)
			out, err := s.client.RPCClient(t.Context(), s.host, s.port, who, "getusername", dialect(c.client)...)
			if err != nil {
				t.Fatal(err)
			}
			if out.Code == 0 || !strings.Contains(out.String(), c.want) {
				t.Errorf("rpcclient in %s: want %s: %s", c.client, c.want, out)
			}
			pinned := append(dialect(c.client), "--option=smb ports="+s.port)
			if results, output, err := s.client.Torture(t.Context(), "ncacn_np:"+s.host+"[seal]", who, pinned...); err == nil {
				for name, r := range results {
					if r.Verdict == peers.Success {
						t.Fatalf("smbtorture in %s: %s succeeded:\n%s", c.client, name, output)
					}
				}
			}
		})
	}
}
