package keystore_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/keystore"
	"github.com/seed05845750/bkrp/keystore/boltstore"
)

// coreDirEnv makes the test binary the process whose memory is looked into.
const coreDirEnv = "BKRP_KEYSTORE_CORE_DIR"

// holdKeys opens the store in dir and goes through the life of the two keys
// that are named on stdin, telling of each step on stdout and waiting for a line
// before the next one.
func holdKeys(dir string) error {
	ctx := context.Background()
	in := bufio.NewReader(os.Stdin)
	step := func(name string) error {
		fmt.Println(name)
		_, err := in.ReadString('\n')
		return err
	}
	kek, err := keystore.ReadKeyFile(filepath.Join(dir, "kek"))
	if err != nil {
		return err
	}
	b, err := boltstore.Open(filepath.Join(dir, "keys.db"), boltstore.Options{})
	if err != nil {
		return err
	}
	s, err := keystore.Open(ctx, b, kek, keystore.Options{Preload: true})
	if err != nil {
		return err
	}
	var client, server string
	if _, err := fmt.Fscanln(in, &client, &server); err != nil {
		return err
	}
	clientGUID, serverGUID := dtyp.MustParseGUID(client), dtyp.MustParseGUID(server)
	if err := useKeys(ctx, s, clientGUID, serverGUID); err != nil {
		return err
	}
	if err := step("in use"); err != nil {
		return err
	}
	for _, g := range []dtyp.GUID{clientGUID, serverGUID} {
		if err := s.SetKeyState(ctx, g, keystore.KeyLocked); err != nil {
			return err
		}
	}
	if err := step("locked"); err != nil {
		return err
	}
	for _, g := range []dtyp.GUID{clientGUID, serverGUID} {
		if err := s.SetKeyState(ctx, g, keystore.KeyActive); err != nil {
			return err
		}
	}
	if err := useKeys(ctx, s, clientGUID, serverGUID); err != nil {
		return err
	}
	if err := step("in use again"); err != nil {
		return err
	}
	if err := errors.Join(s.Close(), b.Close()); err != nil {
		return err
	}
	return step("closed")
}

// useKeys has both keys do what they are for, a few times.
func useKeys(ctx context.Context, s *keystore.Store, clientGUID, serverGUID dtyp.GUID) error {
	client, err := s.ClientWrapKey(ctx, clientGUID)
	if err != nil {
		return err
	}
	server, err := s.ServerWrapKey(ctx, serverGUID)
	if err != nil {
		return err
	}
	for range 10 {
		c := make([]byte, 256)
		rand.Read(c[1:])
		if _, err := client.DecryptRaw(c); err != nil {
			return err
		}
		server.Derive(bkrp.SrvKeyFull, c)
	}
	return nil
}

// Nothing of a key is in a process's memory after it was locked, or the store
// closed: neither as it is stored nor as any of its numbers, in either order of
// their octets.
func TestEvictedKeysAreOverwritten(t *testing.T) {
	dir := t.TempDir()
	secrets, client, server := makeHeldStore(t, dir)
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), coreDirEnv+"="+dir)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	fmt.Fprintln(stdin, client, server)
	for _, step := range []struct {
		name   string
		inside bool
	}{{"in use", true}, {"locked", false}, {"in use again", true}, {"closed", false}} {
		if !lines.Scan() || lines.Text() != step.name {
			t.Fatalf("the process says %q, want %q", lines.Text(), step.name)
		}
		if step.inside {
			found := searchMemory(t, cmd.Process.Pid, secrets)
			// What is looked for has to be found while it is there, or the search
			// proves nothing.
			if !found["server key"] || !found["private exponent"] || !found["prime1"] {
				t.Errorf("%s: found are only %v", step.name, found)
			}
		} else {
			found := searchMemory(t, cmd.Process.Pid, secrets)
			for deadline := time.Now().Add(time.Minute); len(found) > 0 && time.Now().Before(deadline); {
				time.Sleep(50 * time.Millisecond)
				found = searchMemory(t, cmd.Process.Pid, secrets)
			}
			if len(found) > 0 {
				t.Errorf("%s: found are %v", step.name, found)
			}
		}
		fmt.Fprintln(stdin)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// makeHeldStore makes a store in dir with a current key of each kind and an
// older one, whose secret parts it returns by their names.
func makeHeldStore(t *testing.T, dir string) (secrets map[string][]byte, client, server dtyp.GUID) {
	t.Helper()
	kek, err := keystore.CreateKeyFile(filepath.Join(dir, "kek"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := boltstore.Create(filepath.Join(dir, "keys.db"), boltstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := keystore.Create(t.Context(), b, kek, testDomain); err != nil {
		t.Fatal(err)
	}
	s := openStore(t, b, kek)
	client, server = mustCurrent(t, kinds[1], s), mustCurrent(t, kinds[0], s)
	for _, k := range kinds {
		if _, err := k.rotate(s, t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	blob := mustSecret(t, s, keystore.SecretPrefix+client.String())[12:]
	secrets = map[string][]byte{"server key": mustSecret(t, s, keystore.SecretPrefix+server.String())[4:]}
	offset := 20 + 256 // behind the header and the modulus (2.2.5)
	for _, part := range []struct {
		name string
		size int
	}{{"prime1", 128}, {"prime2", 128}, {"exponent1", 128}, {"exponent2", 128}, {"coefficient", 128}, {"private exponent", 256}} {
		secrets[part.name] = blob[offset : offset+part.size]
		offset += part.size
	}
	if err := errors.Join(s.Close(), b.Close()); err != nil {
		t.Fatal(err)
	}
	return secrets, client, server
}

// searchMemory looks for each secret, in both orders of its octets, in all that
// a process may write to: what a core image would hold.
func searchMemory(t *testing.T, pid int, secrets map[string][]byte) map[string]bool {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	memory, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	// 24 octets of the middle are enough, and are found wherever an array of
	// the number begins.
	needles := make(map[string][]byte)
	for name, secret := range secrets {
		middle := slices.Clone(secret[len(secret)/2 : len(secret)/2+24])
		needles[name] = middle
		reversed := slices.Clone(middle)
		slices.Reverse(reversed)
		needles[name+" reversed"] = reversed
	}
	found := make(map[string]bool)
	read := 0
	for line := range strings.Lines(string(maps)) {
		var from, to uint64
		var mode string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &mode); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		// The race detector's shadow memory is huge and holds no octets.
		if !strings.HasPrefix(mode, "rw") || to-from > 1<<30 || from >= 1<<63 {
			continue
		}
		region := make([]byte, to-from)
		n, err := memory.ReadAt(region, int64(from))
		if err != nil && n == 0 && err != io.EOF {
			continue // a guard page
		}
		read += n
		for name, needle := range needles {
			if bytes.Contains(region[:n], needle) {
				found[strings.TrimSuffix(name, " reversed")] = true
			}
		}
	}
	if read < 1<<20 {
		t.Fatalf("only %d octets of the process's memory could be read", read)
	}
	return found
}
