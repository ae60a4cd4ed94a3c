package main

import (
	"context"
	"errors"
	"sync"

	"github.com/seed05845750/bkrp/keystore"
)

// laterKEK brings the key-encryption key that the configuration file names now: a
// rekey changes it while the store is open.
type laterKEK struct {
	file string

	mu     sync.Mutex
	tokens map[kekURI]keystore.Sealer // that were opened, to be closed
}

func (l *laterKEK) open(ctx context.Context) (keystore.Sealer, error) {
	cfg, err := loadConfig(l.file, nil)
	if err != nil {
		return nil, err
	}
	if cfg.Seal.KEK.Scheme != kekKMS {
		return openKEK(ctx, cfg) // what is in the file may be another one now
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if sealer := l.tokens[cfg.Seal.KEK]; sealer != nil {
		return sealer, nil
	}
	sealer, err := openKEK(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if l.tokens == nil {
		l.tokens = make(map[kekURI]keystore.Sealer)
	}
	l.tokens[cfg.Seal.KEK] = sealer
	return sealer, nil
}

// Close closes the tokens. It does nothing on nil.
func (l *laterKEK) Close() error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for _, sealer := range l.tokens {
		errs = append(errs, closeKEK(sealer))
	}
	clear(l.tokens)
	return errors.Join(errs...)
}
