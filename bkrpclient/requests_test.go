package bkrpclient_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/bkrpclient"
	"github.com/seed05845750/bkrp/bkrpserver"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/backuprkey"
	"github.com/seed05845750/bkrp/internal/dclocator/locatortest"
	"github.com/seed05845750/bkrp/internal/ndr"
)

// TestRequests: what stands in a request beside the action.
func TestRequests(t *testing.T) {
	der, server := certificate(t), serverBlob(t)
	blob := blobOf(t, der)
	var asked []backuprkey.Request
	inner := byAction(map[bkrp.Action]answer{
		bkrp.ActionRetrieve: good(der, 0), bkrp.ActionBackup: good(server, 0),
		bkrp.ActionRestore: good([]byte("\x00\x00\x00\x00secret"), 0), bkrp.ActionRestoreWin2K: good([]byte("secret"), 0),
	})
	d := fakes(t, func(q backuprkey.Request, enc ndr.Encoding) ([]byte, error) {
		q.Data = bytes.Clone(q.Data)
		asked = append(asked, q)
		return inner(q, enc)
	})
	for _, ndr64 := range []bool{false, true} {
		asked = nil
		cfg := d.config()
		cfg.Client.NDR64 = ndr64
		c := openDomain(t, cfg)
		for _, mode := range []bkrpclient.Mode{bkrpclient.ModeClient, bkrpclient.ModeServer} {
			if _, err := c.Wrap(t.Context(), []byte("secret"), bkrpclient.WrapOptions{Mode: mode}); err != nil {
				t.Error(err)
			}
		}
		for _, b := range [][]byte{blob, server} {
			if secret, err := c.Unwrap(t.Context(), b); err != nil || string(secret) != "secret" {
				t.Errorf("%q, %v", secret, err)
			}
		}
		want := []backuprkey.Request{
			{Action: dtyp.GUID(bkrp.ActionRetrieve)}, {Action: dtyp.GUID(bkrp.ActionBackup), Data: []byte("secret")},
			{Action: dtyp.GUID(bkrp.ActionRestore), Data: blob}, {Action: dtyp.GUID(bkrp.ActionRestoreWin2K), Data: server},
		}
		if len(asked) != len(want) {
			t.Fatalf("%d requests", len(asked))
		}
		for i, w := range want {
			t.Run(fmt.Sprintf("C-3.2.4-16 C-3.2.4-20 C-3.2.4.1-02 %v, NDR64 %v", bkrp.Action(w.Action), ndr64), func(t *testing.T) {
				if q := asked[i]; q.Action != w.Action || q.Param != 0 || !bytes.Equal(q.Data, w.Data) {
					t.Errorf("%v of %d octets, dwParam %d", bkrp.Action(q.Action), len(q.Data), q.Param)
				}
			})
		}
	}
}

// TestRetryAfterEachFrame: C-3.2.4-18, wherever in a call the first server is lost.
func TestRetryAfterEachFrame(t *testing.T) {
	s := startServer(t, bkrpserver.Config{})
	for after := 0; ; after++ {
		p := startCut(t, s.addr, after, false)
		d := startDomain(t, &dcAt{DC: locatortest.DC{Name: "dc1"}, addr: p.l.Addr().String()}, &dcAt{DC: locatortest.DC{Name: "dc2"}, addr: s.addr})
		c := d.open(t)
		var trace bkrpclient.Trace
		err := inHangTime(t, func() error {
			_, err := c.RetrieveKey(bkrpclient.WithTrace(context.Background(), &trace))
			return err
		})
		if err != nil {
			t.Errorf("cut after %d frames: %v", after, err)
		}
		last := trace[len(trace)-1].Server
		c.Close()
		p.stop()
		if last == "dc1."+dnsDomain { // nothing was cut before the answer was there
			if after < 8 {
				t.Errorf("%d frames make no test", after)
			}
			break
		}
	}
}
