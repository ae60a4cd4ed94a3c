package kdc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// maxMessage bounds a request, in octets.
const maxMessage = 64 << 10

// Listener serves a KDC on loopback, by TCP and UDP on the same port.
type Listener struct {
	kdc     *KDC
	tcp     net.Listener
	udp     net.PacketConn
	running sync.WaitGroup

	mu     sync.Mutex
	closed bool
	conns  map[net.Conn]struct{}
}

// portTries is how many ports are drawn until one is free for both.
const portTries = 32

// Listen serves k on a free port of 127.0.0.1 until Close.
func Listen(k *KDC) (*Listener, error) {
	l := &Listener{kdc: k, conns: make(map[net.Conn]struct{})}
	var err error
	for range portTries {
		if l.tcp, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return nil, fmt.Errorf("listening for Kerberos: %w", err)
		}
		if l.udp, err = net.ListenPacket("udp", l.tcp.Addr().String()); err == nil {
			l.running.Go(l.acceptTCP)
			l.running.Go(l.serveUDP)
			return l, nil
		}
		l.tcp.Close()
	}
	return nil, fmt.Errorf("listening for Kerberos: %w", err)
}

// Addr is host:port.
func (l *Listener) Addr() string { return l.tcp.Addr().String() }

// Close ends all connections, and waits for what runs.
func (l *Listener) Close() error {
	l.mu.Lock()
	l.closed = true
	err := errors.Join(l.tcp.Close(), l.udp.Close())
	for c := range l.conns {
		c.Close()
	}
	l.mu.Unlock()
	l.running.Wait()
	return err
}

func (l *Listener) serveUDP() {
	buf := make([]byte, maxMessage)
	for {
		n, from, err := l.udp.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // of a client that has gone
		}
		if reply := l.kdc.Answer(buf[:n]); reply != nil {
			l.udp.WriteTo(reply, from)
		}
	}
}

func (l *Listener) acceptTCP() {
	for {
		c, err := l.tcp.Accept()
		if err != nil {
			return
		}
		l.mu.Lock()
		if l.closed {
			c.Close()
		} else {
			l.conns[c] = struct{}{}
			l.running.Go(func() { l.serveTCP(c) })
		}
		l.mu.Unlock()
	}
}

// serveTCP answers the requests of a connection, each behind its length (RFC
// 4120 7.2.2).
func (l *Listener) serveTCP(c net.Conn) {
	defer func() {
		c.Close()
		l.mu.Lock()
		delete(l.conns, c)
		l.mu.Unlock()
	}()
	for {
		var size [4]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		n := binary.BigEndian.Uint32(size[:])
		if n > maxMessage {
			return
		}
		message := make([]byte, n)
		if _, err := io.ReadFull(c, message); err != nil {
			return
		}
		reply := l.kdc.Answer(message)
		if reply == nil {
			return
		}
		if _, err := c.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(reply))), reply...)); err != nil {
			return
		}
	}
}
