package docs_test

import (
	"bufio"
	"bytes"
	"os"
	"strings"
	"testing"
)

// TestReadme runs the five minutes of the README, where nobody has to wait for
// anybody. The server's port is another one, and the programs were built before.
func TestReadme(t *testing.T) {
	server, client := readmeCommands(t)
	sh := shell{dir: t.TempDir()}
	if err := os.WriteFile(sh.dir+"/password", []byte("Correct.Horse.1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	sh.env = []string{"PATH=" + programs(t) + ":" + os.Getenv("PATH"), "HOME=" + sh.dir, "BKRP_PASSWORD_FILE=password"}
	for _, command := range server[:2] {
		sh.run(t, command, "Correct.Horse.1\n")
	}

	var log bytes.Buffer
	serve := sh.command(t, "exec "+server[2]+" --listen 127.0.0.1:0")
	serve.Stderr = &log
	stdout, err := serve.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := serve.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := serve.Process.Signal(os.Interrupt); err != nil {
			t.Error(err)
		}
		if err := serve.Wait(); err != nil {
			t.Errorf("the server: %v\n%s", err, &log)
		}
	}()
	line, err := bufio.NewReader(stdout).ReadString('\n')
	addr, ok := strings.CutPrefix(strings.TrimSpace(line), "listening on ")
	if err != nil || !ok {
		t.Errorf("the server says %q, %v", line, err)
		return
	}

	out := sh.run(t, strings.ReplaceAll(client, "127.0.0.1:4445", addr), "")
	if !strings.HasPrefix(out, "correct horse battery stapleClient-Side-Wrapped Secret") {
		t.Errorf("the client's commands print %q", out)
	}
}

// readmeCommands are the commands of the README that make a domain, a user and a
// server, and those of the client.
func readmeCommands(t *testing.T) (server []string, client string) {
	t.Helper()
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, part, ok := strings.Cut(string(text), "\n## A real server in five minutes\n")
	if !ok {
		t.Fatal("the README has no such part")
	}
	part, _, _ = strings.Cut(part, "\n## ")
	for line := range strings.Lines(part) {
		command, indented := strings.CutPrefix(line, "    ")
		switch {
		case !indented, strings.HasPrefix(command, "go install "), strings.HasPrefix(command, "export PATH="):
		case strings.HasPrefix(command, "bkrpd "):
			server = append(server, strings.TrimSpace(command))
		default:
			client += command
		}
	}
	if len(server) != 3 || strings.Count(client, "bkrp ") != 3 || !strings.Contains(client, "127.0.0.1:4445") {
		t.Fatalf("the README has other commands: %q, %q", server, client)
	}
	return server, client
}
