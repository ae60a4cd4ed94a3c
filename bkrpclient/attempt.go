package bkrpclient

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/internal/dclocator"
)

// do is one operation of the protocol by the rule of 3.2.4: when it fails, for
// whatever reason (C-3.2.4-17), another domain controller is located and the
// operation is repeated there, once (C-3.2.4-18, C-3.2.4-19). what names the
// operation in the trace.
func (d *Domain) do(ctx context.Context, r *record, what string, call func(context.Context, *Client) error) error {
	if err := d.pool.enter(ctx); err != nil {
		return d.failed(r, err)
	}
	defer d.pool.leave()
	if d.pool.isClosed() {
		return ErrClosed
	}
	dc, first := d.attempt(ctx, r, dclocator.Request{}, 2, what, call)
	if first == nil {
		return nil
	}
	if dc == "" || final(ctx, first) {
		return d.failed(r, first)
	}
	_, second := d.attempt(ctx, r, dclocator.Request{Fresh: true, Exclude: []string{dc}}, 1, what, call)
	if errors.Is(second, ErrNoServer) && d.cfg.RetrySame && ctx.Err() == nil {
		_, second = d.attempt(ctx, r, dclocator.Request{Fresh: true}, 1, what, call)
	}
	switch {
	case second == nil:
		return nil
	case errors.Is(second, ErrNoServer) && ctx.Err() == nil && !errors.Is(second, context.DeadlineExceeded):
		// It was the first that failed; there is nothing wrong with DNS.
		return d.failed(r, first)
	}
	return d.failed(r, second, first)
}

func (d *Domain) failed(r *record, errs ...error) error {
	return &DomainError{Domain: d.cfg.Domain, Trace: slices.Clip(r.steps), Errs: errs}
}

// final says whether an error is one that another server would not mend: the
// caller has gone, or the answer was a certificate that is none, of which the
// text wants an error and nothing else (C-3.2.4.1-05, A-46).
func final(ctx context.Context, err error) bool {
	return ctx.Err() != nil || errors.Is(err, bkrp.ErrCertificate)
}

// attempt makes one attempt, in its share of the time that ctx leaves to those
// that are left. dc is whom it was made at, "" if none was found.
//
// A connection that was kept and turns out to be gone, or its logon to have
// expired, is no failure of the server, which may end both as it likes: a fresh one
// takes its place, and that of the others that were kept, of which the same is to be
// expected.
func (d *Domain) attempt(ctx context.Context, r *record, req dclocator.Request, left int, what string, call func(context.Context, *Client) error) (dc string, err error) {
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)/time.Duration(left))
		defer cancel()
	}
	if !req.Fresh {
		if k := d.pool.take(""); k != nil {
			if err = d.run(ctx, r, k, what, call); !isGone(ctx, err) {
				return k.dc, err
			}
			d.pool.use("")
		}
	}
	found, trace, err := d.locator.Locate(ctx, req)
	r.located(trace)
	if err != nil {
		return "", inTime(ctx, ErrNoServer)
	}
	d.pool.use(found.Name)
	if k := d.pool.take(found.Name); k != nil {
		if err = d.run(ctx, r, k, what, call); !isGone(ctx, err) {
			return k.dc, err
		}
	}
	k, err := d.connect(ctx, r, found)
	if err != nil {
		return found.Name, err
	}
	return found.Name, d.run(ctx, r, k, what, call)
}

// connect logs on to a domain controller, by its name.
func (d *Domain) connect(ctx context.Context, r *record, dc *dclocator.DC) (*kept, error) {
	began := time.Now()
	address := d.cfg.Address(dc.Name, dc.Addr.Addr())
	c, err := d.dial(ctx, dc.Name, address)
	r.timed(began, Step{Server: dc.Name, Address: address, Doing: doingConnect, Err: err})
	if err != nil {
		return nil, err
	}
	return &kept{client: c, dc: dc.Name}, nil
}

// dial logs on to the server called name. A server that has to prove itself has
// to be a domain controller, too: each machine of the domain can prove its own
// name, and DNS and the pings say of any machine what somebody wants.
func (d *Domain) dial(ctx context.Context, name, address string) (*Client, error) {
	if d.cfg.Client.RequireMutual {
		if err := d.cfg.Client.controller(ctx, name, d.cfg.Domain); err != nil {
			return nil, err
		}
	}
	return dialAt(ctx, d.cfg.Client, name, address)
}

// run makes the call on a connection, and keeps that if it is still good.
func (d *Domain) run(ctx context.Context, r *record, k *kept, what string, call func(context.Context, *Client) error) error {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, d.cfg.Client.timeout())
	defer cancel()
	err := call(ctx, k.client)
	r.timed(began, Step{Server: k.dc, Doing: what, Err: err})
	if (err == nil || answered(err)) && ctx.Err() == nil {
		d.pool.put(k)
	} else {
		k.client.Close()
	}
	return err
}

// answered says whether an error is what the server said, on a connection that
// works. A fault is not: it is what calls get whose logon has expired, and does not
// say so.
func answered(err error) bool {
	var refused *ServerError
	return errors.As(err, &refused) || errors.Is(err, ErrResponse)
}

// isGone says whether a call on a kept connection failed since that was not
// there any more, or its logon was not good any more. A server that does not
// answer in time is another matter.
func isGone(ctx context.Context, err error) bool {
	return err != nil && !answered(err) && ctx.Err() == nil && !errors.Is(err, context.DeadlineExceeded)
}
