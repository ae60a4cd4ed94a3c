package cli

import (
	"slices"
	"strings"
	"testing"
	"unicode"
)

func TestOneLine(t *testing.T) {
	for text, want := range map[string]string{
		"":                               "",
		"two  blanks":                    "two  blanks",
		"two\nlines\tand a tab":          "two lines and a tab",
		"\x1b[31mred\x1b[0m":             "?[31mred?[0m",
		"\x1b]0;title\a\r\x9b2J\u009b2J": "?]0;title? \ufffd2J?2J",
		"back\b\x7f\x00":                 "back???",
		"turned \u202e round":            "turned ? round",
		"Zoë, 社员":                        "Zoë, 社员",
	} {
		if got := OneLine(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestCells(t *testing.T) {
	for text, want := range map[string]int{
		"": 0, "abc": 3, "Zoë": 3, "Zoe\u0308": 3, "社员": 4, "ｆｕｌｌ": 8, "🔑 key": 6, "\ufffd": 1,
	} {
		if got := cells(text); got != want {
			t.Errorf("%q: %d cells, want %d", text, got, want)
		}
	}
}

func TestCut(t *testing.T) {
	for _, test := range []struct {
		text string
		n    int
		want string
	}{
		{"abc", 3, "abc"}, {"abc", 2, "ab"}, {"abc", 0, ""}, {"社员", 3, "社"}, {"Zoe\u0308!", 3, "Zoe\u0308"},
	} {
		if got := cut(test.text, test.n); got != test.want {
			t.Errorf("%q to %d cells: %q, want %q", test.text, test.n, got, test.want)
		}
	}
}

func TestWrap(t *testing.T) {
	for _, test := range []struct {
		text string
		n    int
		want []string
	}{
		{"", 5, []string{""}},
		{"fits  in", 8, []string{"fits  in"}},
		{"one two three", 7, []string{"one two", "three"}},
		{"one /a/long/path two", 5, []string{"one", "/a/long/path", "two"}},
		{"社员 社员", 5, []string{"社员", "社员"}},
	} {
		if got := wrap(test.text, test.n); !slices.Equal(got, test.want) {
			t.Errorf("%q to %d cells: %q, want %q", test.text, test.n, got, test.want)
		}
	}
}

// FuzzTable: whatever is in a table, on a terminal or elsewhere it has the lines and
// fields that it should, and nothing that steers.
func FuzzTable(f *testing.F) {
	f.Add("dc1", "two\nlines\tand a tab \x1b[31m", 40)
	f.Add("社员\u202e", "a finding that is longer than what there is room for at the end of the line", 30)
	f.Add("\x9b", "\r\n\u0085\u2028", 1)
	f.Fuzz(func(t *testing.T, name, found string, width int) {
		table := NewTable("NAME", "FOUND")
		table.Row(name, Red.Cell(found))
		var apart, aligned strings.Builder
		if err := table.Print(&apart); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(apart.String(), "\n")
		if len(lines) != 3 || strings.Count(lines[1], "\t") != 1 {
			t.Errorf("%q", &apart)
		}
		width = int(uint16(width))
		table.align(&aligned, append([][]Cell{table.head}, table.rows...), width, false)
		for _, c := range strings.NewReplacer("\n", "", "\t", "").Replace(apart.String()) + strings.ReplaceAll(aligned.String(), "\n", "") {
			if !unicode.IsPrint(c) {
				t.Fatalf("%q is in %q or %q", c, &apart, &aligned)
			}
		}
	})
}
