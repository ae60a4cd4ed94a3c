package dpapi

import (
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/dtyp"
)

// opener opens with a domain's key pair, and says whose the secret was.
func opener(pair *bkrp.KeyPair, owner *dtyp.SID) func(context.Context, []byte) ([]byte, error) {
	return func(_ context.Context, wrapped []byte) ([]byte, error) {
		w, err := bkrp.ParseClientWrapped(wrapped)
		if err != nil {
			return nil, err
		}
		s, err := w.Open(pair.DecryptRaw, pair.RejectionKey())
		if err != nil {
			return nil, err
		}
		*owner = s.SID
		return s.Secret, nil
	}
}

// TestRecoverWindows recovers the master keys of Windows' files, of which one
// has been checked against the password part of the same file.
func TestRecoverWindows(t *testing.T) {
	adatum, err := bkrp.ParseKeyPair(vector(t, "dsinternals-adatum/lsa_secret_BCKUPKEY_efe756ec-f87c-493a-902f-259030203445.bin"))
	if err != nil {
		t.Fatal(err)
	}
	nemesis, err := bkrp.KeyPairFromPVK(vector(t, "nemesis-oldformat/backupkey_45cbf2fb-b468-471a-a374-3ca17b50cf3b.pvk"),
		dtyp.MustParseGUID("45cbf2fb-b468-471a-a374-3ca17b50cf3b"), "old.example", time.Unix(1e9, 0))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		file, secret, owner, guid string
		right, wrong              *bkrp.KeyPair
	}{
		{adatumFile, "dsinternals-adatum/expected_secret.bin", "S-1-5-21-4534338-1127018997-2609994386-500", "7fc19508-7b85-4a7c-9e5d-15f9e00e7ce5", adatum, nemesis},
		{adatumRoamed, "dsinternals-adatum/expected_secret.bin", "S-1-5-21-4534338-1127018997-2609994386-500", "7fc19508-7b85-4a7c-9e5d-15f9e00e7ce5", adatum, nemesis},
		{nemesisFile, "nemesis-oldformat/expected_secret.bin", "S-1-5-21-937929760-3187473010-80948926-2115", "ab998260-e99d-4871-8f4b-d922b2848ce6", nemesis, adatum},
	} {
		t.Run(tt.file, func(t *testing.T) {
			f, err := ParseFile(vector(t, tt.file))
			if err != nil {
				t.Fatal(err)
			}
			var owner dtyp.SID
			key, err := f.Recover(t.Context(), opener(tt.right, &owner))
			if err != nil {
				t.Fatal(err)
			}
			want := vector(t, tt.secret)
			if !bytes.Equal(key.Octets(), want) || key.SHA1() != sha1.Sum(want) || key.GUID.String() != tt.guid {
				t.Errorf("%v is another key than the expected one", key)
			}
			if owner.String() != tt.owner {
				t.Errorf("owner %v, want %s", owner, tt.owner)
			}
			key, err = f.Recover(t.Context(), opener(tt.wrong, &owner))
			if !errors.Is(err, bkrp.ErrClientSecret) || key != nil || !strings.Contains(err.Error(), tt.guid) {
				t.Errorf("by another domain's key: %v, %v", key, err)
			}
		})
	}
}

func TestRecoverRefusals(t *testing.T) {
	f, err := ParseFile(sample(t))
	if err != nil {
		t.Fatal(err)
	}
	gives := func(n int) func(context.Context, []byte) ([]byte, error) {
		return func(context.Context, []byte) ([]byte, error) { return make([]byte, n), nil }
	}
	for _, n := range []int{0, 20, 63, 65, 128} {
		if key, err := f.Recover(t.Context(), gives(n)); !errors.Is(err, ErrMasterKey) || key != nil {
			t.Errorf("%d octets: %v, %v", n, key, err)
		}
	}
	refusal := errors.New("refused")
	refuse := func(context.Context, []byte) ([]byte, error) { return nil, refusal }
	if _, err := f.Recover(t.Context(), refuse); !errors.Is(err, refusal) {
		t.Errorf("a refusal: %v", err)
	}
	f.DomainKey = nil
	if _, err := f.Recover(t.Context(), gives(MasterKeySize)); !errors.Is(err, ErrNoDomainKey) {
		t.Errorf("no domain key part: %v", err)
	}
}

func TestParseFileOfOtherKinds(t *testing.T) {
	for _, b := range [][]byte{nil, {'%'}, []byte("%0\\name"), make([]byte, 200), sample(t)[1:]} {
		if f, err := ParseFile(b); !errors.Is(err, ErrFormat) || f != nil {
			t.Errorf("%d octets: %v", len(b), err)
		}
	}
	roamed := bytes.Clone(vector(t, adatumRoamed))
	roamed[1] = '1' // a file of another kind
	if f, err := ParseFile(roamed); !errors.Is(err, ErrFormat) || f != nil || !strings.Contains(err.Error(), "kind 1") {
		t.Errorf("%v", err)
	}
}

func TestGenerateMasterKey(t *testing.T) {
	a, b := GenerateMasterKey(), GenerateMasterKey()
	if a.GUID == b.GUID || bytes.Equal(a.Octets(), b.Octets()) || len(a.Octets()) != MasterKeySize {
		t.Errorf("%v and %v", a, b)
	}
	if text := a.GUID.String(); text[14] != '4' || !strings.Contains("89ab", text[19:20]) {
		t.Errorf("GUID %s is not of version 4", text)
	}
	again, err := NewMasterKey(a.GUID, a.Octets())
	if err != nil || *again != *a {
		t.Errorf("%v, %v", again, err)
	}
	a.Clear()
	if !bytes.Equal(a.Octets(), make([]byte, MasterKeySize)) || *again == *a {
		t.Error("Clear left the key, or cleared a copy")
	}
}

func TestMasterKeyIsNotPrinted(t *testing.T) {
	k := GenerateMasterKey()
	octets, sum := k.Octets(), k.SHA1()
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("have", "key", k, "copy", *k)
	text := log.String()
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "%q", "%d"} {
		text += fmt.Sprintf(format, k) + fmt.Sprintf(format, *k)
	}
	for _, secret := range []string{hex.EncodeToString(octets[:8]), fmt.Sprint(octets[:4]), hex.EncodeToString(sum[:])} {
		if strings.Contains(strings.ToLower(text), strings.Trim(secret, "[]")) {
			t.Errorf("the key shows: %s", text)
		}
	}
	if !strings.Contains(text, "master key "+k.GUID.String()) {
		t.Errorf("the key is not named: %s", text)
	}
}
