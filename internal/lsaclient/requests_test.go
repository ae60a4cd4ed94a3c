package lsaclient

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/seed05845750/bkrp/internal/dcerpc"
	"github.com/seed05845750/bkrp/internal/lsasecret"
)

// capture is a client, and what it sends: by operation number, the last stub.
func capture(t *testing.T, sessionKey []byte) (*Client, map[uint16][]byte) {
	t.Helper()
	ours, theirs := net.Pipe()
	stubs := make(map[uint16][]byte)
	id := Interface()
	server := &dcerpc.Server{Interfaces: []dcerpc.Interface{{
		UUID: id.UUID, Major: id.Major, Minor: id.Minor, MinAuthLevel: dcerpc.LevelNone, Opnums: 64,
		Handle: func(_ context.Context, c *dcerpc.Call) ([]byte, error) {
			stubs[c.Opnum] = bytes.Clone(c.Stub)
			return nil, dcerpc.FaultOpRange
		},
	}}}
	var serving sync.WaitGroup
	serving.Go(func() { server.ServeConn(context.Background(), theirs, dcerpc.Transport{}) })
	rpc := dcerpc.NewClient(ours, dcerpc.ClientConfig{Interface: id})
	t.Cleanup(func() {
		rpc.Close()
		serving.Wait()
	})
	if err := rpc.Bind(t.Context()); err != nil {
		t.Fatal(err)
	}
	return New(rpc, sessionKey), stubs
}

// unnumbered makes all referents the same.
func unnumbered(stub []byte) []byte {
	stub = bytes.Clone(stub)
	for i := 0; i+4 <= len(stub); i += 4 {
		if stub[i+1] == 0 && stub[i+2] == 2 && stub[i+3] == 0 {
			stub[i] = 0xff
		}
	}
	return stub
}

// The stubs are those that impacket makes.
func TestRequests(t *testing.T) {
	sessionKey, value := []byte("0123456789abcdef"), []byte("8 octets")
	c, stubs := capture(t, sessionKey)
	var h Handle
	for i := range h {
		h[i] = byte(i)
	}
	ctx, name := t.Context(), "G$BCKUPKEY_P"
	_, create := c.CreateSecret(ctx, h, name, SecretSetValue)
	_, open := c.OpenSecret(ctx, h, name, SecretQueryValue)
	set := c.SetSecret(ctx, h, value)
	store := c.StorePrivateData(ctx, h, name, value)
	_, retrieve := c.RetrievePrivateData(ctx, h, name)
	for _, err := range []error{create, open, set, store, retrieve} {
		if !errors.Is(err, dcerpc.FaultOpRange) {
			t.Fatal(err)
		}
	}
	sealed, err := lsasecret.Seal(sessionKey, value)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("testdata/requests.txt")
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if words[0] == "#" {
			continue
		}
		op, err := strconv.ParseUint(words[0], 10, 16)
		if err != nil {
			t.Fatal(err)
		}
		want, err := hex.DecodeString(words[1])
		if err != nil {
			t.Fatal(err)
		}
		got := bytes.Replace(stubs[uint16(op)], sealed, []byte("sixteen octets!!"), 1)
		if !bytes.Equal(unnumbered(got), unnumbered(want)) {
			t.Errorf("operation %d:\n got %x\nwant %x", op, got, want)
		}
		checked++
	}
	if checked != 5 {
		t.Errorf("%d requests", checked)
	}
}

// No value is sent under a session key that there is not.
func TestNoSessionKey(t *testing.T) {
	c, stubs := capture(t, nil)
	for _, err := range []error{
		c.SetSecret(t.Context(), Handle{}, []byte("value")),
		c.StorePrivateData(t.Context(), Handle{}, "G$BCKUPKEY_P", []byte("value")),
	} {
		if !errors.Is(err, lsasecret.ErrSessionKey) {
			t.Error(err)
		}
	}
	if len(stubs) != 0 {
		t.Errorf("%d calls", len(stubs))
	}
}
