package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/seed05845750/bkrp/internal/cli"
)

// newInspectCommand is "bkrp inspect".
func newInspectCommand(stdin io.Reader, stdout io.Writer) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "inspect FILE",
		Short: "say what a blob, key, certificate or master key file is",
		Long: `Inspect says what a file is, field by field, without any key: a wrapped secret
of either kind, the domain's key pair or symmetric key as a domain controller
stores them, a pointer to one of them, a certificate (DER or PEM), a private key
(PVK or PEM), a DPAPI master key file, a roamed credential, a file encrypted by
age, as bkrpd exports keys and makes backups.

Of what is secret only the length is shown. The text is for people, in a pipe as
well; --json is for programs.`,
		Example: `  bkrp inspect disk.wrapped
  bkrp inspect --json ntds_capi_0_45cbf2fb.pvk | jq .fields.modulus_sha256`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			data, err := readInput(args[0], stdin)
			if err != nil {
				return err
			}
			defer clear(data)
			r, err := inspect(data)
			if err != nil {
				return err
			}
			if asJSON {
				return cli.PrintJSON(stdout, r)
			}
			return r.print(stdout)
		},
	}
	cli.AddJSONFlag(cmd, &asJSON)
	return cmd
}

// errUnknown is a file that is none of what inspect knows.
var errUnknown = errors.New("not known")

// inspect says what data is. Each kind of file has a word at its head or a
// length that the others do not have, so that at most one kind claims it; what
// is wrong with the rest of it is then said in the terms of that kind.
func inspect(data []byte) (*report, error) {
	for _, kind := range []func([]byte) (*report, error){
		inspectAge,
		inspectPEMKey,
		inspectCertificate,
		inspectPVK,
		inspectRoamed,
		inspectMasterKeyFile,
		inspectKeyPair,
		inspectServerKey,
		inspectPointer,
		inspectClientWrapped,
		inspectServerWrapped,
		inspectBareKey,
	} {
		r, err := kind(data)
		if !errors.Is(err, errUnknown) {
			return r, err
		}
	}
	return nil, fmt.Errorf("inspecting %d octets: they are no wrapped secret, key pair, ServerWrap key, key pointer, "+
		"certificate, PVK or PEM file, master key file, roamed credential or age file", len(data))
}
