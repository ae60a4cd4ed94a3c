package cli

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// checkArguments has every command below cmd say which argument or flag is missing
// or too many, where cobra counts them.
func checkArguments(cmd *cobra.Command) {
	if check := cmd.Args; !cmd.HasSubCommands() {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if check != nil {
				if err := check(cmd, args); err != nil {
					return argumentError(cmd, args, err)
				}
			}
			return missingFlags(cmd)
		}
	}
	for _, c := range cmd.Commands() {
		checkArguments(c)
	}
}

// argumentError says what is wrong with the arguments of a command that does not
// take them. Commands of ours take one at most, and its name is in the usage line.
func argumentError(cmd *cobra.Command, args []string, err error) error {
	operand := operand(cmd)
	switch {
	case len(args) == 0 && operand != "":
		return fmt.Errorf("%s is missing", operand)
	case len(args) > 0 && operand == "":
		return fmt.Errorf("%q is too many: %s takes flags only", args[0], cmd.CommandPath())
	case len(args) > 1:
		return fmt.Errorf("%q is too many: %s takes one %s", args[1], cmd.CommandPath(), operand)
	}
	return err
}

// operand is the name of a command's argument in its usage line, or empty.
func operand(cmd *cobra.Command) string {
	words := strings.Fields(cmd.Use)
	if len(words) < 2 || strings.HasPrefix(strings.TrimLeft(words[1], "[{"), "-") {
		return ""
	}
	if strings.ContainsAny(words[1][:1], "[{") {
		return "argument" // a choice, which the usage line shows better
	}
	return strings.ReplaceAll(words[1], "|", " or ")
}

// missingFlags names the flags that a command cannot do without, and says what
// they are.
func missingFlags(cmd *cobra.Command) error {
	var missing []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if len(f.Annotations[cobra.BashCompOneRequiredFlag]) > 0 && !f.Changed {
			_, usage := pflag.UnquoteUsage(f)
			missing = append(missing, fmt.Sprintf("--%s is missing: %s", f.Name, usage))
		}
	})
	if len(missing) == 0 {
		return nil
	}
	return errors.New(strings.Join(missing, "; "))
}

// Cobra's words about groups of flags, which has no values for them. What is worded
// otherwise one day stays as it is.
var (
	oneOfGroup  = regexp.MustCompile(`^at least one of the flags in the group \[(.*)\] is required$`)
	onlyOneOf   = regexp.MustCompile(`^if any flags in the group \[.*\] are set none of the others can be; \[(.*)\] were all set$`)
	unknownName = regexp.MustCompile(`^unknown command "(.*)" for "([^"]*)"`)
)

// reword says what is wrong with a command line in the words of its user.
func reword(cmd *cobra.Command, err error) error {
	text := err.Error()
	if m := oneOfGroup.FindStringSubmatch(text); m != nil {
		return fmt.Errorf("%s is missing", flagList(m[1], " or "))
	}
	if m := onlyOneOf.FindStringSubmatch(text); m != nil {
		return fmt.Errorf("%s do not go together", flagList(m[1], " and "))
	}
	if m := unknownName.FindStringSubmatch(text); m != nil {
		return fmt.Errorf("%s has no command %q%s", m[2], m[1], meant(cmd, m[1]))
	}
	return err
}

// meant guesses which command below cmd was mistyped.
func meant(cmd *cobra.Command, typed string) string {
	cmd.SuggestionsMinimumDistance = 2
	if names := cmd.SuggestionsFor(typed); len(names) > 0 {
		return "; is " + strings.Join(names, " or ") + " meant?"
	}
	return ""
}

// flagList lists flags, whose names are separated by blanks, as they are typed.
func flagList(names, conjunction string) string {
	flags := strings.Fields(names)
	for i, name := range flags {
		flags[i] = "--" + name
	}
	last := len(flags) - 1
	if last == 0 {
		return flags[0]
	}
	return strings.Join(flags[:last], ", ") + conjunction + flags[last]
}

// usageHint shows how a command is called.
func usageHint(cmd *cobra.Command) string {
	path := cmd.CommandPath()
	hint := fmt.Sprintf("%q tells more.", path+" --help")
	if cmd.HasSubCommands() {
		return hint
	}
	use := strings.TrimSpace(strings.TrimPrefix(cmd.Use, cmd.Name()))
	return strings.TrimSpace("usage: "+path+" "+use) + "\n" + hint
}
