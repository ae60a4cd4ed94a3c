package bkrptest_test

import (
	"context"
	"errors"
	"testing"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/bkrpclient"
	"github.com/seed05845750/bkrp/bkrptest"
	"github.com/seed05845750/bkrp/internal/doctest"
)

// SealPassphrase wraps the passphrase of a disk for the user of cfg.
func SealPassphrase(ctx context.Context, cfg bkrpclient.Config, passphrase []byte) ([]byte, error) {
	c, err := bkrpclient.Dial(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.Wrap(ctx, passphrase, bkrpclient.WrapOptions{})
}

// OpenPassphrase has it unwrapped again.
func OpenPassphrase(ctx context.Context, cfg bkrpclient.Config, blob []byte) ([]byte, error) {
	c, err := bkrpclient.Dial(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.Unwrap(ctx, blob)
}

func TestPassphrase(t *testing.T) {
	d := bkrptest.NewDomain(t)
	alice, bob := d.User("alice"), d.User("bob")

	blob, err := SealPassphrase(t.Context(), alice.NTLM(), []byte("correct horse"))
	if err != nil {
		t.Fatal(err)
	}
	d.Rotate() // secrets outlive the keys of their day

	got, err := OpenPassphrase(t.Context(), alice.Kerberos(), blob)
	if err != nil || string(got) != "correct horse" {
		t.Errorf("alice: %q, %v", got, err)
	}
	if _, err := OpenPassphrase(t.Context(), bob.NTLM(), blob); !errors.Is(err, bkrp.StatusInvalidAccess) {
		t.Errorf("bob: %v", err)
	}

	events := d.Events()
	last := events[len(events)-1]
	if last.Caller.SID != bob.SID || last.Owner != alice.SID || last.Status != bkrp.StatusInvalidAccess {
		t.Errorf("audit trail: %+v", last)
	}
}

func TestPassphraseWithoutServer(t *testing.T) {
	d := bkrptest.NewDomain(t)
	alice := d.User("alice").NTLM()
	for name, fault := range map[string]bkrptest.Fault{
		"refused":         bkrptest.Refuse(),
		"out of order":    bkrptest.Garbage(),
		"hung up":         bkrptest.Drop(bkrptest.SessionSetup),
		"no answer":       bkrptest.Drop(bkrptest.Response),
		"locked, once":    bkrptest.Answer(bkrp.StatusFileNotFound).Times(1),
		"not there":       bkrptest.Drop(bkrptest.Connect),
		"key unreachable": bkrptest.Answer(bkrp.StatusInternalError),
	} {
		t.Run(name, func(t *testing.T) {
			broken := d.Inject(fault)
			defer broken.Mend()
			if blob, err := SealPassphrase(t.Context(), alice, []byte("x")); err == nil {
				t.Errorf("sealed, as %d octets", len(blob))
			}
			if broken.Hits() == 0 {
				t.Error("the fault did not happen")
			}
		})
	}
}

func TestPassphraseSlowServer(t *testing.T) {
	d := bkrptest.NewDomain(t)
	held := d.Inject(bkrptest.Hold())
	ctx, giveUp := context.WithCancel(t.Context())
	go func() {
		<-held.Hit() // the server has the call
		giveUp()
	}()
	if _, err := SealPassphrase(ctx, d.User("alice").NTLM(), []byte("x")); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestPassphraseInDomain(t *testing.T) {
	d := bkrptest.NewDomain(t, bkrptest.WithControllers(2), bkrptest.WithReadOnly())
	c, err := bkrpclient.OpenDomain(d.User("alice").InDomain())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// The domain controller that is asked first breaks down, and the other answers.
	d.Inject(bkrptest.Answer(bkrp.StatusInternalError).Times(1))
	if _, err := c.Wrap(t.Context(), []byte("correct horse"), bkrpclient.WrapOptions{}); err != nil {
		t.Error(err)
	}
}

// TestGuide holds docs/testing.md against this file: its code is what runs here.
func TestGuide(t *testing.T) {
	doctest.Open(t, "../docs/testing.md").Go("guide_test.go")
}
