package cli

import (
	"strings"
	"unicode"
)

// OneLine is text from elsewhere as it may be shown: what a server, a file or a
// resolver says can neither steer the terminal nor break a table. Whatever breaks
// lines or moves to a tab stop becomes a blank, and other characters that are not
// there to be seen, those of escape sequences among them, a question mark each.
func OneLine(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsPrint(r):
			return r
		case unicode.IsSpace(r):
			return ' '
		}
		return '?'
	}, text)
}

// wide are the characters that take two cells of a terminal: those of East Asian
// scripts, in their full width, and pictures.
var wide = &unicode.RangeTable{
	R16: []unicode.Range16{
		{Lo: 0x1100, Hi: 0x115f, Stride: 1}, {Lo: 0x2e80, Hi: 0x303e, Stride: 1}, {Lo: 0x3041, Hi: 0x33ff, Stride: 1},
		{Lo: 0x3400, Hi: 0x4dbf, Stride: 1}, {Lo: 0x4e00, Hi: 0xa4cf, Stride: 1}, {Lo: 0xa960, Hi: 0xa97f, Stride: 1},
		{Lo: 0xac00, Hi: 0xd7a3, Stride: 1}, {Lo: 0xf900, Hi: 0xfaff, Stride: 1}, {Lo: 0xfe30, Hi: 0xfe6f, Stride: 1},
		{Lo: 0xff01, Hi: 0xff60, Stride: 1}, {Lo: 0xffe0, Hi: 0xffe6, Stride: 1},
	},
	R32: []unicode.Range32{
		{Lo: 0x1f300, Hi: 0x1f64f, Stride: 1}, {Lo: 0x1f680, Hi: 0x1f6ff, Stride: 1}, {Lo: 0x1f900, Hi: 0x1f9ff, Stride: 1},
		{Lo: 0x20000, Hi: 0x3fffd, Stride: 1},
	},
}

// cells is how many cells of a terminal text takes, which OneLine has been over.
func cells(text string) (n int) {
	for _, r := range text {
		switch {
		case unicode.In(r, unicode.Mn, unicode.Me): // part of the character before
		case unicode.Is(wide, r):
			n += 2
		default:
			n++
		}
	}
	return n
}

// cut is as much of the beginning of text as n cells have room for.
func cut(text string, n int) string {
	for i, r := range text {
		if n -= cells(string(r)); n < 0 {
			return text[:i]
		}
	}
	return text
}

// wrap breaks text at blanks, so that each line takes n cells at most. A word that
// takes more has a line of its own, and is whole, to be copied.
func wrap(text string, n int) (lines []string) {
	if cells(text) <= n {
		return []string{text}
	}
	var line strings.Builder
	used := 0
	for _, word := range strings.Fields(text) {
		size := cells(word)
		switch {
		case used > 0 && used+1+size > n:
			lines = append(lines, line.String())
			line.Reset()
			used = 0
		case used > 0:
			line.WriteByte(' ')
			used++
		}
		line.WriteString(word)
		used += size
	}
	return append(lines, line.String())
}
