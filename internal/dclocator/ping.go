package dclocator

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"
)

// Why a domain controller that answers is not used.
var (
	errReadOnly    = errors.New("read-only, skipped")
	errPaused      = errors.New("takes no logons now, skipped")
	errExcluded    = errors.New("failed before, left out")
	errOtherDomain = errors.New("answers for another domain, skipped")
	errOtherName   = errors.New("answers by another name, skipped")
	errNotNeeded   = errors.New("no answer yet when another one came")
	errNoTime      = errors.New("not asked: the time was up before")
)

// maxAnswer bounds the answer to a ping: eight names and what stands around
// them, with room to spare.
const maxAnswer = 4096

// maxStray is how many datagrams that do not answer the ping are read over.
const maxStray = 32

// ping sends a ping to one address and gives the answer to it. The socket is
// connected: the system lets only datagrams from that address through to it.
// Nothing else ties an answer to the question but the port, which the system
// draws, and the message's number, which is drawn here.
func ping(ctx context.Context, addr netip.AddrPort, domain string, wait time.Duration) (*Reply, error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "udp", addr.String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()

	var id [4]byte
	rand.Read(id[:])
	p := Ping{ID: binary.BigEndian.Uint32(id[:]) >> 1, Domain: domain, NtVer: askedVersion}
	question := p.Append(nil)
	end := time.Now().Add(wait)
	buf := make([]byte, maxAnswer)
	// A datagram may get lost: it is sent three times in all.
	for sent, stray := 0, 0; ; {
		if sent < 3 {
			sent++
			if _, err := conn.Write(question); err != nil {
				return nil, err
			}
		}
		again := time.Now().Add(wait / 3)
		if sent == 3 || again.After(end) {
			again = end
		}
		netlogon, strays, err := readAnswer(ctx, conn, p.ID, buf, again, maxStray-stray)
		if stray += strays; err == nil {
			if netlogon == nil {
				return nil, errNotHeld
			}
			return ParseReply(netlogon)
		}
		if timeout := net.Error(nil); !errors.As(err, &timeout) || !timeout.Timeout() || ctx.Err() != nil || !time.Now().Before(end) {
			return nil, err
		}
	}
}

// readAnswer reads until the answer with that number comes, or the time is up.
func readAnswer(ctx context.Context, conn net.Conn, id uint32, buf []byte, until time.Time, most int) (netlogon []byte, stray int, err error) {
	conn.SetReadDeadline(until)
	if ctx.Err() != nil { // it may have ended before the deadline was set
		return nil, 0, ctx.Err()
	}
	for ; stray < most; stray++ {
		n, err := conn.Read(buf)
		if err != nil {
			return nil, stray, err
		}
		if n == len(buf) {
			continue
		}
		if got, netlogon, err := ParseAnswer(buf[:n]); err == nil && got == id {
			return netlogon, stray, nil
		}
	}
	return nil, stray, fmt.Errorf("%w: %d datagrams and no answer among them", ErrReply, stray)
}

// judge says whether the answer of a server is one to use: of the domain, by
// the name that DNS gave, and writable.
func judge(r *Reply, domain, host string) error {
	switch {
	case !strings.EqualFold(r.Domain, domain) || r.Flags&FlagNDNC != 0:
		return errOtherDomain
	case !strings.EqualFold(r.Host, host):
		return errOtherName
	case r.Paused:
		return errPaused
	case !r.Flags.writable():
		return errReadOnly
	}
	return nil
}

// plain says in few words what ended an attempt.
func plain(ctx context.Context, err error) error {
	var timeout net.Error
	var dns *net.DNSError
	var op *net.OpError
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return context.Cause(ctx)
	case errors.As(err, &dns) && dns.IsNotFound:
		return errors.New("no such name in DNS")
	case errors.As(err, &dns):
		return fmt.Errorf("DNS: %s", dns.Err)
	case errors.As(err, &timeout) && timeout.Timeout():
		return errors.New("no answer")
	case errors.As(err, &op):
		return op.Err
	}
	return err
}
