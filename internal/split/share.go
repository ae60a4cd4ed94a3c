package split

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

var (
	// ErrShareFormat says that a text is no share.
	ErrShareFormat = errors.New("it is not in the form of a share")
	// ErrShareVersion says that a share is of a version that is not known here.
	ErrShareVersion = errors.New("it is of a newer version than this program knows")
	// ErrChecksum says that a share was not typed as it was printed.
	ErrChecksum = errors.New("its checksum is wrong: one character or more is not as it was printed")
	// ErrOtherSplit says that a share belongs to another secret.
	ErrOtherSplit = errors.New("it belongs to another split")
	// ErrDuplicate says that a share was given before.
	ErrDuplicate = errors.New("it was given twice")
	// ErrForged says that a share's checksum is right and that it is
	// nevertheless none that was made for this secret.
	ErrForged = errors.New("it is none of the shares that were made, although its checksum is right")
)

// ShareError says which share is not good, and why.
type ShareError struct {
	// Position is the share's place among those of one text, from 1; 0 for a
	// share that was not read from a text.
	Position int
	// Index is what the share calls itself, from 1; 0 where that is not known.
	Index int
	// Err is one of the errors above.
	Err error
}

// Error names the share by whatever is known of it.
func (e *ShareError) Error() string {
	switch {
	case e.Position != 0 && e.Index != 0:
		return fmt.Sprintf("split: share %d (number %d of those given): %v", e.Index, e.Position, e.Err)
	case e.Index != 0:
		return fmt.Sprintf("split: share %d: %v", e.Index, e.Err)
	}
	return fmt.Sprintf("split: number %d of the shares given: %v", e.Position, e.Err)
}

// Unwrap is Err.
func (e *ShareError) Unwrap() error { return e.Err }

// Share is one of the n parts of a secret. Text prints it; no other way of
// printing or logging it shows its value.
type Share struct {
	split       [idSize]byte
	k, n, index uint8 // 1 to MaxShares
	value       [scalarSize]byte
	position    int // see ShareError
}

// SplitID names the split that the share is of, in 16 hexadecimal digits.
func (s *Share) SplitID() string { return hex.EncodeToString(s.split[:]) }

// K is how many shares bring the secret back.
func (s *Share) K() int { return int(s.k) }

// N is how many shares were made.
func (s *Share) N() int { return int(s.n) }

// Index is which of them this is, from 1 to N.
func (s *Share) Index() int { return int(s.index) }

// Clear overwrites the value.
func (s *Share) Clear() { clear(s.value[:]) }

// String describes the share without its value.
func (s *Share) String() string {
	return fmt.Sprintf("share %d of %d (any %d) of %s", s.index, s.n, s.k, s.SplitID())
}

// Format writes String, whatever the verb.
func (s *Share) Format(f fmt.State, _ rune) { io.WriteString(f, s.String()) }

// LogValue is String.
func (s *Share) LogValue() slog.Value { return slog.StringValue(s.String()) }

// The text of a share is Bech32m with these parts; each of version, k, n and
// index is one character, and the latter three are one less than they mean.
const (
	prefix       = "bkrpshare"
	separator    = "1"
	shareVersion = 0
	headSymbols  = 4
	bodySymbols  = (idSize + scalarSize) * 8 / 5
	allSymbols   = headSymbols + bodySymbols + checksumSize

	groupSize = 5 // characters between hyphens
)

// Text is the share as it is printed: one line of 99 ASCII characters, in lower
// case and groups. It is a secret.
func (s *Share) Text() string {
	symbols := make([]byte, 0, allSymbols)
	symbols = append(symbols, shareVersion, (s.k-1)&31, (s.n-1)&31, (s.index-1)&31)
	octets := append(s.split[:len(s.split):len(s.split)], s.value[:]...)
	defer clear(octets)
	symbols = appendChecksum(prefix, toSymbols(symbols, octets))
	defer clear(symbols)
	var b strings.Builder
	b.WriteString(prefix + separator)
	for i, v := range symbols {
		if i%groupSize == 0 {
			b.WriteByte('-')
		}
		b.WriteByte(alphabet[v])
	}
	return b.String()
}

// MaxTextSize is the longest text that ParseShares reads, in octets; a longer one
// counts as one share that is none.
const MaxTextSize = 64 << 10

// ParseShares reads all shares of some texts, which begin each with
// "bkrpshare1". Case does not matter, nor do spaces, hyphens and line breaks;
// lines that begin with # are comments. What is not a good share is named in
// bad. A share that is good here may still be one of another split:
// Verifier.Combine sees that.
func ParseShares(texts ...string) (shares []*Share, bad []*ShareError) {
	position := 0
	for _, text := range texts {
		for _, piece := range pieces(text) {
			position++
			s, err := parseSymbols(piece)
			if err != nil {
				bad = append(bad, &ShareError{Position: position, Err: err})
				continue
			}
			s.position = position
			shares = append(shares, s)
		}
	}
	return shares, bad
}

// headless stands before the symbols of what does not begin as a share.
const headless = "?"

// pieces are what follows each prefix in a text. The prefix has a b, which no
// share has behind it.
func pieces(text string) []string {
	if len(text) > MaxTextSize {
		return []string{headless}
	}
	pieces := strings.Split(bare(text), prefix+separator)
	if pieces[0] == "" {
		return pieces[1:]
	}
	pieces[0] = headless
	return pieces
}

// bare is text in lower case without comments, spaces, hyphens and line breaks.
func bare(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "#") {
			continue
		}
		for i := range len(line) {
			c := line[i]
			if c == ' ' || c == '\t' || c == '-' || c == '\r' || c == '\n' {
				continue
			}
			if 'A' <= c && c <= 'Z' {
				c += 'a' - 'A'
			}
			b.WriteByte(c)
		}
	}
	return b.String()
}

// parseSymbols reads what follows the prefix. No error tells any of it.
func parseSymbols(text string) (*Share, error) {
	if text == headless {
		return nil, fmt.Errorf("%w: it does not begin with %s", ErrShareFormat, prefix+separator)
	}
	if len(text) != allSymbols {
		return nil, fmt.Errorf("%w: it has %d characters after %s, and %d are needed", ErrShareFormat, len(text), prefix+separator, allSymbols)
	}
	symbols := make([]byte, allSymbols)
	defer clear(symbols)
	for i := range symbols {
		v := symbolOf(text[i])
		if v < 0 {
			return nil, fmt.Errorf("%w: no share has the character in group %d, place %d", ErrChecksum, i/groupSize+1, i%groupSize+1)
		}
		symbols[i] = byte(v)
	}
	if !checksumFits(prefix, symbols) {
		return nil, ErrChecksum
	}
	if symbols[0] != shareVersion {
		return nil, ErrShareVersion
	}
	s := &Share{k: symbols[1] + 1, n: symbols[2] + 1, index: symbols[3] + 1}
	if s.k < MinShares || s.n < s.k || s.index > s.n {
		return nil, fmt.Errorf("%w: share %d of %d, any %d", ErrForged, s.index, s.n, s.k)
	}
	body := symbols[headSymbols : headSymbols+bodySymbols]
	var octets [idSize + scalarSize]byte
	defer clear(octets[:])
	toOctets(octets[:], body)
	copy(s.split[:], octets[:])
	copy(s.value[:], octets[idSize:])
	return s, nil
}
