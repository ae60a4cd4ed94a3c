package interop

import (
	"context"
	"fmt"
	mathrand "math/rand/v2"
	"syscall"
	"time"

	"github.com/seed05845750/bkrp/bkrpclient"
	"github.com/seed05845750/bkrp/interop/peers"
)

// breakage is one way of breaking something, and of mending it again.
type breakage struct {
	fault      clusterFault
	fail, mend func(ctx context.Context) error
}

// draw chooses a victim and what happens to it.
func (c *cluster) draw(d *clusterDomain, r *mathrand.Rand) breakage {
	i := r.IntN(clusterSize)
	if r.IntN(5) < 2 {
		return c.breakEtcd(i, r.IntN(3))
	}
	return c.breakServer(d, i, r.IntN(4))
}

func (c *cluster) breakEtcd(i, way int) breakage {
	b := breakage{fault: clusterFault{etcd: true, number: i}}
	switch way {
	case 0:
		b.fault.way, b.fault.killed = "killed", true
		b.fail = func(context.Context) error { return c.Kill(i) }
		b.mend = func(context.Context) error { return c.Restart(i) }
	case 1:
		b.fault.way = "cut off"
		b.fail, b.mend = c.hosts[i].Cut, c.hosts[i].Heal
	default:
		b.fault.way = "stopped"
		b.fail = func(context.Context) error { return c.Pause(i) }
		b.mend = func(context.Context) error { return c.Resume(i) }
	}
	return b
}

func (c *cluster) breakServer(d *clusterDomain, i, way int) breakage {
	b, s := breakage{fault: clusterFault{number: i}}, d.servers[i]
	switch way {
	case 0:
		b.fault.way, b.fault.killed = "killed", true
		b.fail = func(context.Context) error { return s.kill() }
		b.mend = func(context.Context) error { return s.start() }
	case 1:
		b.fault.way = "cut off"
		b.fail, b.mend = s.place.Cut, s.place.Heal
	case 2:
		b.fault.way = "stopped"
		b.fail = func(context.Context) error { return s.signal(syscall.SIGSTOP) }
		b.mend = func(context.Context) error { return s.signal(syscall.SIGCONT) }
	default:
		b.fault.way = wayIsolated
		b.fail = func(ctx context.Context) error { return c.isolate(ctx, i) }
		b.mend = func(ctx context.Context) error { return c.rejoin(ctx, i) }
	}
	return b
}

// strike breaks something after a while, leaves it so for another, mends it and
// waits until it works. Whatever goes wrong, it is mended.
func (c *cluster) strike(ctx context.Context, d *clusterDomain, h *clusterHistory, b breakage, after, hold time.Duration) error {
	time.Sleep(after)
	b.fault.from = h.now()
	err := b.fail(ctx)
	if err == nil {
		time.Sleep(hold)
	}
	if mendErr := b.mend(ctx); err == nil {
		err = mendErr
	}
	if err == nil {
		err = c.works(ctx, d, &b.fault)
	}
	b.fault.to = h.now()
	h.addFault(b.fault)
	if err != nil {
		return fmt.Errorf("%v: %w", &b.fault, err)
	}
	return nil
}

// works waits until the victim of a fault answers again.
func (c *cluster) works(ctx context.Context, d *clusterDomain, f *clusterFault) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	if f.etcd {
		return c.Ready(ctx)
	}
	for {
		err := d.answers(ctx, f.number, 2*time.Second)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("it does not answer again: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// answers makes a logon and a call at a server, in some time, which need nothing of
// etcd's that it could not have in memory.
func (d *clusterDomain) answers(ctx context.Context, server int, within time.Duration) error {
	c := &clusterCaller{domain: d, server: server, user: peers.Alice}
	defer c.close()
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	return c.call(ctx, func(ctx context.Context, client *bkrpclient.Client) error {
		_, err := client.SID(ctx)
		return err
	})
}
