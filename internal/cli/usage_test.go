package cli

import (
	"bytes"
	"testing"

	"github.com/spf13/cobra"
)

// library is a program whose commands take what commands of ours take.
func library() *cobra.Command {
	do := func(*cobra.Command, []string) error { return nil }
	root := &cobra.Command{Use: "library", Args: cobra.NoArgs, RunE: do}
	book := &cobra.Command{Use: "book", Args: cobra.NoArgs, RunE: do}
	lend := &cobra.Command{Use: "lend TITLE --reader NAME", Args: cobra.ExactArgs(1), RunE: do}
	lend.Flags().String("reader", "", "who takes it")
	lend.Flags().String("until", "", "the day it is back")
	lend.MarkFlagRequired("reader")
	lend.MarkFlagRequired("until")
	sort := &cobra.Command{Use: "sort title|author", Args: cobra.ExactArgs(1), RunE: do}
	count := &cobra.Command{Use: "count {--all | --lent | --late}", Args: cobra.NoArgs, RunE: do}
	for _, name := range []string{"all", "lent", "late"} {
		count.Flags().Bool(name, false, "")
	}
	count.MarkFlagsOneRequired("all", "lent", "late")
	count.MarkFlagsMutuallyExclusive("all", "lent", "late")
	refuse := &cobra.Command{Use: "refuse [ALL | TITLE]", RunE: func(*cobra.Command, []string) error {
		return Usagef("nothing to refuse")
	}}
	book.AddCommand(lend, sort, count, refuse)
	root.AddCommand(book)
	return root
}

func TestUsageErrors(t *testing.T) {
	const lend = "usage: library book lend TITLE --reader NAME\n\"library book lend --help\" tells more.\n"
	const sort = "usage: library book sort title|author\n\"library book sort --help\" tells more.\n"
	const count = "usage: library book count {--all | --lent | --late}\n\"library book count --help\" tells more.\n"
	const book = "\"library book --help\" tells more.\n"
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"book", "lend"}, "library: TITLE is missing\n" + lend},
		{[]string{"book", "lend", "Emma", "Ida"}, `library: "Ida" is too many: library book lend takes one TITLE` + "\n" + lend},
		{[]string{"book", "lend", "Emma"}, "library: --reader is missing: who takes it; --until is missing: the day it is back\n" + lend},
		{[]string{"book", "lend", "Emma", "--readr"}, "library: unknown flag: --readr\n" + lend},
		{[]string{"book", "sort"}, "library: title or author is missing\n" + sort},
		{[]string{"book", "count", "Emma"}, `library: "Emma" is too many: library book count takes flags only` + "\n" + count},
		{[]string{"book", "count"}, "library: --all, --lent or --late is missing\n" + count},
		{[]string{"book", "count", "--late", "--all"}, "library: --all and --late do not go together\n" + count},
		{[]string{"book", "refuse"}, "library: nothing to refuse\nusage: library book refuse [ALL | TITLE]\n\"library book refuse --help\" tells more.\n"},
		{[]string{"book", "led"}, `library: library book has no command "led"; is lend meant?` + "\n" + book},
		{[]string{"book", "nothing-like-it"}, `library: library book has no command "nothing-like-it"` + "\n" + book},
		{[]string{"bok"}, `library: library has no command "bok"; is book meant?` + "\n\"library --help\" tells more.\n"},
	} {
		var stderr bytes.Buffer
		root := library()
		root.SetErr(&stderr)
		if code := Run(t.Context(), root, test.args, Failures{}); code != ExitUsage {
			t.Errorf("%q: exit code %d", test.args, code)
		}
		if got := stderr.String(); got != test.want {
			t.Errorf("%q: got\n%swant\n%s", test.args, got, test.want)
		}
	}
	if code := Run(t.Context(), library(), []string{"book", "count", "--all"}, Failures{}); code != ExitOK {
		t.Errorf("of a right command line: exit code %d", code)
	}
}
