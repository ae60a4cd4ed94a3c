package cli

import "github.com/spf13/cobra"

// newOutputTopic is the help topic "output".
func newOutputTopic() *cobra.Command {
	return &cobra.Command{
		Use:   "output",
		Short: "what is printed on a terminal, and what into pipes and files",
		Long: `What a command comes to goes to standard output; errors, warnings and questions go to
standard error.

On a terminal a table has aligned columns; what the terminal has no room for goes on
below, long text in its column and further columns in a further line. In a pipe or a
file a table has a line for each record, with a tab between the fields and nothing to
align them, as cut and awk read it:

  ... | cut -f 1
  ... | awk -F '\t' '$3 == "retired" { print $1 }'

Fields are in the order in which a terminal shows them, and what is empty is an empty
field. Headings, where a table has them, are the first line in either case; tail -n +2
leaves them out. In text that comes from elsewhere, such as names from servers, tabs
and ends of lines are shown as blanks, and other control characters as question marks.

--json, where a command has it, is for programs that are to last: it has all there is
by names that stay, while a table may get a further column at its end.

Colours and bold type repeat what words say. --color says when there are any:

  auto    on a terminal, unless NO_COLOR is set to anything, or TERM says dumb or
          nothing; on Windows, where the console has virtual terminal processing
  always  in pipes and files as well
  never   nowhere

What takes long says so in a line on standard error, and how far it is where it knows,
if that is a terminal. The line is gone when it is done. Elsewhere nothing is said of
progress.`,
	}
}
