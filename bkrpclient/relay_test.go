package bkrpclient_test

import (
	"net"
	"sync"
	"testing"
)

// relay passes connections on, and counts and cuts them.
type relay struct {
	addr string

	mu    sync.Mutex
	conns map[net.Conn]bool
}

func startRelay(t *testing.T, target string) *relay {
	t.Helper()
	l := listen(t)
	r := &relay{addr: l.Addr().String(), conns: make(map[net.Conn]bool)}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { r.pass(client, target) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		r.cut()
		running.Wait()
	})
	return r
}

func (r *relay) pass(client net.Conn, target string) {
	defer client.Close()
	server, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer server.Close()
	r.mu.Lock()
	r.conns[client] = true
	r.mu.Unlock()
	var up sync.WaitGroup
	up.Go(func() {
		buf := make([]byte, 1<<16)
		for {
			n, err := client.Read(buf)
			if err != nil {
				break
			}
			if _, err := server.Write(buf[:n]); err != nil {
				break
			}
		}
		server.Close()
	})
	buf := make([]byte, 1<<16)
	for {
		n, err := server.Read(buf)
		if err != nil {
			break
		}
		if _, err := client.Write(buf[:n]); err != nil {
			break
		}
	}
	client.Close()
	up.Wait()
	r.mu.Lock()
	delete(r.conns, client)
	r.mu.Unlock()
}

func (r *relay) open() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.conns)
}

// cut ends all connections, and says how many there were.
func (r *relay) cut() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.conns {
		c.Close()
	}
	return len(r.conns)
}
