package interop

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/interop/peers"
)

// withoutBackupKey is the line of smb.conf that switches Samba's service off.
const withoutBackupKey = "dcerpc endpoint servers = -backupkey"

// behindSamba is a domain controller without a BackupKey service of its own,
// and ours in its place, on the pipe that its smbd passes on. SMB logons and
// \pipe\lsarpc are the domain controller's. The RPC bind is ours, by NTLM: our
// accounts have the domain's names, passwords and SIDs.
func behindSamba(t *testing.T) (dc *peers.Domain, s *server) {
	t.Helper()
	peers.Need(t, peers.DomainPrograms...)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	dc, err := peers.StartDomain(ctx, withoutBackupKey)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := dc.Close(); err != nil {
			t.Error(err)
		}
	})
	text, err := dc.SID(t.Context(), peers.Alice)
	if err != nil {
		t.Fatal(err)
	}
	alice, err := dtyp.ParseSID(text)
	if err != nil {
		t.Fatal(err)
	}
	passwords := map[string]string{}
	for _, user := range []string{peers.Administrator, peers.Alice, peers.Bob} {
		passwords[user] = dc.Password(user)
	}
	s = startBkrpd(t, options{
		settings:  map[string]string{"error_codes": `"windows"`},
		passwords: passwords,
		firstSID:  alice,
		listen:    "samba:" + dc.NCALRPCDir(),
	})
	for _, user := range []string{peers.Administrator, peers.Alice, peers.Bob} {
		if sid, err := dc.SID(t.Context(), user); err != nil || sid != s.sids[user] {
			t.Fatalf("%s is %s in the domain (%v) and %s in our store", user, sid, err, s.sids[user])
		}
	}
	return dc, s
}

// addNobodies adds accounts until the next one has the SID next.
func (s *server) addNobodies(t *testing.T, next dtyp.SID) {
	t.Helper()
	_, want, _ := next.Cut()
	for n := 1; ; n++ {
		name := fmt.Sprintf("nobody%d", n)
		out := command(t, "Correct.Horse.0\n", build(t, "bkrpd"), "user", "add", name, "--config", s.config())
		sid, err := dtyp.ParseSID(strings.TrimSpace(strings.TrimPrefix(out, name)))
		if err != nil {
			t.Fatal(err)
		}
		switch _, rid, _ := sid.Cut(); {
		case rid+1 == want:
			return
		case rid >= want:
			t.Fatalf("%v cannot be had any more: the account added is %v", next, sid)
		}
	}
}

