//go:build !pkcs11 || !cgo

package hsm

func loadLibrary(string) (library, error) { return nil, ErrNotBuilt }
