package npa

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	hostileSeed   = flag.Uint64("hostile.seed", 0, "seed of the hostile peers; 0 draws one")
	hostileRounds = flag.Int("hostile.rounds", 0, "hostile connections; 0 is 5000, or 500 with -short")
)

// hostileHeap is how much the heap may grow by hostile peers, in octets. The
// longest hellos of all of them are in it, at their own end.
const hostileHeap = 48 << 20

// someHellos are what hostile hellos are made from.
func someHellos(t *testing.T) [][]byte {
	return [][]byte{recordedHello(t), newHello(someHello, 0), newHello(someHello, 10_000)}
}

// spoilHello gives a hello that is not quite right.
func spoilHello(r *rand.Rand, b []byte) []byte {
	b = bytes.Clone(b)
	extremes := []uint32{0, 1, 6, 7, 8, 9, 60, 0x7ff, 0x800, 0xffff, 0x10000, helloMost, helloMost + 1, 1 << 31, 1<<32 - 1, r.Uint32()}
	for range 1 + r.IntN(3) {
		at := r.IntN(min(len(b), 160))
		switch r.IntN(10) {
		case 0:
			b = b[:max(1, r.IntN(len(b)))]
		case 1: // the length tells the truth, of too little or too much
			n := []int{r.IntN(200), r.IntN(70_000), helloMost + r.IntN(3) - 1}[r.IntN(3)]
			if n+4 > len(b) {
				b = append(b, make([]byte, n+4-len(b))...)
			}
			b = b[:n+4]
			binary.BigEndian.PutUint32(b, uint32(n))
		case 2:
			binary.BigEndian.PutUint32(b, extremes[r.IntN(len(extremes))])
		case 3: // the magic: cut, turned, in small letters
			copy(b[4:], []string{"MAPN", "npam", "NPA\x00", "\x00NPA", "SMB2"}[r.IntN(5)])
		case 4: // the levels, one or both
			level := extremes[r.IntN(len(extremes))]
			binary.LittleEndian.PutUint32(b[8:], level)
			if r.IntN(2) == 0 {
				binary.LittleEndian.PutUint32(b[12:], level)
			}
		case 5:
			b = slices.Insert(b, at, b[:r.IntN(40)]...)
		case 6:
			b = slices.Delete(b, at, min(len(b), at+1+r.IntN(16)))
		case 7:
			b[at] ^= 1 << r.IntN(8)
		default: // counts, pointers and lengths of NDR
			binary.LittleEndian.PutUint32(b[min(at&^3, len(b)-4):], extremes[r.IntN(len(extremes))])
		}
		if len(b) < 20 {
			return append(b, 0)
		}
	}
	return b
}

// hostilePeer connects, says something wrong and waits to be got rid of.
func hostilePeer(s *started, r *rand.Rand, hellos [][]byte) error {
	conn, err := net.Dial("unix", s.path())
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(hangTime))
	hello := hellos[r.IntN(len(hellos))]
	var out []byte
	pieces := 1
	switch r.IntN(8) {
	case 0:
		return nil // and is gone again
	case 1: // a good hello, octet by octet
		out, pieces = hello[:min(len(hello), 900)], 900
	case 2: // a good hello and bad messages
		out = bytes.Clone(hello)
		for range r.IntN(20) {
			n := []int{0, 1, 2, 600, 0xffff, r.IntN(0x10000)}[r.IntN(6)]
			out = append(binary.LittleEndian.AppendUint16(out, uint16(n)), make([]byte, max(0, n-r.IntN(2)*r.IntN(3)))...)
		}
	default:
		out = spoilHello(r, hello)
	}
	go func() {
		for piece := range slices.Chunk(out, max(1, len(out)/pieces)) {
			if _, err := conn.Write(piece); err != nil {
				return // refused, and at an early octet
			}
		}
		conn.(*net.UnixConn).CloseWrite()
	}()
	if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("still open after %.200x", out)
	}
	return nil
}

