package smb2

import (
	"context"
	"encoding/asn1"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/gss/ntlm"
	"github.com/seed05845750/bkrp/internal/gss/spnego"
	"github.com/seed05845750/bkrp/internal/smb2/wire"
)

var (
	adminsSID = dtyp.MustParseSID("S-1-5-21-1-2-3-512")
	usersSID  = dtyp.MustParseSID("S-1-5-21-1-2-3-513")
)

// memberships are the groups that a logon is told of, for tests that change
// them.
type memberships struct{ now atomic.Pointer[[]dtyp.SID] }

func (m *memberships) set(groups ...dtyp.SID) { m.now.Store(&groups) }

// acceptor knows alice, who is a member of what m says when she logs on.
func (m *memberships) acceptor(t testing.TB) *spnego.Acceptor {
	known := ntlm.LocalSource(func(context.Context, string) (ntlm.LocalAccount, error) {
		return ntlm.LocalAccount{Hash: ntlm.HashPassword(testPassword), SID: aliceSID, Name: testUser}, nil
	}, testDomain)
	mech := ntlm.NewAcceptor(ntlm.Config{NetBIOSDomain: testDomain,
		Source: func(ctx context.Context, l *ntlm.Logon) (*ntlm.Account, error) {
			a, err := known(ctx, l)
			if err == nil {
				a.Groups = *m.now.Load()
			}
			return a, err
		}})
	a, err := spnego.NewAcceptor(spnego.Mechanism{OIDs: []asn1.ObjectIdentifier{spnego.NTLM()}, Acceptor: mech})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestReauthenticationRenewsGroups has a user lose a group and log on again in
// the same session: nothing of it is left that was opened as its member.
func TestReauthenticationRenewsGroups(t *testing.T) {
	var groups memberships
	opened := make(chan []dtyp.SID, 1)
	_, addr := startServer(t, Config{Acceptor: groups.acceptor(t), Pipes: map[string]PipeFunc{
		"who": func(ctx context.Context, p *Pipe) {
			opened <- p.Identity().Groups
			<-ctx.Done()
		},
	}})
	groups.set(usersSID, adminsSID)
	c := logon(t, addr, Dialect311, testUser)
	who := func() []dtyp.SID {
		t.Helper()
		c.open("who")
		return <-opened
	}
	again := func() {
		t.Helper()
		if st := c.authenticate(testUser, testPassword, 0); st != wire.StatusSuccess {
			t.Fatal(st)
		}
	}
	if got := who(); !slices.Contains(got, adminsSID) {
		t.Fatalf("groups %v", got)
	}
	kept := c.open("echo")
	groups.set(adminsSID, usersSID) // the same, in another order
	again()
	c.echo(kept)
	groups.set(usersSID)
	again()
	if got := who(); slices.Contains(got, adminsSID) {
		t.Errorf("after the logon that shows that she is no member: groups %v", got)
	}
	c.want(wire.StatusFileClosed, wire.Ioctl, transceiveBody(kept, message(30), 100))
	kept = c.open("echo")
	groups.set(usersSID, adminsSID)
	again()
	c.echo(kept) // opened with less than she has now
	if got := who(); !slices.Contains(got, adminsSID) {
		t.Errorf("as a member once more: groups %v", got)
	}
}
