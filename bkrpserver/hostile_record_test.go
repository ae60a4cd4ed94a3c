package bkrpserver_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/seed05845750/bkrp/bkrpclient"
	"github.com/seed05845750/bkrp/bkrpserver"
)

var hostileRecord = flag.Bool("hostile.record", false, "record real clients into "+recordingDir+" anew")

// source is a client that is recorded, and with which dialects.
type source struct {
	name string
	// max bounds the server's dialect; zero is 3.1.1.
	max bkrpserver.Dialect
	// run uses the server at addr, on which alice has domainPassword.
	run func(t *testing.T, d *hostileDomain, addr string)
}

// TestRecord runs real clients through a proxy and keeps what they sent.
func TestRecord(t *testing.T) {
	if !*hostileRecord {
		t.Skip("recordings are made by -hostile.record, with Samba's clients and impacket installed")
	}
	for _, s := range sources() {
		d := startHostileDomain(t, bkrpserver.Config{MaxDialect: s.max})
		r := startRecorder(t, d.addr)
		s.run(t, d, r.l.Addr().String())
		d.stop()
		saveRecordings(t, s.name, r.stop())
	}
}

// maxRecorded bounds one recording, in frames: what a client repeats adds
// nothing.
const maxRecorded = 60

// maxConnections bounds the recordings of one source: the torture suite makes
// a connection or two for each of its cases.
const maxConnections = 4

func saveRecordings(t *testing.T, name string, connections []*recording) {
	t.Helper()
	for i, r := range connections[:min(len(connections), maxConnections)] {
		r.frames = r.frames[:min(len(r.frames), maxRecorded)]
		if len(r.client()) < 3 {
			continue
		}
		file := filepath.Join(recordingDir, fmt.Sprintf("%s-%d.smb", name, i))
		if err := os.WriteFile(file, r.append(nil), 0o644); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d frames, %d octets", file, len(r.frames), len(r.append(nil)))
	}
}

func sources() []source {
	sources := []source{
		{"bkrpclient-0311", 0, recordClient(false)},
		{"bkrpclient-ndr64-0210", bkrpserver.SMB210, recordClient(true)},
		{"impacket-0210", bkrpserver.SMB210, recordImpacket(false)},
		{"impacket-ndr64-0202", bkrpserver.SMB202, recordImpacket(true)},
		{"impacket-0300", 0, recordImpacket(false)}, // encrypted
		{"smbtorture-seal-0311", 0, recordTorture("[seal]", "SMB3_11")},
		{"smbtorture-bigendian-0210", 0, recordTorture("[seal,bigendian]", "SMB2_10")},
		{"smbtorture-sign-0300", 0, recordTorture("[sign]", "SMB3_00")},
		{"smbclient-nt1", 0, recordSamba("smbclient", "--option=client min protocol=NT1", "-c", "pwd;ls;allinfo protected_storage")},
		{"smbclient-encrypted", 0, recordSamba("smbclient", "--option=client smb encrypt=required", "-c", "pwd;ls")},
	}
	for name, protocol := range map[string]string{"0202": "SMB2_02", "0210": "SMB2_10", "0300": "SMB3_00", "0302": "SMB3_02", "0311": "SMB3_11"} {
		sources = append(sources, source{"rpcclient-" + name, 0, recordSamba("rpcclient",
			"--option=client min protocol="+protocol, "--option=client max protocol="+protocol, "-c", "getusername;lookupnames alice")})
	}
	return sources
}

func recordClient(ndr64 bool) func(*testing.T, *hostileDomain, string) {
	return func(t *testing.T, d *hostileDomain, addr string) {
		cfg := d.client()
		cfg.Server, cfg.NDR64 = addr, ndr64
		c, err := bkrpclient.Dial(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for action, in := range d.inputs {
			if _, err := c.BackuprKey(t.Context(), action, in); err != nil {
				t.Error(action, err)
			}
		}
	}
}

func recordSamba(program string, options ...string) func(*testing.T, *hostileDomain, string) {
	return func(t *testing.T, d *hostileDomain, addr string) {
		host, port, _ := net.SplitHostPort(addr)
		args := append([]string{"-s", sambaConf(t), "-p", port, "-U", domainName + `\` + aliceName + "%" + domainPassword}, options...)
		if program == "smbclient" {
			host = "//" + host + "/IPC$"
		}
		// Commands that the server does not know fail; they are recorded too.
		out, err := exec.CommandContext(t.Context(), program, append(args, host)...).CombinedOutput()
		t.Logf("%s: %v\n%s", program, err, out)
	}
}

func recordTorture(binding, protocol string) func(*testing.T, *hostileDomain, string) {
	return func(t *testing.T, d *hostileDomain, addr string) {
		host, port, _ := net.SplitHostPort(addr)
		out, err := exec.CommandContext(t.Context(), "smbtorture", "-s", sambaConf(t), "--basedir="+t.TempDir(),
			"--option=smb ports="+port, "--option=client min protocol="+protocol, "--option=client max protocol="+protocol,
			"ncacn_np:"+host+binding, "rpc.backupkey",
			"-U", domainName+`\`+aliceName+"%"+domainPassword).CombinedOutput()
		t.Logf("smbtorture: %v\n%.2000s", err, out)
	}
}

// sambaConf keeps all files of Samba's clients inside the test's directory.
func sambaConf(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	conf := "[global]\nworkgroup = " + domainName + "\nnetbios name = CLIENT1\nname resolve order = host\n"
	for _, option := range []string{"lock directory", "private dir", "state directory", "cache directory", "pid directory", "ncalrpc dir"} {
		conf += option + " = " + dir + "\n"
	}
	file := filepath.Join(dir, "client.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func recordImpacket(ndr64 bool) func(*testing.T, *hostileDomain, string) {
	return func(t *testing.T, d *hostileDomain, addr string) {
		host, port, _ := net.SplitHostPort(addr)
		calls := []map[string]string{}
		for action, in := range d.inputs {
			if in != nil {
				calls = append(calls, map[string]string{"action": action.String(), "data": hex.EncodeToString(in)})
			}
		}
		job, err := json.Marshal(map[string]any{
			"host": host, "port": json.Number(port), "domain": domainName, "user": aliceName, "password": domainPassword,
			"ndr64": ndr64, "sid": d.sid.String(), "wrap": []string{}, "calls": calls,
		})
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), "/usr/bin/python3", "../interop/testdata/impacket_bkrp.py")
		cmd.Stdin = bytes.NewReader(job)
		out, err := cmd.CombinedOutput()
		t.Logf("impacket: %v\n%.300s", err, out)
	}
}
