package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed05845750/bkrp/internal/cli"
)

// A server's load comes in turns, each about benchTurn long, so that what else
// the machine does meanwhile meets both servers.
const (
	benchTurn = time.Second
	// benchTurns is how many there are where only the number of calls is given.
	benchTurns = 10
)

// benchRun is one run of "bkrp bench".
type benchRun struct {
	options  *benchOptions
	servers  []*benchServer
	progress io.Writer // where to show how far the run is
}

func (r *benchRun) close() {
	for _, s := range r.servers {
		s.close()
	}
}

// turn is what one turn may take; zeros bound nothing.
type turn struct {
	duration time.Duration
	count    uint64
}

// turns cuts the load of one server into turns. A server that has the run to
// itself has one.
func (r *benchRun) turns() []turn {
	o := r.options
	n := 1
	if len(r.servers) > 1 {
		n = benchTurns
		if o.duration > 0 {
			n = max(2, int(math.Round(o.duration.Seconds()/benchTurn.Seconds())))
		}
		if o.count > 0 {
			n = int(min(uint64(n), o.count))
		}
	}
	turns := make([]turn, n)
	for i := range turns {
		turns[i].duration = o.duration / time.Duration(n)
		turns[i].count = o.count*uint64(i+1)/uint64(n) - o.count*uint64(i)/uint64(n)
	}
	return turns
}

// do runs the load. Where ctx ends early, the report is of what was measured.
func (r *benchRun) do(ctx context.Context) (*benchReport, error) {
	machine := thisMachine()
	for _, s := range r.servers {
		if err := s.prepare(ctx, r.options); err != nil {
			return nil, fmt.Errorf("%s: %w", s.cfg.Server, err)
		}
	}
	for _, s := range r.servers {
		if _, err := s.settle(ctx); err != nil {
			return nil, err
		}
	}
	stop := cli.ShowProgress(r.progress, r.progressLine)
	err := r.load(ctx)
	stop()
	if err != nil {
		return nil, err
	}
	for _, s := range r.servers {
		if s.pid != 0 {
			if s.memory, err = readTreeMemory(s.pid); err != nil {
				return nil, err
			}
		}
	}
	return newBenchReport(machine, r, ctx.Err() != nil), nil
}

// load takes the turns. Which server comes first alternates.
func (r *benchRun) load(ctx context.Context) error {
	for i, t := range r.turns() {
		for j := range r.servers {
			if ctx.Err() != nil {
				return nil
			}
			s := r.servers[(i+j)%len(r.servers)]
			if err := s.take(ctx, r.options, t); err != nil {
				return err
			}
		}
	}
	return nil
}

// take puts the server under load for one turn, and counts its CPU time.
func (s *benchServer) take(ctx context.Context, o *benchOptions, t turn) error {
	var before, after treeUsage
	var err error
	if s.pid != 0 {
		if before, err = readTree(s.pid); err != nil {
			return err
		}
	}
	began := time.Now()
	s.work(ctx, o, t, began)
	s.elapsed += time.Since(began)
	if s.pid == 0 {
		return nil
	}
	if o.cold { // what ends a connection is a part of its call
		after, err = s.settle(ctx)
	} else {
		after, err = readTree(s.pid)
	}
	s.cpu += after.cpu - before.cpu
	return err
}

// work has every worker make calls until the turn is over, and waits for all.
func (s *benchServer) work(ctx context.Context, o *benchOptions, t turn, began time.Time) {
	var (
		group sync.WaitGroup
		next  atomic.Uint64
		round = o.mix.round()
	)
	for worker := range o.connections {
		group.Go(func() {
			for {
				n := next.Add(1) - 1
				from, ok := t.begin(ctx, n, began, o.rate)
				if !ok {
					return
				}
				action := round[(s.issued+n)%uint64(len(round))]
				var err error
				if o.cold {
					err = s.cold(ctx, action)
				} else {
					err = s.warm(ctx, worker, action)
				}
				if err != nil && ctx.Err() != nil {
					return // the end of the run ended it
				}
				s.record(action, time.Since(from), err)
				if err != nil {
					pause(ctx, failedPause)
				}
			}
		})
	}
	group.Wait()
	s.issued += next.Load() - uint64(o.connections) // each worker took one that it did not make
}

// failedPause keeps a server that fails at once from being asked without a pause.
const failedPause = 10 * time.Millisecond

// begin waits until call n of a turn is due. It gives the time from which the call
// is measured, or false when the turn is over.
func (t turn) begin(ctx context.Context, n uint64, began time.Time, rate float64) (time.Time, bool) {
	if t.count > 0 && n >= t.count || ctx.Err() != nil {
		return time.Time{}, false
	}
	from := time.Now()
	if rate > 0 {
		due := began.Add(time.Duration(float64(n) / rate * float64(time.Second)))
		if t.duration > 0 && due.Sub(began) >= t.duration {
			return time.Time{}, false
		}
		if !pause(ctx, due.Sub(from)) {
			return time.Time{}, false
		}
		return due, t.duration == 0 || time.Since(began) < t.duration
	}
	return from, t.duration == 0 || from.Sub(began) < t.duration
}

// pause waits, and is false when ctx ends first.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// A server goes on working after the last answer: processes of closed
// connections end, and are waited for.
const (
	settleStep = 100 * time.Millisecond
	settleMost = 2 * time.Second
)

// settle waits, not for long, until the server's CPU time stands still, and gives
// its usage then.
func (s *benchServer) settle(ctx context.Context) (treeUsage, error) {
	if s.pid == 0 {
		return treeUsage{}, nil
	}
	last, err := readTree(s.pid)
	for waited := time.Duration(0); err == nil && waited < settleMost; waited += settleStep {
		if !pause(ctx, settleStep) {
			break
		}
		var u treeUsage
		if u, err = readTree(s.pid); u.cpu == last.cpu {
			break
		}
		last = u
	}
	return last, err
}

// progressLine is how far the run is.
func (r *benchRun) progressLine(elapsed time.Duration) string {
	line := cli.Elapsed(elapsed).String()
	if d := r.options.duration; d > 0 {
		line += " of " + (d * time.Duration(len(r.servers))).String()
	}
	for _, s := range r.servers {
		line += fmt.Sprintf("  %s: %d calls", s.cfg.Server, s.calls.Load())
		if n := s.failed.Load(); n > 0 {
			line += fmt.Sprintf(", %d failed", n)
		}
	}
	return line
}
