package feed

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

func TestOverflowIsSaid(t *testing.T) {
	var f Feed
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	standing, stuck := make(chan struct{}), make(chan struct{})
	var calls []string
	done := make(chan error, 1)
	go func() {
		done <- f.Follow(ctx, func(name string) {
			calls = append(calls, name)
			switch len(calls) {
			case 1:
				close(standing)
				<-stuck
			case 2:
				cancel()
			}
		})
	}()
	<-standing
	for i := range maxPending + 1 {
		f.Publish(fmt.Sprint(i))
	}
	close(stuck)
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Follow: %v, want context.Canceled", err)
	}
	if len(calls) != 2 || calls[0] != "" || calls[1] != "" {
		t.Errorf(`calls are %q, want "" at the start and after the overflow`, calls)
	}
	if len(f.followers) != 0 {
		t.Error("a follower that has gone is still there")
	}
}

func TestClose(t *testing.T) {
	var f Feed
	standing, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- f.Follow(t.Context(), func(string) { close(standing) }) }()
	<-standing
	f.Close()
	if err := <-done; !errors.Is(err, ErrClosed) {
		t.Errorf("Follow: %v, want ErrClosed", err)
	}
	if err := f.Follow(t.Context(), func(string) {}); !errors.Is(err, ErrClosed) {
		t.Errorf("Follow after Close: %v, want ErrClosed", err)
	}
	f.Publish("x")
}
