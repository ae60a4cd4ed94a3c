package interop

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/interop/peers"
	"github.com/seed05845750/bkrp/keystore"
	"github.com/seed05845750/bkrp/keystore/etcdstore"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	etcdUser     = "store"
	etcdPassword = "Sesame.Open.7"
)

// etcdWithUsers switches the cluster's authentication on. The user "store" may
// use /bkrp/, by password, and so may "bkrpd", by the name in its certificate.
func etcdWithUsers(t *testing.T) *peers.Etcd {
	t.Helper()
	e := startEtcd(t)
	c := etcdClient(t, e, "", "")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(c.UserAdd(ctx, "root", "Root.Of.All.1"))
	must(c.UserGrantRole(ctx, "root", "root"))
	must(c.RoleAdd(ctx, "keeper"))
	must(c.RoleGrantPermission(ctx, "keeper", etcdstore.DefaultPrefix, clientv3.GetPrefixRangeEnd(etcdstore.DefaultPrefix), clientv3.PermissionType(clientv3.PermReadWrite)))
	must(c.UserAdd(ctx, etcdUser, etcdPassword))
	must(c.UserGrantRole(ctx, etcdUser, "keeper"))
	must(c.UserAdd(ctx, "bkrpd", "not.used.1"))
	must(c.UserGrantRole(ctx, "bkrpd", "keeper"))
	must(c.UserAdd(ctx, "nobody", etcdPassword))
	must(c.AuthEnable(ctx))
	return e
}

func TestEtcdUsers(t *testing.T) {
	e := etcdWithUsers(t)
	o := etcdOptions(e, "")
	o.User, o.Password = etcdUser, etcdPassword
	o.Timeout = time.Minute // etcd's hash of passwords is slow, and asked for at each member
	t.Run("password", func(t *testing.T) {
		o := o
		o.Prefix = etcdstore.DefaultPrefix + "password/"
		etcdConformance(t, o)
	})
	t.Run("certificate", func(t *testing.T) {
		s := openEtcd(t, etcdOptions(e, ""))
		if _, err := s.CompareAndSwap(t.Context(), "certificate", 0, []byte("1")); err != nil {
			t.Error(err)
		}
		followEtcd(t, s)
	})
	t.Run("refusals", func(t *testing.T) { testEtcdRefusals(t, o) })
	t.Run("tokens are renewed", func(t *testing.T) {
		s := openEtcd(t, o)
		var rev keystore.Revision
		for i := range 3 {
			// Tokens live in the members' memory.
			for _, change := range []func(int) error{e.Kill, e.Restart} {
				if err := change(i); err != nil {
					t.Fatal(err)
				}
			}
			if err := e.Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
			var err error
			if rev, err = s.CompareAndSwap(t.Context(), "renewed", rev, fmt.Append(nil, i)); err != nil {
				t.Fatal(err)
			}
			if _, _, err := s.Get(t.Context(), "renewed"); err != nil {
				t.Fatal(err)
			}
			followEtcd(t, s)
		}
	})
}

func testEtcdRefusals(t *testing.T, good etcdstore.Options) {
	for _, test := range []struct {
		name  string
		spoil func(o *etcdstore.Options)
		want  error
	}{
		{"wrong password", func(o *etcdstore.Options) { o.Password += "x" }, etcdstore.ErrLogon},
		{"unknown user", func(o *etcdstore.Options) { o.User = "mallory" }, etcdstore.ErrLogon},
		{"user without a role", func(o *etcdstore.Options) { o.User = "nobody" }, etcdstore.ErrPermission},
		{"prefix of somebody else", func(o *etcdstore.Options) { o.Prefix = "/other/" }, etcdstore.ErrPermission},
		{"no client certificate", func(o *etcdstore.Options) { o.CertFile, o.KeyFile = "", ""; o.Timeout = 2 * time.Second }, etcdstore.ErrUnavailable},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := good
			test.spoil(&o)
			s, err := etcdstore.Open(t.Context(), o)
			if err == nil {
				s.Close()
			}
			if !errors.Is(err, test.want) {
				t.Errorf("%v, want %v", err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), etcdPassword) {
				t.Errorf("the error tells the password: %v", err)
			}
			t.Log(err)
		})
	}
}

// The members' certificates have to come from the authority given, whatever the
// system trusts.
func TestEtcdOtherAuthority(t *testing.T) {
	one, other := startEtcd(t), startEtcd(t)
	o := etcdOptions(one, "")
	o.CAFile = other.Client.CA
	// Time is up in the end whatever happens; a member has to have been reached before.
	var err error
	for o.Timeout = 2 * time.Second; o.Timeout < time.Minute; o.Timeout *= 4 {
		_, err = etcdstore.Open(t.Context(), o)
		if err == nil || strings.Contains(err.Error(), "unknown authority") {
			break
		}
	}
	if !errors.Is(err, etcdstore.ErrUnavailable) || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("%v, want ErrUnavailable that says unknown authority", err)
	}
	t.Log(err)
}
