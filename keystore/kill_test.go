package keystore_test

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/keystore"
	"github.com/seed05845750/bkrp/keystore/boltstore"
)

const (
	killDirEnv   = "BKRP_KEYSTORE_KILL_DIR" // makes the test binary the process to be killed
	killPairsEnv = "BKRP_KEYSTORE_KILL_PAIRS"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(killDirEnv); dir != "" {
		if err := rotateUntilKilled(dir, os.Getenv(killPairsEnv)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if dir := os.Getenv(coreDirEnv); dir != "" {
		if err := holdKeys(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// rotateUntilKilled opens the store in dir, creating it first if need be, and
// uses and rotates its keys. On stdout it tells each key only after the Store
// has returned it. pairDir has stored key pairs to take in place of new ones;
// where it is empty, RSA keys are made in earnest.
func rotateUntilKilled(dir, pairDir string) error {
	ctx := context.Background()
	kek, err := keystore.ReadKeyFile(filepath.Join(dir, "kek"))
	if err != nil {
		return err
	}
	path := filepath.Join(dir, "keys.db")
	b, err := boltstore.Create(path, boltstore.Options{})
	if errors.Is(err, fs.ErrExist) {
		b, err = boltstore.Open(path, boltstore.Options{})
	}
	if err != nil {
		return err
	}
	if err := keystore.Create(ctx, b, kek, testDomain); err != nil && !errors.Is(err, keystore.ErrStoreExists) {
		return err
	}
	s, err := keystore.Open(ctx, b, kek, keystore.Options{})
	if err != nil {
		return err
	}
	left := make(chan string, 1000) // the pairs that no earlier process took
	if pairDir != "" {
		s.SetGeneratePair(func(string, time.Time) (*bkrp.KeyPair, error) {
			file, ok := <-left
			if !ok {
				return nil, errors.New("no pair is left")
			}
			// Taken by renaming it, so that it is used once.
			taken := filepath.Join(dir, filepath.Base(file))
			if err := os.Rename(file, taken); err != nil {
				return nil, err
			}
			secret, err := os.ReadFile(taken)
			if err != nil {
				return nil, err
			}
			return bkrp.ParseKeyPair(secret)
		})
		files, err := filepath.Glob(filepath.Join(pairDir, "*"))
		if err != nil {
			return err
		}
		for _, file := range files {
			left <- file
		}
	}
	close(left)
	tell := func(g dtyp.GUID, err error) error {
		if err == nil {
			fmt.Printf("%v\n", g)
		}
		return err
	}
	fmt.Println("open")
	if err := tell(guidOf(s.CurrentServerWrapKey(ctx))); err != nil {
		return err
	}
	if err := tell(guidOf(s.CurrentClientWrapKey(ctx))); err != nil {
		return err
	}
	for i := 0; ; i++ {
		if pairDir == "" || i%8 == 0 && len(left) > 0 {
			if err := tell(guidOf(s.RotateClientWrapKey(ctx))); err != nil {
				return err
			}
		}
		if err := tell(guidOf(s.RotateServerWrapKey(ctx))); err != nil {
			return err
		}
	}
}

// A process that is killed at any moment leaves every key that it has given
// out openable, and one current key of each kind, or none before the first.
func TestKill(t *testing.T) {
	const rounds, roundsPerStore, inEarnest, pairCount = 210, 6, 6, 12
	if testing.Short() {
		t.Skip("kills a process 210 times, which takes half a minute or more; not with -short")
	}
	made := makePairs(t, pairCount)
	var dir, pairDir string
	acknowledged := map[string]bool{}
	kills, keys := 0, 0
	for round := range rounds {
		if round%roundsPerStore == 0 {
			keys += len(acknowledged)
			dir, acknowledged = t.TempDir(), map[string]bool{}
			if _, err := keystore.CreateKeyFile(filepath.Join(dir, "kek")); err != nil {
				t.Fatal(err)
			}
			if pairDir = ""; round >= inEarnest/roundsPerStore*roundsPerStore {
				pairDir = filepath.Join(t.TempDir())
				for name, secret := range made {
					if err := os.WriteFile(filepath.Join(pairDir, name), secret, 0o600); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		if killOne(t, dir, pairDir, acknowledged) {
			kills++
		}
		checkSurvivor(t, dir, acknowledged)
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
	keys += len(acknowledged)
	if kills < 200 {
		t.Errorf("killed the process %d times, want 200", kills)
	}
	t.Logf("%d kills, %d keys acknowledged", kills, keys)
}

// makePairs makes key pairs for many stores, by the names of their files.
func makePairs(t *testing.T, n int) map[string][]byte {
	t.Helper()
	made := make(map[string][]byte)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for range n / 2 {
				pair, err := bkrp.GenerateKeyPair(testDomain.DNSName, time.Now())
				if err != nil {
					t.Error(err)
					return
				}
				secret, err := pair.AppendBinary(nil)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				made[hex.EncodeToString(secret[20:36])] = secret
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return made
}

// killOne runs the process, kills it after a random time, and adds the keys it
// has told. It reports whether the kill came before the process ended.
func killOne(t *testing.T, dir, pairDir string, acknowledged map[string]bool) bool {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), killDirEnv+"="+dir, killPairsEnv+"="+pairDir)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// A third is killed while it creates or opens the store, the others after.
	lines := bufio.NewScanner(out)
	wait := time.Duration(rand.Int64N(int64(25 * time.Millisecond)))
	if rand.IntN(3) != 0 && lines.Scan() && pairDir == "" {
		wait *= 12 // RSA keys take that long
	}
	timer := time.AfterFunc(wait, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	for lines.Scan() {
		if line := lines.Text(); line != "open" {
			acknowledged[line] = true
		}
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Exited() {
		t.Errorf("the process ended by itself: %v, %s", err, stderr.String())
		return false
	}
	return true
}

// checkSurvivor opens what the killed process has left.
func checkSurvivor(t *testing.T, dir string, acknowledged map[string]bool) {
	t.Helper()
	path := filepath.Join(dir, "keys.db")
	if info, err := os.Stat(path); (err != nil || info.Size() == 0) && len(acknowledged) == 0 {
		return // it had not come to creating the file
	}
	b, err := boltstore.Open(path, boltstore.Options{})
	if err != nil {
		if len(acknowledged) == 0 && errors.Is(err, keystore.ErrCorrupt) {
			return // killed inside the creation of the file, which the next one finishes
		}
		t.Fatal(err)
	}
	defer b.Close()
	kek, err := keystore.ReadKeyFile(filepath.Join(dir, "kek"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := keystore.Open(t.Context(), b, kek, keystore.Options{})
	if errors.Is(err, keystore.ErrNoStore) && len(acknowledged) == 0 {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for line := range acknowledged {
		guid, err := dtyp.ParseGUID(line)
		if err != nil {
			t.Fatal(err)
		}
		_, serverErr := s.ServerWrapKey(t.Context(), guid)
		_, clientErr := s.ClientWrapKey(t.Context(), guid)
		if serverErr != nil && clientErr != nil {
			t.Errorf("key %v was given out and is lost: %v; %v", guid, serverErr, clientErr)
		}
	}
	for _, k := range kinds {
		pointer, err := s.Secret(t.Context(), k.pointer)
		if errors.Is(err, keystore.ErrNotFound) && len(acknowledged) < 2 {
			continue // killed during first use
		}
		if err != nil || len(pointer) != dtyp.GUIDSize {
			t.Errorf("%s is %x, %v", k.pointer, pointer, err)
			continue
		}
		if err := k.key(s, t.Context(), dtyp.GUID(pointer)); err != nil {
			t.Errorf("%s dangles: %v", k.pointer, err)
		}
	}
}
