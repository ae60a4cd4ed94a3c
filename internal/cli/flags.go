package cli

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// otherNames are names of flags that are taken for those that help, completion and
// manual show: other programs have them.
var otherNames = map[string]string{
	"input":  "in",
	"output": "out",
}

// takeOtherNames has root and all commands below it take a flag by its other name.
func takeOtherNames(root *cobra.Command) {
	root.SetGlobalNormalizationFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if shown, ok := otherNames[name]; ok {
			name = shown
		}
		return pflag.NormalizedName(name)
	})
}
