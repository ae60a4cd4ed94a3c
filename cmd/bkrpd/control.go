package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"

	"github.com/seed05845750/bkrp/internal/keyform"
	"github.com/seed05845750/bkrp/keystore"
)

// errNoDaemon says that nobody listens on the control socket.
var errNoDaemon = errors.New("no daemon is running on this store")

// maxAdminRequest bounds a request on the control socket, in octets. The largest
// are imports of many keys.
const maxAdminRequest = 2 * keyform.MaxSize

// requestTime is how long a request may take to arrive. Doing it may take
// longer: a token makes a key in up to a minute.
const requestTime = 10 * time.Second

// control is the daemon's end of the control socket: HTTP on a Unix socket of
// mode 0600, so that only who may read the store may administer it.
type control struct {
	server   http.Server
	listener net.Listener
	done     chan struct{}
}

// peerKey is under what the context of a request has the user id of its peer.
type peerKey struct{}

// listenControl takes the socket at path, in place of one that a dead daemon
// left.
func listenControl(path string, store *keystore.Store, log *slog.Logger) (*control, error) {
	if err := removeDeadSocket(path); err != nil {
		return nil, fmt.Errorf("replacing the control socket: %w", err)
	}
	old := syscall.Umask(0o177)
	l, err := net.Listen("unix", path)
	syscall.Umask(old)
	if errors.Is(err, syscall.EINVAL) {
		return nil, fmt.Errorf("listening on the control socket: %d octets are too long for a socket's path; set control to a shorter one: %w", len(path), err)
	}
	if err != nil {
		return nil, fmt.Errorf("listening on the control socket: %w", err)
	}
	return serveControl(l, store, log, requestTime), nil
}

// serveControl serves requests that arrive within limit, until it is closed.
func serveControl(l net.Listener, store *keystore.Store, log *slog.Logger, limit time.Duration) *control {
	mux := http.NewServeMux()
	audit := slog.New(auditHandler{log.Handler()})
	mux.HandleFunc("POST /admin", func(w http.ResponseWriter, r *http.Request) {
		var req adminRequest
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxAdminRequest))
		defer clear(body)
		defer req.clear()
		if err != nil || json.Unmarshal(body, &req) != nil {
			http.Error(w, "request is not understood", http.StatusBadRequest)
			return
		}
		// The limit is the request's. Left in place, it would end the context of
		// whatever is under way when it passes.
		if err := http.NewResponseController(w).SetReadDeadline(time.Time{}); err != nil {
			http.Error(w, "the time limit cannot be lifted", http.StatusInternalServerError)
			return
		}
		uid, ok := r.Context().Value(peerKey{}).(int)
		if !ok {
			uid = -1
		}
		resp := administer(r.Context(), store, &req, &keyAudit{Log: audit, UID: uid})
		defer clearKeys(resp.Keys)
		level := slog.LevelInfo
		if req.Verb == verbKeysRotation { // which a command asks again and again
			level = slog.LevelDebug
		}
		log.Log(r.Context(), level, "admin", "verb", string(req.Verb), "name", req.Name, "error", resp.Error)
		answer, err := json.Marshal(resp)
		defer clear(answer)
		if err != nil {
			http.Error(w, "the answer cannot be written", http.StatusInternalServerError)
			return
		}
		w.Write(answer)
	})
	c := &control{listener: l, done: make(chan struct{})}
	c.server = http.Server{Handler: mux, ReadTimeout: limit, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn)}
	c.server.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		return context.WithValue(ctx, peerKey{}, peerUID(conn))
	}
	go func() {
		defer close(c.done)
		c.server.Serve(l)
	}()
	return c
}

// removeDeadSocket removes a socket on which nobody listens. Anything else at
// path stays: it is another daemon's, or a file that the configuration names by
// mistake, and that file may be the store.
func removeDeadSocket(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s is there and is no socket; set control to a path of its own", path)
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		c.Close()
		return fmt.Errorf("another daemon answers on %s; set control to a path of its own", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return err
	}
	return os.Remove(path)
}

// close lets requests under way end and removes the socket.
func (c *control) close(ctx context.Context) error {
	err := c.server.Shutdown(ctx)
	<-c.done
	return err
}

// askDaemon has a request done by the daemon that listens at path. Without one
// the error is errNoDaemon.
func askDaemon(ctx context.Context, path string, req *adminRequest) (*adminResponse, error) {
	body, err := json.Marshal(req)
	if err != nil {
		return nil, err
	}
	defer clear(body)
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
			if err != nil {
				return nil, err
			}
			if err := checkListener(conn, path); err != nil {
				return nil, errors.Join(err, conn.Close())
			}
			return conn, nil
		},
	}}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://bkrpd/admin", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(r)
	switch {
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.EINVAL):
		// EINVAL is a path too long for a socket, so that no daemon has it.
		return nil, errNoDaemon
	case err != nil:
		return nil, fmt.Errorf("asking the daemon at %s: %w", path, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("asking the daemon at %s: %s", path, resp.Status)
	}
	answer, err := io.ReadAll(resp.Body)
	defer clear(answer)
	if err != nil {
		return nil, fmt.Errorf("asking the daemon at %s: %w", path, err)
	}
	out := new(adminResponse)
	if err := json.Unmarshal(answer, out); err != nil {
		return nil, fmt.Errorf("asking the daemon at %s: %w", path, err)
	}
	return out, nil
}
