package bkrpserver_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/bkrpclient"
	"github.com/seed05845750/bkrp/bkrpserver"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/keystore"
)

// rotate makes new keys of both kinds current.
func rotate(t *testing.T, s *keystore.Store) {
	t.Helper()
	for _, kind := range []keystore.KeyKind{keystore.ClientWrap, keystore.ServerWrap} {
		if _, err := s.BeginRotation(t.Context(), kind); err != nil {
			t.Fatal(err)
		}
		if _, err := s.PreferRotation(t.Context(), kind); err != nil {
			t.Fatal(err)
		}
	}
}

// keyOf is the key that a wrapped secret names.
func keyOf(t *testing.T, blob []byte) dtyp.GUID {
	t.Helper()
	if w, err := bkrp.ParseServerWrapped(blob); err == nil {
		return w.KeyGUID
	}
	w, err := bkrp.ParseClientWrapped(blob)
	if err != nil {
		t.Fatal(err)
	}
	return w.KeyGUID
}

// blobs are secrets wrapped in every way.
func (f *fixture) blobs(secret []byte) [][]byte {
	f.t.Helper()
	return [][]byte{f.must(alice, bkrp.ActionBackup, secret), f.wrapClient(secret, 2), f.wrapClient(secret, 3)}
}

// S-3.1.4.1.2-*, S-3.1.4.1.4-*: a locked key is answered as one that is not
// there, in both sets of codes; the audit trail alone knows better.
func TestLockedKey(t *testing.T) {
	f := newFixture(t)
	blobs := f.blobs(randomSecret(64))
	rotate(t, f.Store)
	for codes, want := range map[bkrpserver.ErrorCodes]bkrp.Status{
		bkrpserver.SpecCodes: bkrp.StatusFileNotFound, bkrpserver.WindowsCodes: bkrp.StatusInvalidData,
	} {
		f.ErrorCodes = codes
		for _, blob := range blobs {
			guid := keyOf(t, blob)
			if err := f.Store.SetKeyState(t.Context(), guid, keystore.KeyLocked); err != nil {
				t.Fatal(err)
			}
			unknown := bytes.Replace(blob, guid[:], bytes.Repeat([]byte{7}, 16), 1)
			for _, action := range []bkrp.Action{bkrp.ActionRestore, bkrp.ActionRestoreWin2K} {
				f.refused(want, alice, action, unknown)
				f.refused(want, alice, action, blob)
				if e := f.last(); e.KeyState != keystore.KeyLocked || e.Key != guid || !strings.Contains(e.Reason, "locked") {
					t.Errorf("the audit trail says %v, %q", e.KeyState, e.Reason)
				}
				f.refused(want, bob, action, blob)
			}
			if err := f.Store.SetKeyState(t.Context(), guid, keystore.KeyActive); err != nil {
				t.Fatal(err)
			}
			f.must(alice, bkrp.ActionRestore, blob)
		}
	}
}

// A retired key opens what it wrapped, and each time that is told.
func TestRetiredKey(t *testing.T) {
	f := newFixture(t)
	blobs := f.blobs(randomSecret(64))
	rotate(t, f.Store)
	for _, blob := range blobs[:2] {
		if err := f.Store.SetKeyState(t.Context(), keyOf(t, blob), keystore.KeyRetired); err != nil {
			t.Fatal(err)
		}
	}
	for _, blob := range blobs {
		for range 5 {
			f.must(alice, bkrp.ActionRestore, blob)
			if e := f.last(); e.KeyState != keystore.KeyRetired {
				t.Errorf("the audit trail says %v", e.KeyState)
			}
		}
		f.refused(bkrp.StatusInvalidAccess, bob, bkrp.ActionRestore, blob)
	}
	// One line for each of the two keys, however often they were used.
	for _, blob := range blobs[:2] {
		line := `level=WARN msg="alarm: a retired key was used" key=` + keyOf(t, blob).String() + " sid=" + alice.SID.String() + " uses=1\n"
		if n := strings.Count(f.log.String(), line); n != 1 {
			t.Errorf("%d alarms in\n%s", n, f.log.String())
		}
	}
	if n := strings.Count(f.log.String(), "alarm:"); n != 2 {
		t.Errorf("%d alarms in\n%s", n, f.log.String())
	}
	var line bytes.Buffer
	if err := bkrpserver.LogAuditor(slog.New(slog.NewTextHandler(&line, nil)))(t.Context(), &f.events[len(f.events)-2]); err != nil || !strings.Contains(line.String(), " state=retired") {
		t.Errorf("the trail's line is %q, %v", line.String(), err)
	}
}

// What succeeds is counted, for the caller, and what is refused is not.
func TestUseIsCounted(t *testing.T) {
	f := newFixture(t)
	blobs := f.blobs(randomSecret(64)) // of which the two of ClientWrap fetch the certificate
	for _, blob := range blobs {
		f.must(alice, bkrp.ActionRestore, blob)
		f.must(alice, bkrp.ActionRestoreWin2K, blob)
		f.refused(bkrp.StatusInvalidAccess, bob, bkrp.ActionRestore, blob)
	}
	f.must(bob, bkrp.ActionRetrieve, nil)
	for i, want := range []keystore.Usage{{Wraps: 1, Unwraps: 2}, {Retrieves: 3, Unwraps: 4}} {
		guid := keyOf(t, blobs[i])
		u, err := f.Store.Usage(t.Context(), guid)
		if err != nil || u.Wraps != want.Wraps || u.Unwraps != want.Unwraps || u.Retrieves != want.Retrieves {
			t.Errorf("usage is %+v, %v; want %+v", u, err, want)
		}
		c, err := f.Store.Callers(t.Context(), guid)
		if err != nil || len(c.List) != 1+i || c.List[0].SID != alice.SID {
			t.Errorf("callers are %+v, %v", c, err)
		}
	}
}

