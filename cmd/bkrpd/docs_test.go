package main

import (
	"os"
	"strings"
	"testing"
)

// Every command of these documents is run by a script.
func TestDocsAreRun(t *testing.T) {
	t.Run("keys", func(t *testing.T) { docIsRun(t, "keys", 12) })
	t.Run("backup", func(t *testing.T) { docIsRun(t, "backup", 7) })
}

// docIsRun compares the commands of a document, at least some of them, with those
// of its script.
func docIsRun(t *testing.T, name string, least int) {
	doc, err := os.ReadFile("../../docs/" + name + ".md")
	if err != nil {
		t.Fatal(err)
	}
	script, err := os.ReadFile("testdata/script/" + name + "_doc.txtar")
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
	if commands < least {
		t.Errorf("only %d commands were found", commands)
	}
}
