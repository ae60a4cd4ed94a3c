package keystore

import (
	"time"

	"github.com/seed05845750/bkrp"
)

// SetGeneratePair puts key pairs made before in place of new ones, which take
// a test too long.
func (s *Store) SetGeneratePair(f func(domain string, now time.Time) (*bkrp.KeyPair, error)) {
	s.generatePair = f
}