// TestHostilePeers lets hostile peers at a socket that honest ones use.
func TestHostilePeers(t *testing.T) {
	seed, rounds := *hostileSeed, *hostileRounds
	for seed == 0 {
		seed = rand.Uint64()
	}
	if rounds == 0 {
		rounds = 5000
		if testing.Short() {
			rounds = 500
		}
	}
	t.Logf("-hostile.seed=%d -hostile.rounds=%d", seed, rounds)
	// The server's time is not to be up for an honest client of a busy machine.
	s := start(t, Config{Limits: Limits{HelloTimeout: time.Hour, StallTimeout: time.Hour}})
	hellos := someHellos(t)
	heap, peak := heapInUse(), int64(0)
	var hanging []net.Conn
	for _, b := range hangingPeers(hellos[0]) {
		for range 20 {
			conn := s.dial(t)
			send(t, conn, b)
			hanging = append(hanging, conn)
		}
	}
	var hostile sync.WaitGroup
	var next atomic.Int64
	for range 12 {
		hostile.Go(func() {
			for i := next.Add(1); i <= int64(rounds) && !t.Failed(); i = next.Add(1) {
				if err := hostilePeer(s, rand.New(rand.NewPCG(seed, uint64(i))), hellos); err != nil {
					t.Errorf("peer %d with -hostile.seed=%d: %v", i, seed, err)
				}
			}
		})
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		hostile.Wait()
	}()
	calls := 0
	for over := false; !over; {
		select {
		case <-gone:
			over = true
		default:
		}
		conn := s.open(t, someHello)
		for range 20 {
			echo(t, conn, []byte("an honest client"))
			calls++
		}
		conn.Close()
		peak = max(peak, heapInUse())
	}
	for _, conn := range hanging {
		conn.Close()
	}
	eventually(t, "nothing is left", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.Server.open) == 0 && len(s.byClient) == 0
	})
	if strings.Contains(s.log.String(), "panic") {
		t.Error(s.log)
	}
	if n := strings.Count(s.log.String(), "\n"); n > 20 {
		t.Errorf("%d lines of log", n)
	}
	grown := peak - heap
	t.Logf("%d hostile connections; heap grew by %d KiB at most; %d honest calls", rounds, grown>>10, calls)
	if grown > hostileHeap {
		t.Errorf("heap grew by %d octets", grown)
	}
}

func heapInUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// The server loses its patience with peers that stop in the middle of something.
func TestSleepingPeers(t *testing.T) {
	s := start(t, Config{Limits: Limits{HelloTimeout: 2 * time.Second, StallTimeout: 2 * time.Second}})
	hello := someHellos(t)[0]
	var running sync.WaitGroup
	defer running.Wait()
	for _, b := range hangingPeers(hello) {
		for range 20 {
			conn := s.dial(t)
			running.Go(func() {
				conn.Write(b) // as far as it is read: what counts is the end
				if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("a peer that stops after %d octets is still there", len(b))
				}
			})
		}
	}
	dripping := s.dial(t)
	running.Go(func() { // an octet now and then does not buy time
		for _, octet := range hello {
			if _, err := dripping.Write([]byte{octet}); err != nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Error("a hello that takes 8 seconds is taken")
	})
}

// hangingPeers are beginnings of what smbd sends, all of which leave the server
// waiting for the rest, by its time-outs.
func hangingPeers(hello []byte) [][]byte {
	endless := binary.BigEndian.AppendUint32(nil, helloMost)
	return [][]byte{
		nil, hello[:2], hello[:4], hello[:50], hello[:len(hello)-1], append(endless, hello[4:]...),
		append(bytes.Clone(hello), 9), append(bytes.Clone(hello), 9, 0, 'a'),
	}
}

// A peer that hangs in the middle of something does not keep the server from
// ending, whatever its time-outs.
func TestShutdownWithHangingPeers(t *testing.T) {
	s := start(t, Config{Limits: Limits{HelloTimeout: time.Hour, StallTimeout: time.Hour}})
	hello := recordedHello(t)
	peers := append(hangingPeers(hello), hello)
	var conns []net.Conn
	for range 25 {
		for _, b := range peers {
			conn := s.dial(t)
			send(t, conn, b)
			conns = append(conns, conn)
		}
	}
	echo(t, s.open(t, someHello), []byte("they are all in by now"))
	ctx, cancel := context.WithTimeout(t.Context(), hangTime)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	for _, conn := range conns {
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("still open")
		}
	}
}
