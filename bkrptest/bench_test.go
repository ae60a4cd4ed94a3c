package bkrptest_test

import (
	"testing"

	"github.com/seed05845750/bkrp/bkrptest"
)

// BenchmarkNewDomain is what each test pays for a domain, without the RSA key
// that is made when it is first asked for.
func BenchmarkNewDomain(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		tb, end := inTest()
		b.StartTimer()
		bkrptest.NewDomain(tb)
		b.StopTimer()
		end()
		b.StartTimer()
	}
}
