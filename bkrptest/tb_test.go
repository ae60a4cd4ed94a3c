package bkrptest_test

import (
	"context"
	"fmt"
	"os"
	"testing"
)

// exampleTB is what tests are given, for examples, which are given nothing.
type exampleTB struct {
	testing.TB
	dir      string
	cleanups []func()
}

func (*exampleTB) Helper()                           {}
func (*exampleTB) Context() context.Context          { return context.Background() }
func (e *exampleTB) TempDir() string                 { return e.dir }
func (e *exampleTB) Cleanup(f func())                { e.cleanups = append(e.cleanups, f) }
func (*exampleTB) Errorf(format string, args ...any) { fmt.Printf(format+"\n", args...) }
func (*exampleTB) Fatal(args ...any)                 { panic(fmt.Sprint(args...)) }
func (*exampleTB) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

func (e *exampleTB) end() {
	for i := len(e.cleanups) - 1; i >= 0; i-- {
		e.cleanups[i]()
	}
	os.RemoveAll(e.dir)
}

// inTest stands for the test that an example would be in.
func inTest() (t *exampleTB, end func()) {
	dir, err := os.MkdirTemp("", "bkrptest")
	if err != nil {
		panic(err)
	}
	t = &exampleTB{dir: dir}
	return t, t.end
}
