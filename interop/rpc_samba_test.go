package interop

import (
	"bytes"
	"context"
	"encoding/asn1"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/dcerpc"
	"github.com/seed05845750/bkrp/internal/gss"
	"github.com/seed05845750/bkrp/internal/gss/ntlm"
	"github.com/seed05845750/bkrp/internal/gss/spnego"
	stub "github.com/seed05845750/bkrp/internal/ndr"
	"github.com/seed05845750/bkrp/interop/peers"
)

// The client's end of internal/dcerpc without SMB below it: Samba's domain
// controller serves the interface of its account database on TCP as well.
func TestRPCClientOnSamba(t *testing.T) {
	dc := DC(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	bare := ntlm.NewInitiator(ntlm.Credential{
		Domain: "BKRP", User: peers.Administrator, Hash: ntlm.HashPassword(dc.Password(peers.Administrator)),
	})
	negotiated := spnego.NewInitiator(spnego.InitiatorMechanism{OIDs: []asn1.ObjectIdentifier{spnego.NTLM()}, Initiator: bare})
	samr := dcerpc.SyntaxID{UUID: dtyp.MustParseGUID("12345778-1234-abcd-ef00-0123456789ac"), Major: 1}
	port := samrPort(ctx, t, dc, samr)
	for _, tt := range []struct {
		authType  dcerpc.AuthType
		initiator gss.Initiator
	}{{dcerpc.AuthSPNEGO, negotiated}, {dcerpc.AuthNTLM, bare}} {
		for _, level := range []dcerpc.AuthLevel{dcerpc.LevelIntegrity, dcerpc.LevelPrivacy} {
			t.Run(fmt.Sprintf("type %d, %v", tt.authType, level), func(t *testing.T) {
				c := dialRPC(ctx, t, dc, port, dcerpc.ClientConfig{
					Interface: samr, Initiator: tt.initiator, AuthType: tt.authType, Level: level, NDR64: true,
				})
				if err := c.Bind(ctx); err != nil {
					t.Fatal(err)
				}
				for range 3 {
					handle := samrConnect2(ctx, t, c)
					if bytes.Equal(handle, make([]byte, 20)) {
						t.Fatal("a handle of zeros")
					}
				}
				if _, err := c.Call(ctx, 500, nil); err != dcerpc.FaultOpRange {
					t.Errorf("method 500: %v, want %v", err, dcerpc.FaultOpRange)
				}
				samrConnect2(ctx, t, c)
			})
		}
	}
}

// samrConnect2 calls SamrConnect2 ([MS-SAMR] 3.1.5.1.3), whose parameters are
// a server's name, NULL here, and an access mask.
func samrConnect2(ctx context.Context, t *testing.T, c *dcerpc.Client) []byte {
	t.Helper()
	w := stub.NewWriter(nil, c.Encoding())
	w.Referent(false)
	w.U32(0x02000000) // MAXIMUM_ALLOWED
	out, err := c.Call(ctx, 57, w.Buffer())
	if err != nil {
		t.Fatal(err)
	}
	r := stub.NewReader(out, c.Encoding())
	handle, status := r.Octets(20), r.U32()
	if err := r.Done(); err != nil || status != 0 {
		t.Fatalf("status %#x, %v", status, err)
	}
	return handle
}

func dialRPC(ctx context.Context, t *testing.T, dc *peers.Domain, port int, cfg dcerpc.ClientConfig) *dcerpc.Client {
	t.Helper()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(dc.Addr, fmt.Sprint(port)))
	if err != nil {
		t.Fatal(err)
	}
	c := dcerpc.NewClient(conn, cfg)
	t.Cleanup(func() { c.Close() })
	return c
}

// samrPort finds which of the DC's dynamic ports the interface is on.
func samrPort(ctx context.Context, t *testing.T, dc *peers.Domain, samr dcerpc.SyntaxID) int {
	t.Helper()
	for port := 49152; port < 49160; port++ {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(dc.Addr, fmt.Sprint(port)))
		if err != nil {
			continue
		}
		err = dcerpc.NewClient(conn, dcerpc.ClientConfig{Interface: samr}).Bind(ctx)
		conn.Close()
		if err == nil {
			return port
		}
	}
	t.Fatal("no port of the domain controller serves SAMR")
	return 0
}
