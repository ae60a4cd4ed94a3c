package keystoretest

import (
	"testing"

	"github.com/seed05845750/bkrp/keystore"
)

func TestMemory(t *testing.T) {
	TestBackend(t, func(*testing.T) keystore.Backend { return keystore.NewMemory() }, nil)
}

// A backend behind Faults that does not fail is still one.
func TestFaultsWithoutFault(t *testing.T) {
	TestBackend(t, func(*testing.T) keystore.Backend { return NewFaults(keystore.NewMemory(), nil) }, nil)
}
