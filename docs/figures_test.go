package docs_test

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/seed05845750/bkrp/internal/doctest"
)

// TestSpeedTable: the ratios in the README's table are those of the figures beside
// them.
func TestSpeedTable(t *testing.T) {
	row := regexp.MustCompile(`(?m)^\| [^|]+ \| ([\d,]+) \| ([\d,]+) \| (\d+\.\d) \|$`)
	rows := row.FindAllStringSubmatch(doctest.Read(t, "../README.md").Text, -1)
	if len(rows) < 9 {
		t.Fatalf("%d rows", len(rows))
	}
	for _, r := range rows {
		ours, peers, ratio := figure(t, r[1]), figure(t, r[2]), figure(t, r[3])
		// The figures were rounded after the ratio was made.
		if low, high := (ours-0.5)/(peers+0.5), (ours+0.5)/(peers-0.5); ratio < low-0.05 || ratio > high+0.05 {
			t.Errorf("%s: the ratio is %s", r[0], fmt.Sprintf("%.1f to %.1f", low, high))
		}
	}
}

func figure(t *testing.T, s string) float64 {
	t.Helper()
	f, err := strconv.ParseFloat(strings.ReplaceAll(s, ",", ""), 64)
	if err != nil {
		t.Fatal(err)
	}
	return f
}
