package interop

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	msdcerpc "github.com/oiweiwei/go-msrpc/dcerpc"
	backupkey "github.com/oiweiwei/go-msrpc/msrpc/bkrp/backupkey/v1"
	msdtyp "github.com/oiweiwei/go-msrpc/msrpc/dtyp"
	"github.com/oiweiwei/go-msrpc/ssp"
	"github.com/oiweiwei/go-msrpc/ssp/credential"
	"github.com/oiweiwei/go-msrpc/ssp/gssapi"
	"github.com/seed05845750/bkrp/internal/dcerpc"
)

// go-msrpc's client, which offers NDR and NDR64 side by side as Windows does,
// and sends the verification trailers that it is asked to.
func TestRPCGoMSRPC(t *testing.T) {
	port := serveRPC(t, &dcerpc.Server{
		Interfaces: []dcerpc.Interface{backuprkeyEcho()}, Acceptors: rpcAcceptors(t),
	}, dcerpc.Transport{PipeName: `\PIPE\protected_storage`})
	for _, mechanism := range []gssapi.MechanismFactory{ssp.SPNEGO, ssp.NTLM} {
		for name, options := range map[string][]msdcerpc.Option{
			"NDR":               {msdcerpc.WithNDR20()},
			"NDR64":             {msdcerpc.WithNDR64()},
			"both":              {msdcerpc.WithNDR20(), msdcerpc.WithNDR64()},
			"D-08 verification": {msdcerpc.WithNDR20(), msdcerpc.WithVerifyBitMask(true), msdcerpc.WithVerifyPresentation(true), msdcerpc.WithVerifyHeader2(true)},
		} {
			t.Run(fmt.Sprintf("%v %s", mechanism.Type(), name), func(t *testing.T) {
				ctx := gssapi.NewSecurityContext(t.Context(),
					gssapi.WithCredential(credential.NewFromPassword(`BKRP\`+rpcUser, rpcPassword)),
					gssapi.WithMechanismFactory(ssp.SPNEGO), gssapi.WithMechanismFactory(ssp.NTLM),
				)
				callByGoMSRPC(ctx, t, port, append(options, msdcerpc.WithSeal())...)
			})
		}
	}
}

func callByGoMSRPC(ctx context.Context, t *testing.T, port string, options ...msdcerpc.Option) {
	t.Helper()
	conn, err := msdcerpc.Dial(ctx, "127.0.0.1", msdcerpc.WithEndpoint("ncacn_ip_tcp:127.0.0.1["+port+"]"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	client, err := backupkey.NewBackupKeyClient(ctx, conn, options...)
	if err != nil {
		t.Fatal(err)
	}
	action := &msdtyp.GUID{Data1: 0x47270c64, Data2: 0x2fc7, Data3: 0x499b, Data4: []byte{0xac, 0x5b, 0x0e, 0x37, 0xcd, 0xce, 0x89, 0x9a}}
	for _, n := range []int{1, 64, 4280, 100000} {
		data := bytes.Repeat([]byte("0123456789"), n/10+1)[:n]
		out, err := client.BackupKey(ctx, &backupkey.BackupKeyRequest{ActionAgent: action, DataIn: data, DataInLength: uint32(n)})
		if err != nil {
			t.Fatalf("%d octets: %v", n, err)
		}
		for i := range data {
			if out.DataOut[n-1-i] != data[i] {
				t.Fatalf("%d octets: the answer differs at %d", n, i)
			}
		}
	}
}
