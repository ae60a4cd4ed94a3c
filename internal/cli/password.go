package cli

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/term"
)

// ReadPassword writes text to prompt and reads a line from a terminal that
// does not show it. A signal that ends the program meanwhile finds the terminal
// as it was: otherwise it would go on hiding what is typed.
func ReadPassword(prompt io.Writer, tty *os.File, text string) ([]byte, error) {
	fd := int(tty.Fd())
	state, err := term.GetState(fd)
	if err != nil {
		return nil, fmt.Errorf("reading the password: %w", err)
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	done := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case s := <-signals:
			term.Restore(fd, state)
			fmt.Fprintln(prompt)
			endBy(s)
		case <-done:
		}
	})
	defer func() {
		signal.Stop(signals)
		close(done)
		watch.Wait()
	}()
	fmt.Fprint(prompt, text)
	p, err := term.ReadPassword(fd)
	fmt.Fprintln(prompt)
	if err != nil {
		return nil, fmt.Errorf("reading the password: %w", err)
	}
	return p, nil
}

// endBy ends the program as s does where nobody has asked for it.
func endBy(s os.Signal) {
	signal.Reset(s)
	if p, err := os.FindProcess(os.Getpid()); err == nil && p.Signal(s) == nil {
		// It ends here, unless it was started with s ignored, as in the background.
		time.Sleep(time.Second)
	}
	os.Exit(ExitError)
}
