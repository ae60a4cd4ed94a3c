package main

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/seed05845750/bkrp/bkrpclient"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"bkrpd": main,
		"backupkey": func() {
			if err := backupkey(context.Background(), os.Args[1:]); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
		},
	})
}

// TestScript runs the command lines of testdata/script as an operator would.
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", RequireExplicitExec: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"capture": capture, "tidy": tidy},
	})
}

// backupkey is a client for scripts:
//
//	backupkey client|server|unwrap ADDRFILE USER PASSWORDFILE IN OUT
//
// ADDRFILE is what bkrpd serve printed.
func backupkey(ctx context.Context, args []string) error {
	var files [6]string
	copy(files[:], args)
	text := func(name string) string {
		b, err := os.ReadFile(name)
		if err != nil {
			return err.Error()
		}
		return strings.TrimSpace(string(b))
	}
	c, err := bkrpclient.Dial(ctx, bkrpclient.Config{
		Server: strings.TrimPrefix(text(files[1]), "listening on "),
		Credential: bkrpclient.Credential{
			Domain: "EXAMPLE", User: files[2], Password: bkrpclient.Password(text(files[3])),
		},
	})
	if err != nil {
		return err
	}
	defer c.Close()
	in, err := os.ReadFile(files[4])
	if err != nil {
		return err
	}
	var out []byte
	switch files[0] {
	case "client":
		out, err = c.Wrap(ctx, in, bkrpclient.WrapOptions{Mode: bkrpclient.ModeClient})
	case "server":
		out, err = c.Wrap(ctx, in, bkrpclient.WrapOptions{Mode: bkrpclient.ModeServer})
	default:
		out, err = c.Unwrap(ctx, in)
	}
	if err != nil {
		return err
	}
	return os.WriteFile(files[5], out, 0o600)
}

// capture sets a variable to what a regular expression matches in a file:
//
//	capture NAME FILE REGEXP
//
// The file may be stdout. A group in the expression is what is taken.
func capture(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: capture NAME FILE REGEXP")
	}
	match := regexp.MustCompile("(?m)" + args[2]).FindStringSubmatch(ts.ReadFile(args[1]))
	if match == nil {
		ts.Fatalf("%s: no match for %s", args[1], args[2])
	}
	ts.Setenv(args[0], match[len(match)-1])
}

var (
	scriptGUID = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)
	scriptTime = regexp.MustCompile(`20\d\d-\d\d-\d\d( \d\d:\d\d)?`)
	scriptHash = regexp.MustCompile(`[0-9a-f]{64}`)
)

// tidy writes a file again with GUIDs numbered as they come, and without times
// and hashes:
//
//	tidy FROM TO
func tidy(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: tidy FROM TO")
	}
	numbers := make(map[string]string)
	text := scriptGUID.ReplaceAllStringFunc(ts.ReadFile(args[0]), func(guid string) string {
		if numbers[guid] == "" {
			numbers[guid] = fmt.Sprintf("GUID-%d", len(numbers)+1)
		}
		return numbers[guid]
	})
	text = scriptTime.ReplaceAllStringFunc(text, func(s string) string { return "YYYY-MM-DD hh:mm"[:len(s)] })
	text = scriptHash.ReplaceAllString(text, "HASH")
	if err := os.WriteFile(ts.MkAbs(args[1]), []byte(text), 0o600); err != nil {
		ts.Fatalf("%v", err)
	}
}
