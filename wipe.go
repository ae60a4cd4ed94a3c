package bkrp

import (
	"math/big"
	"reflect"
	"unsafe"

	"filippo.io/bigmod"
)

// wipeNumber overwrites a number, which is 0 then.
func wipeNumber(x *big.Int) {
	if x != nil {
		clear(x.Bits())
		x.SetInt64(0)
	}
}

// wipeModulus overwrites a secret modulus, which is of no use afterwards.
// bigmod gives out copies of its numbers only, so that this goes past its back;
// TestClear fails should the fields be other ones some day.
func wipeModulus(m *bigmod.Modulus) {
	v := reflect.ValueOf(m).Elem()
	for _, name := range []string{"nat", "rr"} {
		field := v.FieldByName(name)
		if field.IsValid() && field.Type() == reflect.TypeFor[*bigmod.Nat]() && !field.IsNil() {
			clear((*bigmod.Nat)(unsafe.Pointer(field.Pointer())).Bits())
		}
	}
}

// offStack makes a buffer for a secret. A stack is copied when it grows, and
// what it was copied from is not overwritten.
//
//go:noinline
func offStack(size int) []byte { return make([]byte, size) }
