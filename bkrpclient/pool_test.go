package bkrpclient

import (
	"testing"
	"time"
)

// TestPoolDoesNotWait: the connections to a server that hangs do not keep a call
// from going to another one.
func TestPoolDoesNotWait(t *testing.T) {
	p := newPool(2, time.Hour)
	p.use("dc1")
	hanging := &Client{turn: make(chan struct{}, 1)}
	hanging.turn <- struct{}{} // Close waits for this
	p.put(&kept{client: hanging, dc: "dc1"})
	p.use("dc2")
	if k := p.take(""); k != nil {
		t.Errorf("a connection to %s is left", k.dc)
	}
	closed := make(chan error, 1)
	go func() { closed <- p.close() }()
	<-hanging.turn
	if err := <-closed; err != nil {
		t.Error(err)
	}
}
