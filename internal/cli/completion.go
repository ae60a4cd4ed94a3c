package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

// newCompletionCommand is "completion", which prints what makes a shell complete
// the commands and flags of a program.
func newCompletionCommand(root *cobra.Command) *cobra.Command {
	name := root.Name()
	cmd := &cobra.Command{
		Use:   "completion",
		Short: "print a script that completes commands in a shell",
		Long: `Completion prints a script for a shell, which then completes the commands and the
flags of ` + name + ` when Tab is pressed.`,
		Example: fmt.Sprintf("  source <(%s completion bash)", name),
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	for _, s := range []struct {
		shell, example string
		write          func(io.Writer) error
	}{
		{"bash", "  source <(%[1]s completion bash)\n  %[1]s completion bash >~/.local/share/bash-completion/completions/%[1]s",
			func(w io.Writer) error { return root.GenBashCompletionV2(w, true) }},
		{"zsh", "  source <(%[1]s completion zsh)\n  %[1]s completion zsh >\"${fpath[1]}/_%[1]s\"", root.GenZshCompletion},
		{"fish", "  %[1]s completion fish | source\n  %[1]s completion fish >~/.config/fish/completions/%[1]s.fish",
			func(w io.Writer) error { return root.GenFishCompletion(w, true) }},
	} {
		cmd.AddCommand(&cobra.Command{
			Use:   s.shell,
			Short: "print the script for " + s.shell,
			Long: fmt.Sprintf(`Prints the script for %s: the first example is for the shell that runs, the second
for those that are started later.`, s.shell),
			Example:           fmt.Sprintf(s.example, name),
			Args:              cobra.NoArgs,
			ValidArgsFunction: cobra.NoFileCompletions,
			RunE:              func(cmd *cobra.Command, _ []string) error { return s.write(cmd.OutOrStdout()) },
		})
	}
	return cmd
}
