package cli

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// progressStep is how often a line of progress is written anew, and how long
// something has to take for there to be one.
const progressStep = 500 * time.Millisecond

const eraseLine = "\r\x1b[K"

// ShowProgress keeps a line on a terminal that says how far something is, until
// stop is called, and takes it away then. line gives it, after that time. Where w
// is no terminal, and where progress is shown already, it does nothing. A terminal
// that cannot erase a line gets one, which stays.
func ShowProgress(w io.Writer, line func(elapsed time.Duration) string) (stop func()) {
	s, _ := w.(*Stream)
	if s == nil || !s.terminal || !s.console.beginProgress(s) {
		return func() {}
	}
	done := make(chan struct{})
	var group sync.WaitGroup
	began := time.Now()
	group.Go(func() {
		tick := time.NewTicker(progressStep)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				s.console.showProgress(line(time.Since(began)))
			}
		}
	})
	return sync.OnceFunc(func() {
		close(done)
		group.Wait()
		s.console.endProgress()
	})
}

// Doing is a line of progress for what does not say how far it is: what is done, and
// for how long already.
func Doing(what string) (line func(elapsed time.Duration) string) {
	return func(elapsed time.Duration) string { return fmt.Sprintf("%s, %v", what, Elapsed(elapsed)) }
}

// Elapsed is a time as lines of progress have it, in whole seconds.
func Elapsed(d time.Duration) time.Duration { return d.Truncate(time.Second) }

// beginProgress is false where progress is shown already.
func (c *console) beginProgress(s *Stream) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.progress != nil {
		return false
	}
	c.progress, c.shown = s, false
	return true
}

func (c *console) showProgress(line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.progress
	switch {
	case c.begun: // what somebody else has begun is not erased
	case s.steered:
		line = OneLine(line)
		if width := s.width(); width > 0 {
			line = cut(line, width-1) // in the last cell some terminals begin a line
		}
		fmt.Fprint(s.w, eraseLine+line)
		c.shown = true
	case !c.shown:
		fmt.Fprintln(s.w, OneLine(line))
		c.shown = true
	}
}

func (c *console) endProgress() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.erase()
	c.progress = nil
}

// erase takes the line of progress away, until it is shown again.
func (c *console) erase() {
	if c.progress != nil && c.shown && c.progress.steered {
		fmt.Fprint(c.progress.w, eraseLine)
		c.shown = false
	}
}
