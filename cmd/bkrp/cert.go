package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/internal/cli"
)

// newCertCommand is "bkrp cert".
func newCertCommand(stdout io.Writer) *cobra.Command {
	var (
		flags         clientFlags
		asJSON, asPEM bool
		outF          string
	)
	cmd := &cobra.Command{
		Use:   "cert {--server HOST[:PORT] | --domain DNSNAME} -U DOMAIN\\NAME [-o FILE]",
		Short: "fetch the domain's public key",
		Long: `Cert fetches the certificate with the domain's public key and prints what is in
it. With -o it also writes the certificate, DER or with --pem PEM. Its dates and
its signature prove nothing: trust comes from the server that was logged on to.`,
		Example: `  bkrp cert --server dc1.example.com -U 'EXAMPLE\alice'
  bkrp cert --server dc1.example.com -U 'EXAMPLE\alice' --pem -o domain-key.pem`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if asPEM && outF == "" {
				return cli.Usagef("--pem goes with -o FILE")
			}
			if err := toFile(asJSON && outF != "", outF, stdout); err != nil {
				return err
			}
			c, err := flags.dial(cmd.Context())
			if err != nil {
				return err
			}
			defer c.Close()
			cert, err := c.RetrieveKey(cmd.Context())
			if err != nil {
				return err
			}
			if outF != "" {
				out := cert.Raw
				if asPEM {
					out = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
				}
				if err := writeOutput(outF, stdout, out); err != nil {
					return err
				}
				if outF == "-" {
					return nil
				}
			}
			return printCertificate(stdout, cert, asJSON)
		},
	}
	flags.register(cmd)
	cli.AddJSONFlag(cmd, &asJSON)
	cmd.Flags().BoolVar(&asPEM, "pem", false, "write PEM instead of DER")
	cmd.Flags().StringVarP(&outF, "out", "o", "", "the file to write the certificate to (- is standard output, and nothing else is printed)")
	return cmd
}

// certificateJSON is what --json prints.
type certificateJSON struct {
	Key       string    `json:"key"`
	Bits      int       `json:"bits"`
	Subject   string    `json:"subject"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	Serial    string    `json:"serial"`
	Algorithm string    `json:"signature_algorithm"`
	SHA256    string    `json:"sha256"`
	Size      int       `json:"size"`
}

func printCertificate(w io.Writer, cert *bkrp.Certificate, asJSON bool) error {
	sum := sha256.Sum256(cert.Raw)
	v := certificateJSON{
		Key:       cert.GUID.String(),
		Bits:      cert.PublicKey.N.BitLen(),
		Subject:   cert.Subject,
		NotBefore: cert.NotBefore.UTC(),
		NotAfter:  cert.NotAfter.UTC(),
		Serial:    hex.EncodeToString(cert.Serial),
		Algorithm: cert.SignatureAlgorithm.String(),
		SHA256:    hex.EncodeToString(sum[:]),
		Size:      len(cert.Raw),
	}
	if asJSON {
		return cli.PrintJSON(w, v)
	}
	t := cli.NewTable()
	row := func(name, format string, args ...any) { t.Row(cli.Bold.Cell(name), fmt.Sprintf(format, args...)) }
	row("key", "%s", v.Key)
	row("public key", "RSA, %d bits", v.Bits)
	row("subject", "%q", v.Subject)
	row("valid", "%s to %s", v.NotBefore.Format(time.RFC3339), v.NotAfter.Format(time.RFC3339))
	row("serial", "%s", v.Serial)
	row("signed by", "%s", v.Algorithm)
	row("sha256", "%s", v.SHA256)
	row("size", "%d octets", v.Size)
	return t.Print(w)
}
