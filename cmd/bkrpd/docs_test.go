package main

import (
	"os"
	"strings"
	"testing"
)

// Every command of docs/keys.md is run by a script.
func TestKeysDocIsRun(t *testing.T) {
	doc, err := os.ReadFile("../../docs/keys.md")
	if err != nil {
		t.Fatal(err)
	}
	script, err := os.ReadFile("testdata/script/keys_doc.txtar")
	if err != nil {
		t.Fatal(err)
	}
	commands := 0
	for line := range strings.Lines(string(doc)) {
		command := strings.TrimSpace(line)
		if !strings.HasPrefix(line, "    ") || !strings.HasPrefix(command, "bkrpd ") {
			continue
		}
		commands++
		if !strings.Contains(string(script), "\nexec "+command+"\n") {
			t.Errorf("no script runs %q", command)
		}
	}
	if commands < 12 {
		t.Errorf("only %d commands were found", commands)
	}
}
