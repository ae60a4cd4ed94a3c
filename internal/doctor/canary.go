package doctor

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"time"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/bkrpclient"
	"github.com/seed05845750/bkrp/dtyp"
)

// canarySize is the length of the secrets that go there and back, in octets.
const canarySize = 32

func newCanary() []byte {
	b := make([]byte, canarySize)
	rand.Read(b)
	return b
}

// errCanary is a secret that came back as another one.
var errCanary = errors.New("doctor: what comes back is another secret than was wrapped")

// opens says whether the server opens the blob, and what is in it is the canary.
func opens(ctx context.Context, c *bkrpclient.Client, blob, canary []byte) error {
	got, err := c.Unwrap(ctx, blob)
	if err != nil {
		return err
	}
	defer clear(got)
	if subtle.ConstantTimeCompare(got, canary) != 1 {
		return errCanary
	}
	return nil
}

// clientCanary wraps here and has the server unwrap.
func (p *patient) clientCanary(ctx context.Context, cert *bkrp.Certificate, sid dtyp.SID, version uint32) {
	check, level, next := CheckClientWrap2, Broken, "the server hands out a public key and does not open what is wrapped under it: look at its log and its private key, and compare it with the other servers"
	if version == bkrp.ClientWrappedVersion3 {
		check, level, next = CheckClientWrap3, Warning, "have clients stay with version 2, which is what they take by themselves, until every server opens version 3"
	}
	canary := newCanary()
	defer clear(canary)
	began := time.Now()
	blob, err := bkrp.WrapClient(cert, sid, canary, version)
	if err == nil {
		err = p.call(ctx, func(ctx context.Context, c *bkrpclient.Client) error { return opens(ctx, c, blob, canary) })
	}
	if err != nil {
		if errors.Is(err, errCanary) {
			level, next = Broken, "do not use this server: it gives wrong answers"
		}
		p.report.add(check, level, next, "wrapped here, not opened: %v", err)
		return
	}
	p.report.add(check, OK, "", "wrapped here, opened by the server in %v", rounded(time.Since(began)))
}

// serverCanary has the server wrap and unwrap.
func (p *patient) serverCanary(ctx context.Context) {
	next := "read the server's log; where ServerWrap is switched off on purpose, nothing is wrong but for clients that fall back to it"
	canary := newCanary()
	began := time.Now()
	var blob []byte
	err := p.call(ctx, func(ctx context.Context, c *bkrpclient.Client) (err error) {
		blob, err = c.Wrap(ctx, canary, bkrpclient.WrapOptions{Mode: bkrpclient.ModeServer})
		return err
	})
	if err != nil {
		level := Broken
		if errors.Is(err, bkrp.StatusNotSupported) {
			level = Warning
		}
		p.report.add(CheckServerWrap, level, next, "not wrapped: %v", err)
		return
	}
	err = p.call(ctx, func(ctx context.Context, c *bkrpclient.Client) error { return opens(ctx, c, blob, canary) })
	if err != nil {
		if errors.Is(err, errCanary) {
			next = "do not use this server: it gives wrong answers"
		}
		p.report.add(CheckServerWrap, Broken, next, "wrapped by the server, and not opened again: %v", err)
		return
	}
	p.report.wrapped, p.report.canary = blob, canary
	name := "a key of unknown name"
	if w, err := bkrp.ParseServerWrapped(blob); err == nil {
		p.report.ServerKey = w.KeyGUID.String()
		name = "key " + p.report.ServerKey
	}
	p.report.add(CheckServerWrap, OK, "", "wrapped under %s and opened by the server in %v", name, rounded(time.Since(began)))
}
