package main

import (
	"context"
	"fmt"
	"io"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/keyform"
)

// Kinds of wrapped secrets, as "bkrp inspect --json" has them too.
const (
	clientWrapped = "client-wrapped-secret"
	serverWrapped = "server-wrapped-secret"
)

// wrappedReport is what a wrapped secret says of itself.
type wrappedReport struct {
	Kind    string    `json:"kind"`
	Version uint32    `json:"version"` // of its form
	Key     dtyp.GUID `json:"key"`     // the domain's that opens it
}

func (w *wrapped) report() wrappedReport {
	r := wrappedReport{clientWrapped, w.version, w.key}
	if w.kind == keyform.ServerWrap {
		r.Kind = serverWrapped
	}
	return r
}

// place is where a secret was wrapped or opened, as the command line says it: one of
// them.
type place struct {
	Server  string `json:"server,omitempty"`
	Domain  string `json:"domain,omitempty"`
	KeyFile string `json:"key_file,omitempty"`
}

func (f *clientFlags) place() place { return place{Server: f.server, Domain: f.domain.name} }

func (f *openFlags) place() place {
	p := f.client.place()
	p.KeyFile = f.keys.file
	return p
}

// secretReport is a secret that was wrapped or opened, as --json prints it.
type secretReport struct {
	wrappedReport
	// Owner is zero where the server does not say who the caller is.
	Owner dtyp.SID `json:"owner,omitzero"`
	place
	Out  string `json:"out"`
	Size int    `json:"size"` // of it, in octets
}

// madeReport is what wrap made, without whose it is and where.
func madeReport(blob []byte) (*secretReport, error) {
	w, err := parseWrapped(blob)
	if err != nil {
		return nil, err
	}
	return &secretReport{wrappedReport: w.report(), Size: len(blob)}, nil
}

// recoveredReport is a master key that was recovered, as --json prints it, without
// the key.
type recoveredReport struct {
	GUID     dtyp.GUID `json:"guid"`
	Owner    dtyp.SID  `json:"owner,omitzero"`
	OpenedBy string    `json:"opened_by"`
	place
	File   string `json:"file"`
	Format string `json:"format"`
	Out    string `json:"out"`
	Size   int    `json:"size"` // of it, in octets
}

// callerSID is the SID of the caller, or zero and a warning: the work is done.
func callerSID(ctx context.Context, c caller, stderr io.Writer) dtyp.SID {
	sid, err := c.SID(ctx)
	if err != nil {
		fmt.Fprintf(stderr, "warning: the owner is the caller, and the server does not say who that is: %v\n", err)
	}
	return sid
}