func TestBehindSamba(t *testing.T) {
	peers.Need(t, "smbtorture")
	dc, s := behindSamba(t)
	g := sambaTarget(t, dc)
	g.sid = func(user string) string { return s.sids[user] }

	t.Run("smbtorture", func(t *testing.T) {
		// Only as alice: an administrator's cases compare our keys with what
		// they read of Samba's by its own \pipe\lsarpc, which has no NDR64
		// either.
		for _, binding := range []string{"[seal]", "[spnego,seal]", "[seal,ntlm]", "[seal,bigendian]"} {
			t.Run(binding, func(t *testing.T) {
				torture(t, dc.Client, "ncacn_np:"+dc.Addr+binding, dc.Credentials(peers.Alice), noOracle().and(deniedSecrets()))
			})
		}
		for _, binding := range []string{"[sign]", "[connect]"} {
			t.Run(binding+" S-2.1", func(t *testing.T) {
				torture(t, dc.Client, "ncacn_np:"+dc.Addr+binding, dc.Credentials(peers.Alice), nil)
			})
		}
		for _, d := range []string{"SMB2_02", "SMB2_10", "SMB3_00"} {
			t.Run(d, func(t *testing.T) {
				torture(t, dc.Client, "ncacn_np:"+dc.Addr+"[seal]", dc.Credentials(peers.Alice), noOracle().and(deniedSecrets()), dialect(d)...)
			})
		}
	})
	t.Run("impacket", func(t *testing.T) {
		needImpacket(t)
		g.fourActions(t, ndr)
		g.fourActions(t, ndr64)
		t.Run("crossover S-3.1.4.1.4", func(t *testing.T) { g.crossover(t, ndr) })
	})
	t.Run("bkrp", func(t *testing.T) { g.client(t) })
	const secret = "outlives a restart"
	wrap := func() (string, string, int) {
		return g.bkrp(t, g.login(peers.Alice), []byte(secret), "wrap", "--mode", "server")
	}
	ours, stderr, code := wrap()
	if code != bkrpOK {
		t.Fatalf("wrapping: exit code %d: %s", code, stderr)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	t.Run("Samba restarts", func(t *testing.T) {
		if err := dc.Restart(ctx, withoutBackupKey); err != nil {
			t.Fatal(err)
		}
		untilWrapped(t, wrap)
		opened, stderr, code := g.bkrp(t, g.login(peers.Alice), []byte(ours), "unwrap")
		if code != bkrpOK || opened != secret {
			t.Errorf("unwrapping: exit code %d, %d octets: %s", code, len(opened), stderr)
		}
	})
	s.stop()
	dir := t.TempDir()
	var inDomain []string
	t.Run("Kerberos", func(t *testing.T) { inDomain = behindSambaByKerberos(t, dc, dir) })
	t.Run("and back", func(t *testing.T) {
		if log := s.log.String(); !strings.Contains(log, "took it back") || strings.Contains(log, "level=ERROR") {
			t.Errorf("bkrpd logged:\n%s", log)
		}
		if _, err := os.Lstat(filepath.Join(dc.NCALRPCDir(), "np", "protected_storage")); !os.IsNotExist(err) {
			t.Errorf("our socket is still there: %v", err)
		}
		if out, stderr, code := wrap(); code == bkrpOK || out != "" {
			t.Errorf("somebody wraps: %s", stderr)
		}
		if err := dc.Restart(ctx); err != nil {
			t.Fatal(err)
		}
		theirs := untilWrapped(t, wrap)
		opened, stderr, code := g.bkrp(t, g.login(peers.Alice), []byte(theirs), "unwrap")
		if code != bkrpOK || opened != secret {
			t.Errorf("unwrapping: exit code %d, %d octets: %s", code, len(opened), stderr)
		}
		// Its keys are not ours.
		if opened, stderr, code := g.bkrp(t, g.login(peers.Alice), []byte(ours), "unwrap"); code != bkrpRefused || opened != "" {
			t.Errorf("Samba opens what we wrapped: exit code %d: %s", code, stderr)
		}
		// But those are that our server found in the domain.
		openByTickets(t, dc, dc.Host, inDomain)
	})
	t.Run("switched over", func(t *testing.T) {
		theirs := wrapByTickets(t, dc, dc.Host, t.TempDir())
		if err := dc.Restart(ctx, withoutBackupKey); err != nil {
			t.Fatal(err)
		}
		untilSambaAnswers(t, dc)
		s := serveInDomain(t, dc)
		openByTickets(t, dc, dc.Host, theirs)
		s.stop()
		if log := s.log.String(); strings.Count(log, "msg=audit") != 2*len(theirs) {
			t.Errorf("it was not our server that opened them:\n%s", log)
		}
	})
}

// behindSambaByKerberos serves the same pipe as a real domain would have it:
// logons by the Kerberos keys of the domain controller itself, callers' SIDs from
// the domain, BackupKey's keys where the domain keeps them. It gives the files in
// dir with what alice wrapped.
func behindSambaByKerberos(t *testing.T, dc *peers.Domain, dir string) (blobs []string) {
	s := serveInDomain(t, dc)
	alice := sidOf(t, dc, peers.Alice)
	const required, yes = "--use-kerberos=required", "-kyes"
	for _, c := range []struct {
		flags, user, how string
		want             expectation
	}{
		{"[seal]", peers.Administrator, required, noOracle()},
		{"[seal]", peers.Alice, required, noOracle().and(deniedSecrets())},
		{"[seal]", peers.Administrator, yes, noOracle()},
		{"[seal]", peers.Alice, yes, noOracle().and(deniedSecrets())},
		{"[seal,krb5]", peers.Alice, required, noOracle().and(deniedSecrets())},
		{"[seal,bigendian]", peers.Administrator, required, noOracle()},
	} {
		t.Run(c.user+c.flags+c.how, func(t *testing.T) {
			who := peers.Credentials{Domain: dc.Realm(), User: c.user, Password: dc.Password(c.user)}
			torture(t, dc.Client, "ncacn_np:"+dc.Host+c.flags, who, c.want, c.how)
		})
	}
	t.Run("bkrp", func(t *testing.T) { blobs = wrapByTickets(t, dc, dc.Host, dir) })
	t.Run("NTLM is off", func(t *testing.T) {
		g := sambaTarget(t, dc)
		if _, stderr, code := g.bkrp(t, g.login(peers.Alice), []byte("secret"), "wrap", "--mode", "server"); code == bkrpOK {
			t.Errorf("an NTLM bind is accepted: %s", stderr)
		}
	})
	s.stop()
	if log := s.log.String(); !strings.Contains(log, "mechanism=krb5") || strings.Contains(log, "mechanism=ntlm") || !strings.Contains(log, "sid="+alice) {
		t.Errorf("alice was not let in by Kerberos as %s", alice)
	}
	return blobs
}

// serveInDomain starts our server with the keys, for BackupKey and for Kerberos,
// of the domain controller whose pipe it serves.
func serveInDomain(t *testing.T, dc *peers.Domain) *server {
	t.Helper()
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte(dc.Password(peers.Administrator)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return startBkrpd(t, options{
		settings: map[string]string{
			"error_codes": `"windows"`, "auth.ntlm": `"off"`, "auth.keytab": fmt.Sprintf("%q", dc.Keytab()),
			"store.backend": `"lsa"`, "store.lsa.server": fmt.Sprintf("%q", dc.Addr),
			"store.lsa.user": `"BKRP\\Administrator"`, "store.lsa.password_file": fmt.Sprintf("%q", password),
		},
		firstSID: dtyp.MustParseSID(sidOf(t, dc, peers.Alice)), // for the domain's
		listen:   "samba:" + dc.NCALRPCDir(),
	})
}

// untilSambaAnswers waits for the pipes of Samba after a restart.
func untilSambaAnswers(t *testing.T, dc *peers.Domain) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		_, err := dc.SID(t.Context(), peers.Alice)
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// untilWrapped wraps again and again, until whoever has the pipe after a restart
// of Samba answers.
func untilWrapped(t *testing.T, wrap func() (string, string, int)) string {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		blob, stderr, code := wrap()
		if code == bkrpOK {
			return blob
		}
		if time.Now().After(end) {
			t.Fatalf("wrapping: exit code %d: %s", code, stderr)
		}
	}
}
