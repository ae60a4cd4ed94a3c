package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed05845750/bkrp/bkrpclient"
	"github.com/seed05845750/bkrp/internal/cli"
	"github.com/seed05845750/bkrp/internal/doctor"
)

// Exit codes of "bkrp doctor", which are its own.
const (
	exitWarnings = 1
	exitBroken   = 2
)

// doctorTimeout is the usual bound of one step, shorter than that of a call:
// many servers are asked, and some of them may be dead.
const doctorTimeout = 10 * time.Second

// doctorOptions are the flags of "bkrp doctor" beside those that say who calls.
type doctorOptions struct {
	oracle, mine bool
	asJSON       bool
	limit        time.Duration
}

// newDoctorCommand is "bkrp doctor".
func newDoctorCommand(stdout, stderr io.Writer) *cobra.Command {
	var (
		flags clientFlags
		o     doctorOptions
	)
	cmd := &cobra.Command{
		Use:   "doctor {DOMAIN | --server HOST[:PORT]} -U DOMAIN\\NAME",
		Short: "find out whether the BackupKey servers of a domain are well",
		Long: `Doctor examines every domain controller that DNS names for a domain, or the one
server it is told: whether it answers and is writable; its SMB dialect, signing,
encryption and log-on mechanisms; its clock; which pipes answer; that calls below
packet privacy are refused; its certificate; that secrets that were wrapped, here
and by the server, are opened again; and, in a domain, that all have the same
keys. It calls as an ordinary user and leaves nothing behind.

Each finding is ok, a note, a warning or broken, and says what to do next. In a
pipe or a file each is a line of fields with tabs between them: the server's name (or
the domain's), its address, the check, the level, what was found, what to do.

--oracle sends each server a few dozen malformed secrets, and says whether its
answers tell what a secret has inside, which would have it decrypt stolen ones
for anybody. It compares answers, measures no times, and is no attack; it is for
servers of your own, which --yes-these-are-mine says.`,
		Example: `  bkrp doctor example.com -U 'EXAMPLE\alice'
  bkrp doctor --server dc1.example.com -U 'EXAMPLE\alice' --json
  bkrp doctor example.com -U 'EXAMPLE\alice' | awk -F '\t' '$4 == "broken" { print $1, $5 }'
  bkrp doctor --server dc1.example.com -U 'EXAMPLE\alice' --oracle --yes-these-are-mine`,
		Args: func(cmd *cobra.Command, args []string) error {
			if err := cobra.MaximumNArgs(1)(cmd, args); err != nil || len(args) == 0 {
				return err
			}
			if cmd.Flags().Changed("domain") {
				return cli.Usagef("%s: --domain names a domain as well", args[0])
			}
			return cmd.Flags().Set("domain", args[0])
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case o.oracle && !o.mine:
				return cli.Usagef("--oracle sends malformed secrets: give --yes-these-are-mine if these are your servers")
			case flags.timeout <= 0:
				return cli.Usagef("--timeout %v: it is to be more than 0s", flags.timeout)
			case o.limit <= 0:
				return cli.Usagef("--limit %v: it is to be more than 0s", o.limit)
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return runDoctor(ctx, &flags, &o, stdout, stderr)
		},
	}
	cli.SetExitCodes(cmd,
		cli.ExitCode{Code: cli.ExitOK, Meaning: "all is well; there may be notes"},
		cli.ExitCode{Code: exitWarnings, Meaning: "there are warnings"},
		cli.ExitCode{Code: exitBroken, Meaning: "something is broken, or could not be examined"})
	flags.register(cmd)
	flags.timeout = doctorTimeout
	cmd.Flags().Lookup("timeout").DefValue = doctorTimeout.String()
	for _, flag := range []string{"no-key-cache", "trace"} { // of no use here
		cmd.Flags().MarkHidden(flag)
	}
	cmd.Flags().BoolVar(&o.oracle, "oracle", false, "send malformed secrets, and compare the answers")
	cmd.Flags().BoolVar(&o.mine, "yes-these-are-mine", false, "say that the servers are your own, for --oracle")
	cmd.Flags().DurationVar(&o.limit, "limit", doctor.DefaultTimeout, "the longest the examination of one server may take")
	cli.AddJSONFlag(cmd, &o.asJSON)
	return cmd
}

// runDoctor examines and prints the report.
func runDoctor(ctx context.Context, f *clientFlags, o *doctorOptions, stdout, stderr io.Writer) error {
	cfg, err := f.config()
	if err != nil {
		return notExamined(err)
	}
	report, err := f.examine(ctx, cfg, doctor.Options{Oracle: o.oracle, Timeout: o.limit}, stderr)
	if err != nil {
		return cli.UsageError{Err: err}
	}
	if err := printReport(stdout, report, o.asJSON); err != nil {
		return notExamined(err)
	}
	return verdict(report)
}

// examine examines the server or the domain of the flags, and shows meanwhile how
// far it is.
func (f *clientFlags) examine(ctx context.Context, cfg bkrpclient.Config, o doctor.Options, stderr io.Writer) (*doctor.Report, error) {
	if f.domain.name == "" {
		defer cli.ShowProgress(stderr, cli.Doing("examining "+cfg.Server))()
		return doctor.ExamineServer(ctx, cfg, o), nil
	}
	var ended, servers atomic.Int64
	o.Examined = func(e, s int) {
		servers.Store(int64(s))
		ended.Store(int64(e))
	}
	defer cli.ShowProgress(stderr, func(elapsed time.Duration) string {
		doing := "examining " + f.domain.name
		if n := servers.Load(); n > 0 {
			doing += fmt.Sprintf(": %d of %d servers", ended.Load(), n)
		}
		return cli.Doing(doing)(elapsed)
	})()
	return doctor.ExamineDomain(ctx, f.domain.config(cfg), o)
}

// verdictError is the end of an examination in which not all was well.
type verdictError struct {
	code int
	err  error
}

// Error says how much was found.
func (e *verdictError) Error() string { return e.err.Error() }

// Unwrap gives what kept the examination from being made, if anything did.
func (e *verdictError) Unwrap() error { return e.err }

func notExamined(err error) error { return &verdictError{exitBroken, err} }

// verdict is nil where nothing is worse than a note.
func verdict(r *doctor.Report) error {
	broken, warnings := r.Count(doctor.Broken), r.Count(doctor.Warning)
	switch r.Worst() {
	case doctor.Broken:
		return &verdictError{exitBroken, fmt.Errorf("doctor: findings that something is broken: %d; warnings: %d", broken, warnings)}
	case doctor.Warning:
		return &verdictError{exitWarnings, fmt.Errorf("doctor: warnings: %d", warnings)}
	}
	return nil
}
