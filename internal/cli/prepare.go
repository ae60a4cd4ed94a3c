package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// Prepare adds to the commands of a program what every program has: shell
// completion, help topics on exit codes and output, --color, manual pages, which
// belong in section, and other names of flags (--output is --out). All other commands
// are to be there before, and the streams.
func Prepare(root *cobra.Command, section string) {
	root.AddCommand(newCompletionCommand(root), newExitCodesTopic(root), newOutputTopic(), newManCommand(root, section))
	addColorFlag(root)
	root.SetHelpCommand(newHelpCommand(root))
	// Here and not when the command line is carried out, so that the manual has it.
	root.InitDefaultHelpCmd()
	takeOtherNames(root)
}

// newHelpCommand is "help". Cobra's own takes what it does not know for a plea for
// help with everything.
func newHelpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND | TOPIC]",
		Short: "explain a command or a topic",
		Long:  "Help explains a command, as --help behind it does, or a topic.",
		Example: fmt.Sprintf(`  %[1]s help completion
  %[1]s help exit-codes`, root.Name()),
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return Usagef("there is no command and no topic %q", args)
			}
			about.InitDefaultHelpFlag() // to have it among the flags
			return about.Help()
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, start string) (names []cobra.Completion, _ cobra.ShellCompDirective) {
			if about, rest, err := root.Find(args); err == nil && len(rest) == 0 {
				for _, c := range about.Commands() {
					if !c.Hidden && strings.HasPrefix(c.Name(), start) {
						names = append(names, cobra.CompletionWithDesc(c.Name(), c.Short))
					}
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
	}
}
