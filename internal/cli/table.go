package cli

import (
	"fmt"
	"io"
	"strings"
)

// Table is records for people and for programs. On a terminal its columns are
// aligned, headings stand out, and what there is no room for goes on below: the text
// of the last column where it began, and other columns in a further line. Anywhere else it has a line for each record, with a tab between the fields
// and nothing to align them, headings first. What is in it may come from anywhere:
// it is shown as OneLine has it.
type Table struct {
	// Indent stands before each line on a terminal.
	Indent string
	// Right is the first of the columns that are aligned to the right, as numbers
	// are; 0 for none.
	Right int

	head []Cell
	rows [][]Cell
}

// Cell is a field of a table.
type Cell struct {
	text  string // one line
	style Style
}

// Cell is a field of that style, as fmt prints v.
func (s Style) Cell(v any) Cell { return Cell{OneLine(fmt.Sprint(v)), s} }

// NewTable makes a table with these headings, or without any.
func NewTable(headings ...string) *Table {
	t := new(Table)
	for _, h := range headings {
		t.head = append(t.head, Bold.Cell(h))
	}
	return t
}

// Row adds a record. Fields that are no Cell are plain, as fmt prints them.
func (t *Table) Row(fields ...any) { t.StyledRow(Plain, fields...) }

// StyledRow adds a record. Fields that are no Cell have the style.
func (t *Table) StyledRow(style Style, fields ...any) {
	row := make([]Cell, len(fields))
	for i, f := range fields {
		c, ok := f.(Cell)
		if !ok {
			c = style.Cell(f)
		}
		row[i] = c
	}
	t.rows = append(t.rows, row)
}

// Print writes the table.
func (t *Table) Print(w io.Writer) error {
	rows := t.rows
	if len(t.head) > 0 {
		rows = append([][]Cell{t.head}, rows...)
	}
	s, _ := w.(*Stream)
	var b strings.Builder
	if s != nil && s.terminal {
		t.align(&b, rows, s.width(), s.colored())
	} else {
		separate(&b, rows, s.colored())
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// separate writes rows with a tab between the fields.
func separate(b *strings.Builder, rows [][]Cell, colored bool) {
	for _, row := range rows {
		for i, c := range row {
			if i > 0 {
				b.WriteByte('\t')
			}
			b.WriteString(c.style.paint(c.text, colored))
		}
		b.WriteByte('\n')
	}
}

const (
	// columnGap is how many cells are between columns.
	columnGap = 2
	// minColumn is how many cells the last column needs for its text to be broken.
	minColumn = 24
	// foldIndent is by how much columns are indented that go on in a further line.
	foldIndent = 4
)

// column is where a column stands.
type column struct {
	// width is what its longest text takes, at where it begins, both in cells.
	width, at int
	// folded says that a record goes on with it in a further line.
	folded bool
}

// columns places the columns, for a terminal whose lines have width cells.
func (t *Table) columns(rows [][]Cell, width int) (columns []column) {
	for _, row := range rows {
		for i, c := range row {
			if i == len(columns) {
				columns = append(columns, column{})
			}
			columns[i].width = max(columns[i].width, cells(c.text))
		}
	}
	at := cells(t.Indent)
	for i := range columns {
		c := &columns[i]
		needed := c.width
		if i == len(columns)-1 && !t.right(i) {
			needed = min(needed, minColumn) // and then it is broken
		}
		if width > 0 && i > 0 && at+needed > width {
			c.folded = true
			at = cells(t.Indent) + foldIndent
		}
		c.at = at
		at += c.width + columnGap
	}
	return columns
}

// right says whether a column is aligned to the right.
func (t *Table) right(i int) bool { return t.Right > 0 && i >= t.Right }

// align writes rows in columns, for a terminal whose lines have width cells; 0 is
// any number.
func (t *Table) align(b *strings.Builder, rows [][]Cell, width int, colored bool) {
	columns := t.columns(rows, width)
	for _, row := range rows {
		owed := t.Indent // it is written when something follows
		for i, c := range row {
			column := columns[i]
			room := strings.Repeat(" ", column.width-cells(c.text))
			if column.folded {
				owed = "\n" + strings.Repeat(" ", column.at)
			}
			lines := []string{c.text}
			if t.right(i) {
				owed, room = owed+room, ""
			} else if rest := width - column.at; i == len(columns)-1 && rest >= minColumn {
				lines = wrap(c.text, rest)
			}
			for j, line := range lines {
				if j > 0 {
					owed = "\n" + strings.Repeat(" ", column.at)
				}
				if line != "" {
					b.WriteString(owed + c.style.paint(line, colored))
					owed = ""
				}
			}
			owed += room + strings.Repeat(" ", columnGap)
		}
		b.WriteByte('\n')
	}
}
