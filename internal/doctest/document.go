// Package doctest runs the documents of this module in its tests: what stands in
// README.md and docs/*.md as a command, a piece of Go or of a configuration is taken
// from the document itself, so that neither can change without the other.
//
// A test opens a document by [Open] and then has to account for each block of code
// in it: [Document.Take] for what it uses in a way of its own, [Document.Go] for code
// that is compiled, [Document.Exempt] with a reason for what cannot be tried, and
// [Document.Follow], which runs all that is left as commands in a [Shell]. What is
// new in a document is therefore run, or fails the test. That each document with
// code in it is opened by a test, is a test in docs.
package doctest

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Document is a Markdown document.
type Document struct {
	// Name is its path as it was opened.
	Name   string
	Blocks []*Block
	// Text is all of it.
	Text string

	t testing.TB
}

// Block is a block of code in a document: fenced, or indented by four columns.
type Block struct {
	// Line is where its code begins, counted from 1.
	Line int
	// Section is the heading that it stands under.
	Section string
	// Language is what the fence says, and "" for an indented block.
	Language string
	// Text is the code, without fences and indentation.
	Text string

	accounted bool
}

func (b *Block) String() string {
	first, _, _ := strings.Cut(b.Text, "\n")
	return fmt.Sprintf("line %d, under %q: the block that begins %q", b.Line, b.Section, first)
}

// Open reads a document for the test that accounts for it. At the end of the test
// each block that was not accounted for is an error.
func Open(t testing.TB, name string) *Document {
	t.Helper()
	d := Read(t, name)
	t.Cleanup(func() {
		if t.Skipped() {
			return
		}
		for _, b := range d.Blocks {
			if !b.accounted {
				t.Errorf("%s, %v: no test runs it", name, b)
			}
		}
	})
	return d
}

// Read reads a document that somebody else accounts for.
func Read(t testing.TB, name string) *Document {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	d := &Document{Name: name, Text: string(text), t: t}
	if d.Blocks, err = parse(d.Text); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return d
}

// Take gives the block that begins with some text, and accounts for it.
func (d *Document) Take(begin string) *Block {
	d.t.Helper()
	var found *Block
	for _, b := range d.Blocks {
		if !b.accounted && strings.HasPrefix(b.Text, begin) {
			if found != nil {
				d.t.Fatalf("%s: two blocks begin %q", d.Name, begin)
			}
			found = b
		}
	}
	if found == nil {
		d.t.Fatalf("%s: no block begins %q", d.Name, begin)
	}
	found.accounted = true
	return found
}

// Exempt accounts for the blocks that begin with some text, which no test uses for
// the reason given.
func (d *Document) Exempt(begin, reason string) {
	d.t.Helper()
	found := 0
	for _, b := range d.Blocks {
		if !b.accounted && strings.HasPrefix(b.Text, begin) {
			b.accounted = true
			found++
		}
	}
	if found == 0 || reason == "" {
		d.t.Fatalf("%s: %d blocks begin %q, and the reason is %q", d.Name, found, begin, reason)
	}
}

// Go accounts for the blocks of Go, each of which has to stand in a file of the
// test's own package, where it is compiled and run.
func (d *Document) Go(file string) {
	d.t.Helper()
	code, err := os.ReadFile(file)
	if err != nil {
		d.t.Fatal(err)
	}
	for _, b := range d.Blocks {
		if b.Language != "go" {
			continue
		}
		b.accounted = true
		if !strings.Contains(string(code), b.Text) {
			d.t.Errorf("%s, %v: it is not what runs in %s", d.Name, b, file)
		}
	}
}

// Command is a command line, which may go over several lines of the document.
type Command struct {
	Line int
	Text string
}

// commands are those of all blocks that are not accounted for.
func (d *Document) commands() (list []Command) {
	for _, b := range d.Blocks {
		if b.accounted {
			continue
		}
		b.accounted = true
		list = append(list, b.commands()...)
	}
	return list
}

// commands splits a block. A line that ends in a backslash or an operator is
// continued by the next one.
func (b *Block) commands() (list []Command) {
	goesOn := false
	for i, line := range strings.Split(strings.TrimRight(b.Text, "\n"), "\n") {
		end := strings.TrimRight(line, " ")
		switch {
		case goesOn:
			list[len(list)-1].Text += "\n" + end
		case strings.TrimSpace(line) == "":
			continue
		default:
			list = append(list, Command{Line: b.Line + i, Text: end})
		}
		goesOn = strings.HasSuffix(end, `\`) || strings.HasSuffix(end, "|") || strings.HasSuffix(end, "&&")
	}
	return list
}

// Span is code within a line of prose.
type Span struct {
	Line int
	Text string
}

var inlineCode = regexp.MustCompile("`([^`]+)`")

// Spans are all pieces of code that stand in prose, tables among it.
func (d *Document) Spans() (list []Span) {
	lines := strings.Split(d.Text, "\n")
	for _, b := range d.Blocks { // prose is what is left
		for i := range strings.Count(b.Text, "\n") {
			lines[b.Line-1+i] = ""
		}
	}
	text := strings.Join(lines, "\n")
	text = regexp.MustCompile("(?m)^ *```.*$").ReplaceAllString(text, "")
	for _, at := range inlineCode.FindAllStringSubmatchIndex(text, -1) {
		list = append(list, Span{
			Line: 1 + strings.Count(text[:at[0]], "\n"),
			Text: strings.Join(strings.Fields(text[at[2]:at[3]]), " "),
		})
	}
	return list
}

// parse finds the blocks of a document.
func parse(text string) (blocks []*Block, err error) {
	lines := strings.Split(text, "\n")
	section := ""
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		start, isFence := fence(line)
		switch {
		case isFence:
			end := slices.IndexFunc(lines[i+1:], func(l string) bool { return strings.TrimSpace(l) == "```" })
			if end < 0 {
				return nil, fmt.Errorf("line %d: the block does not end", i+1)
			}
			blocks = append(blocks, &Block{Line: i + 2, Section: section, Language: start, Text: dedent(lines[i+1 : i+1+end])})
			i += end + 1
		case strings.HasPrefix(line, "#"):
			section = strings.TrimSpace(strings.TrimLeft(line, "#"))
		case indented(line) && (i == 0 || lines[i-1] == ""):
			end := i
			for j := i; j < len(lines) && (indented(lines[j]) || lines[j] == ""); j++ {
				if lines[j] != "" {
					end = j + 1
				}
			}
			blocks = append(blocks, &Block{Line: i + 1, Section: section, Text: dedent(lines[i:end])})
			i = end - 1
		}
	}
	return blocks, nil
}

func fence(line string) (language string, ok bool) {
	return strings.CutPrefix(strings.TrimSpace(line), "```")
}

func indented(line string) bool {
	return strings.HasPrefix(line, "    ") && strings.TrimSpace(line) != ""
}

// dedent takes off the indentation that all lines have.
func dedent(lines []string) string {
	least := -1
	for _, l := range lines {
		if n := len(l) - len(strings.TrimLeft(l, " ")); strings.TrimSpace(l) != "" && (least < 0 || n < least) {
			least = n
		}
	}
	var text strings.Builder
	for _, l := range lines {
		text.WriteString(l[min(max(least, 0), len(l)):] + "\n")
	}
	return text.String()
}
