package keystore

import (
	"context"
	"errors"
	"testing"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/dtyp"
)

func openTestDomain(t *testing.T, backend Backend) *Store {
	t.Helper()
	s, err := OpenDomain(t.Context(), backend, Domain{
		DNSName: "bkrp.test", NetBIOSName: "BKRP", SID: dtyp.MustParseSID("S-1-5-21-1-2-3"),
	}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// What a domain's own services read: the formats of 2.2.5 and 2.2.7 and the
// bare GUIDs, under the names of L-13.
func TestDomainStoreIsBare(t *testing.T) {
	backend := NewMemory()
	s := openTestDomain(t, backend)
	client, err := s.CurrentClientWrapKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	server, err := s.CurrentServerWrapKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	get := func(name string) []byte {
		value, _, err := backend.Get(t.Context(), name)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return value
	}
	if g := client.GUID(); string(get(CurrentClientSecret)) != string(g[:]) {
		t.Errorf("%s is not the GUID of the key", CurrentClientSecret)
	}
	if g := server.GUID(); string(get(CurrentServerSecret)) != string(g[:]) {
		t.Errorf("%s is not the GUID of the key", CurrentServerSecret)
	}
	pair, err := bkrp.ParseKeyPair(get(keySecret(client.GUID())))
	if err != nil || pair.GUID() != client.GUID() {
		t.Errorf("key pair: %v", err)
	}
	if _, err := bkrp.ParseServerKey(get(keySecret(server.GUID()))); err != nil {
		t.Errorf("server key: %v", err)
	}

	// Another store on the same secrets goes on with them.
	again, err := openTestDomain(t, backend).CurrentClientWrapKey(t.Context())
	if err != nil || again.GUID() != client.GUID() {
		t.Errorf("second store: %v, %v", again, err)
	}
}

func TestDomainStoreHasNoAccounts(t *testing.T) {
	s := openTestDomain(t, NewMemory())
	ctx := t.Context()
	if _, err := s.AddAccount(ctx, "alice", "Correct.Horse.1"); !errors.Is(err, ErrNoAccounts) {
		t.Errorf("AddAccount: %v", err)
	}
	for what, err := range map[string]error{
		"SetPassword":   s.SetPassword(ctx, "alice", "Correct.Horse.1"),
		"SetDisabled":   s.SetDisabled(ctx, "alice", true),
		"RemoveAccount": s.RemoveAccount(ctx, "alice"),
		"Account":       second(s.Account(ctx, "alice")),
	} {
		if !errors.Is(err, ErrNoAccount) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if all, err := s.Accounts(ctx); err != nil || len(all) != 0 {
		t.Errorf("Accounts: %v, %v", all, err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestDomainStoreChecksItsDomain(t *testing.T) {
	_, err := OpenDomain(context.Background(), NewMemory(), Domain{DNSName: "bkrp.test", NetBIOSName: "BKRP"}, Options{})
	if !errors.Is(err, ErrDomain) {
		t.Errorf("no SID: %v", err)
	}
}
