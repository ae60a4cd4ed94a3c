package cli

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// findings is a table as "bkrp doctor" has them.
func findings() *Table {
	t := NewTable("CHECK", "LEVEL", "FOUND")
	t.Row("logon", Green.Cell("ok"), "by Kerberos")
	t.StyledRow(Bold, "社员", Red.Cell("broken"), "the server does not answer at all, and nobody knows why")
	t.Row("", Plain.Cell("note"), "")
	return t
}

// layout is a table as a terminal of that width shows it.
func layout(t *Table, width int, colored bool) string {
	rows := t.rows
	if t.head != nil {
		rows = append([][]Cell{t.head}, rows...)
	}
	var b strings.Builder
	t.align(&b, rows, width, colored)
	return b.String()
}

func TestTableAligned(t *testing.T) {
	const want = "" +
		"CHECK  LEVEL   FOUND\n" +
		"logon  ok      by Kerberos\n" +
		"社员   broken  the server does not answer at all, and nobody knows why\n" +
		"       note\n"
	if got := layout(findings(), 0, false); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// Colours take no room.
func TestTableColored(t *testing.T) {
	const want = "" +
		"\x1b[1mCHECK\x1b[0m  \x1b[1mLEVEL\x1b[0m   \x1b[1mFOUND\x1b[0m\n" +
		"logon  \x1b[32mok\x1b[0m      by Kerberos\n" +
		"\x1b[1m社员\x1b[0m   \x1b[31mbroken\x1b[0m  \x1b[1mthe server does not answer at\x1b[0m\n" +
		"               \x1b[1mall, and nobody knows why\x1b[0m\n" +
		"       note\n"
	got := layout(findings(), 45, true)
	if got != want {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
	if plain := layout(findings(), 45, false); withoutStyle(got) != plain {
		t.Errorf("without colours\n%s\nwant\n%s", withoutStyle(got), plain)
	}
}

func withoutStyle(text string) string {
	for _, r := range append(rendition[1:], "0") {
		text = strings.ReplaceAll(text, "\x1b["+r+"m", "")
	}
	return text
}

// The last column is broken at blanks where the terminal ends, and goes on below
// where it began. Where hardly any room is left, it goes on in a line of its own.
func TestTableWrapped(t *testing.T) {
	table := findings()
	table.Indent = "  "
	const want = "" +
		"  CHECK  LEVEL   FOUND\n" +
		"  logon  ok      by Kerberos\n" +
		"  社员   broken  the server does not answer\n" +
		"                 at all, and nobody knows\n" +
		"                 why\n" +
		"         note\n"
	if got := layout(table, 43, false); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	const narrow = "" +
		"  CHECK  LEVEL\n" +
		"      FOUND\n" +
		"  logon  ok\n" +
		"      by Kerberos\n" +
		"  社员   broken\n" +
		"      the server does not answer at\n" +
		"      all, and nobody knows why\n" +
		"         note\n"
	if got := layout(table, 36, false); got != narrow {
		t.Errorf("too narrow, got\n%s\nwant\n%s", got, narrow)
	}
	for _, line := range strings.Split(want, "\n") {
		if cells(line) > 43 {
			t.Errorf("%q is too long", line)
		}
	}
}

func TestTableRight(t *testing.T) {
	table := NewTable("server", "calls", "ratio")
	table.Right = 1
	table.Row("dc1.example.com", 5, "-")
	table.StyledRow(Cyan, "ratio", "", "0.0836")
	table.StyledRow(Cyan, "none", 12345678, "")
	const want = "" +
		"server              calls   ratio\n" +
		"dc1.example.com         5       -\n" +
		"ratio                      0.0836\n" +
		"none             12345678\n"
	if got := layout(table, 33, false); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	const narrow = "" +
		"server              calls\n" +
		"     ratio\n" +
		"dc1.example.com         5\n" +
		"         -\n" +
		"ratio\n" +
		"    0.0836\n" +
		"none             12345678\n"
	if got := layout(table, 32, false); got != narrow { // numbers are not broken
		t.Errorf("got\n%s\nwant\n%s", got, narrow)
	}
}

// Anywhere but on a terminal there is a line for each record and a tab between its
// fields, empty ones too.
func TestTableApart(t *testing.T) {
	const want = "" +
		"CHECK\tLEVEL\tFOUND\n" +
		"logon\tok\tby Kerberos\n" +
		"社员\tbroken\tthe server does not answer at all, and nobody knows why\n" +
		"\tnote\t\n"
	var b bytes.Buffer
	for name, w := range map[string]interface{ Write([]byte) (int, error) }{"writer": &b, "stream": newStream(&b, new(console))} {
		b.Reset()
		if err := findings().Print(w); err != nil || b.String() != want {
			t.Errorf("%s: %v, got\n%s\nwant\n%s", name, err, &b, want)
		}
	}
}

// What a server says can make neither records nor fields, and steers nothing.
func TestTableHostile(t *testing.T) {
	table := NewTable("NAME", "LIVE")
	table.Row("dc1\x1b[2J\x1b[31m\nevil\tyes", errors.New("\x9b31m\r\u009b31m\u2028"))
	var b bytes.Buffer
	if err := table.Print(&b); err != nil {
		t.Fatal(err)
	}
	if want := "NAME\tLIVE\ndc1?[2J?[31m evil yes\t\ufffd31m ?31m \n"; b.String() != want {
		t.Errorf("%q, want %q", &b, want)
	}
	for _, colored := range []bool{false, true} {
		if got := withoutStyle(layout(table, 80, colored)); strings.ContainsAny(got, "\x1b\t\r\u009b") || strings.Count(got, "\n") != 2 {
			t.Errorf("%q", got)
		}
	}
}
