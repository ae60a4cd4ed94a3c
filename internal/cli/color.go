package cli

import (
	"errors"

	"github.com/spf13/cobra"
)

// colorWhen is the value of --color.
type colorWhen uint8

const (
	colorAuto colorWhen = iota
	colorAlways
	colorNever
)

var colorWords = [...]string{"auto", "always", "never"}

// String is the word on the command line.
func (c *colorWhen) String() string { return colorWords[*c] }

// Type is what the help calls the value.
func (c *colorWhen) Type() string { return "WHEN" }

// Set reads the word.
func (c *colorWhen) Set(word string) error {
	for i, w := range colorWords {
		if w == word {
			*c = colorWhen(i)
			return nil
		}
	}
	return errors.New("it must be auto, always or never")
}

// addColorFlag gives all commands --color, which decides for the streams of root.
func addColorFlag(root *cobra.Command) {
	// A program that prints elsewhere has the flag as well, to no effect.
	when := new(colorWhen)
	if s, ok := root.OutOrStdout().(*Stream); ok {
		when = &s.console.when
	}
	root.PersistentFlags().Var(when, "color", "print colours: auto (on a terminal), always or never")
	// The one error is that there is no such flag.
	_ = root.RegisterFlagCompletionFunc("color", cobra.FixedCompletions(colorWords[:], cobra.ShellCompDirectiveNoFileComp))
}
