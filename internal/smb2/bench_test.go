package smb2

import (
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/internal/smb2/wire"
)

// cpu is what the process has used up.
func cpu() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkTransceive is a warm call over loopback: what a client of the test
// and the server need together.
func BenchmarkTransceive(b *testing.B) {
	for _, x := range []struct {
		name    string
		dialect Dialect
		signing wire.SigningAlgorithm
		cipher  wire.Cipher
	}{
		{"hmac", Dialect210, wire.AESCMAC, 0},
		{"cmac", Dialect311, wire.AESCMAC, 0},
		{"gmac", Dialect311, wire.AESGMAC, 0},
		{"gcm", Dialect311, wire.AESCMAC, wire.AES128GCM},
		{"ccm", Dialect311, wire.AESCMAC, wire.AES128CCM},
	} {
		b.Run(x.name, func(b *testing.B) {
			_, addr := startServer(b, Config{})
			c := newClient(b, addr)
			c.nc.SetDeadline(time.Time{})
			c.signing, c.cipher = x.signing, x.cipher
			c.negotiate(x.dialect)
			if st := c.authenticate(testUser, testPassword, 0); st != wire.StatusSuccess {
				b.Fatal(st)
			}
			c.connectTree()
			if x.cipher != 0 {
				c.encrypt, c.sign = true, false
			}
			body := transceiveBody(c.open("echo"), message(400), 4280)
			b.ReportAllocs()
			before := cpu()
			for b.Loop() {
				if h, _ := c.do(wire.Ioctl, body); h.Status != wire.StatusSuccess {
					b.Fatal(h.Status)
				}
			}
			b.ReportMetric(float64((cpu()-before).Microseconds())/float64(b.N), "cpu-µs/op")
		})
	}
}

// BenchmarkLogon is a cold call: connect, log on, open, call, close.
func BenchmarkLogon(b *testing.B) {
	_, addr := startServer(b, Config{})
	before := cpu()
	for b.Loop() {
		c := logon(b, addr, Dialect311, testUser)
		c.echo(c.open("echo"))
		c.nc.Close()
	}
	b.ReportMetric(float64((cpu()-before).Microseconds())/float64(b.N), "cpu-µs/op")
}

// TestIdleMemory holds what an idle connection with a session and an open pipe
// costs the server. The client's share is in it, so it is an upper bound.
func TestIdleMemory(t *testing.T) {
	_, addr := startServer(t, Config{})
	const n, most = 200, 40 << 10
	measure := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse + m.StackInuse
	}
	logon(t, addr, Dialect311, testUser).nc.Close()
	before := measure()
	clients := make([]*client, n)
	for i := range clients {
		clients[i] = logon(t, addr, Dialect311, testUser)
		clients[i].echo(clients[i].open("echo"))
	}
	after := measure()
	each := (after - min(before, after)) / n
	t.Logf("%d octets for each of %d idle connections, both ends", each, n)
	if each > most {
		t.Errorf("an idle connection costs %d octets, more than %d", each, most)
	}
	runtime.KeepAlive(clients)
}
