package bkrpserver_test

import (
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"testing"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/bkrpclient"
	"github.com/seed05845750/bkrp/bkrpserver"
)

// benchCase is one action with an input that it succeeds on.
type benchCase struct {
	name   string
	action bkrp.Action
	in     []byte
}

func benchCases(b *testing.B, s *bkrpserver.Service, caller bkrpserver.Caller) []benchCase {
	b.Helper()
	must := func(out []byte, status bkrp.Status) []byte {
		b.Helper()
		if status != bkrp.StatusOK {
			b.Fatal(status)
		}
		return out
	}
	secret := randomSecret(64)
	cert, err := bkrp.ParseCertificate(must(s.BackuprKey(b.Context(), caller, bkrp.ActionRetrieve, nil)))
	if err != nil {
		b.Fatal(err)
	}
	cases := []benchCase{
		{"BACKUP", bkrp.ActionBackup, secret},
		{"RESTORE_WIN2K", bkrp.ActionRestoreWin2K, must(s.BackuprKey(b.Context(), caller, bkrp.ActionBackup, secret))},
		{"RETRIEVE", bkrp.ActionRetrieve, nil},
	}
	for _, version := range []uint32{2, 3} {
		blob, err := bkrp.WrapClient(cert, caller.SID, secret, version)
		if err != nil {
			b.Fatal(err)
		}
		cases = append(cases, benchCase{fmt.Sprintf("RESTORE version %d", version), bkrp.ActionRestore, blob})
	}
	return cases
}

// BenchmarkService is each action without transport.
func BenchmarkService(b *testing.B) {
	s := quietService(b)
	for _, c := range benchCases(b, s, alice) {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, status := s.BackuprKey(b.Context(), alice, c.action, c.in); status != bkrp.StatusOK {
					b.Fatal(status)
				}
			}
		})
	}
}

// BenchmarkRSA2048Decrypt is the limit for RESTORE.
func BenchmarkRSA2048Decrypt(b *testing.B) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		b.Fatal(err)
	}
	//lint:ignore SA1019 what the protocol does (3.2.4.1)
	c, err := rsa.EncryptPKCS1v15(rand.Reader, &key.PublicKey, make([]byte, 104))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		//lint:ignore SA1019 as above
		if _, err := rsa.DecryptPKCS1v15(nil, key, c); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkLoopback is the whole path, both ends in this process: each action
// on connections that stand, and cold calls, which connect, log on, bind, call
// and close.
func BenchmarkLoopback(b *testing.B) {
	s := quietService(b)
	cfg := serve(b, s)
	account, err := s.Store.Account(b.Context(), "alice")
	if err != nil {
		b.Fatal(err)
	}
	cases := benchCases(b, s, bkrpserver.Caller{SID: account.SID})
	for _, conns := range []int{1, 64} {
		for _, c := range cases {
			b.Run(fmt.Sprintf("warm/%d connections/%s", conns, c.name), func(b *testing.B) { benchWarm(b, cfg, conns, c) })
		}
	}
	b.Run("cold/BACKUP", func(b *testing.B) {
		for b.Loop() {
			c, err := bkrpclient.Dial(b.Context(), cfg)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := c.BackuprKey(b.Context(), bkrp.ActionBackup, cases[0].in); err != nil {
				b.Fatal(err)
			}
			c.Close()
		}
	})
}

func benchWarm(b *testing.B, cfg bkrpclient.Config, conns int, c benchCase) {
	free := make(chan *bkrpclient.Client, conns)
	for range conns {
		client, err := bkrpclient.Dial(b.Context(), cfg)
		if err != nil {
			b.Fatal(err)
		}
		defer client.Close()
		free <- client
	}
	b.SetParallelism(conns)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			client := <-free
			_, err := client.BackuprKey(b.Context(), c.action, c.in)
			free <- client
			if err != nil {
				b.Error(err)
				return
			}
		}
	})
}