// newReplicas makes services on stores over one backend.
func newReplicas(t *testing.T, names ...string) (list []*bkrpserver.Service) {
	t.Helper()
	backend, sealer := newBackend(t)
	for _, name := range names {
		store, err := keystore.Open(t.Context(), backend, sealer, keystore.Options{
			Preload: true, Replica: name, Heartbeat: 10 * time.Millisecond,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { store.Close() })
		list = append(list, &bkrpserver.Service{
			Store: store, Logger: slog.New(slog.DiscardHandler),
			Audit: func(context.Context, *bkrpserver.Event) error { return nil },
		})
	}
	return list
}

// After a rotation clients that fetch the key get the new certificate at once on
// every replica, and what was wrapped before opens for ever.
func TestRotationOnReplicas(t *testing.T) {
	replicas := newReplicas(t, "one", "two", "three")
	certificate := func(s *bkrpserver.Service) *bkrp.Certificate {
		out, status := s.BackuprKey(t.Context(), alice, bkrp.ActionRetrieve, nil)
		cert, err := bkrp.ParseCertificate(out)
		if status != bkrp.StatusOK || err != nil {
			t.Fatal(status, err)
		}
		return cert
	}
	secret := randomSecret(64)
	var blobs [][]byte
	for round := range 3 {
		old := certificate(replicas[0])
		for _, s := range replicas {
			blob, status := s.BackuprKey(t.Context(), alice, bkrp.ActionBackup, secret)
			if status != bkrp.StatusOK {
				t.Fatal(status)
			}
			blobs = append(blobs, blob)
		}
		blob, err := bkrp.WrapClient(old, alice.SID, secret, 3)
		if err != nil {
			t.Fatal(err)
		}
		blobs = append(blobs, blob)

		operator := replicas[round].Store
		r, err := operator.BeginRotation(t.Context(), keystore.ClientWrap)
		if err != nil {
			t.Fatal(err)
		}
		waitUntil(t, func() bool {
			lacking, err := operator.Lacking(t.Context(), r.Next)
			return err == nil && len(lacking) == 0
		})
		for i, s := range replicas {
			if certificate(s).GUID != old.GUID {
				t.Errorf("replica %d prefers the new key before it is told to", i)
			}
		}
		if _, err := operator.PreferRotation(t.Context(), keystore.ClientWrap); err != nil {
			t.Fatal(err)
		}
		if certificate(replicas[round]).GUID != r.Next {
			t.Error("the replica that was told of the rotation gives the old certificate")
		}
		for _, s := range replicas { // as soon as the watch has told of it
			waitUntil(t, func() bool { return certificate(s).GUID == r.Next })
		}
		for i, s := range replicas {
			for _, blob := range blobs {
				if out, status := s.BackuprKey(t.Context(), alice, bkrp.ActionRestoreWin2K, blob); status != bkrp.StatusOK || len(out) == 0 {
					t.Errorf("round %d: replica %d does not open an old secret: %v", round, i, status)
				}
			}
		}
	}
}

// While keys are rotated, and the old ones retired, 50 clients that wrap and
// unwrap without a pause see no call fail.
func TestRotationUnderLoad(t *testing.T) {
	const clients, rotations = 50, 3
	s := quietService(t)
	cfg := serve(t, s)
	var stop atomic.Bool
	var calls atomic.Int64
	var busy sync.WaitGroup
	defer func() {
		stop.Store(true)
		busy.Wait()
	}()
	for n := range clients {
		c, err := bkrpclient.Dial(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		busy.Go(func() {
			defer c.Close()
			var old [][]byte
			for secret := randomSecret(64); !stop.Load(); calls.Add(1) {
				o := bkrpclient.WrapOptions{Mode: []bkrpclient.Mode{bkrpclient.ModeServer, bkrpclient.ModeClient}[n%2]}
				blob, err := c.Wrap(context.Background(), secret, o)
				if err != nil {
					t.Errorf("client %d wraps: %v", n, err)
					return
				}
				if len(old) < 8 {
					old = append(old, blob)
				} else {
					old[1+calls.Load()%7] = blob // the first one stays
				}
				for _, blob := range [][]byte{old[0], blob} {
					if got, err := c.Unwrap(context.Background(), blob); err != nil || !bytes.Equal(got, secret) {
						t.Errorf("client %d unwraps: %v", n, err)
						return
					}
				}
			}
		})
	}
	progress := func() {
		for before := calls.Load(); calls.Load() < before+2*clients && !t.Failed(); time.Sleep(time.Millisecond) {
		}
	}
	for range rotations {
		progress()
		old, err := s.Store.CurrentServerWrapKey(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		rotate(t, s.Store)
		progress()
		if err := s.Store.SetKeyState(t.Context(), old.GUID(), keystore.KeyRetired); err != nil {
			t.Fatal(err)
		}
	}
	progress()
	t.Logf("%d rounds of calls", calls.Load())
}

func waitUntil(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it did not happen")
		}
	}
}
