package peers

import (
	"bufio"
	"context"
	"fmt"
	"strings"
)

// Verdict is how a case of the torture suite ended, in the suite's own words.
type Verdict string

// The verdicts the suite prints, and the one for a case that began and never
// ended, as when the suite crashed.
const (
	Success    Verdict = "success"
	Failure    Verdict = "failure"
	Error      Verdict = "error"
	Skip       Verdict = "skip"
	Unfinished Verdict = "unfinished"
)

// Result is the end of one case of the torture suite.
type Result struct {
	Verdict Verdict
	// Detail is what the suite says of the check that did not hold, with
	// the file and line of its source.
	Detail string
	// Output is all that was printed while the case ran.
	Output string
}

// Torture runs smbtorture's rpc.backupkey with NTLM on binding, such as
// "ncacn_np:127.0.0.1[seal]", with further options of smbtorture. It returns
// the cases' results by name and everything that was printed.
func (c *Client) Torture(ctx context.Context, binding string, who Credentials, options ...string) (map[string]Result, string, error) {
	// What a failed check printed goes to standard error, and belongs to the
	// case that standard output names around it.
	args := []string{"bash", "-c", `exec "$@" 2>&1`, "torture", "smbtorture", "-s", c.Conf(), "--basedir=" + c.dir + "/torture", binding,
		"rpc.backupkey", "-U", who.account()}
	out, err := c.Exec(ctx, append(args, options...)...)
	if err != nil {
		return nil, out.String(), err
	}
	results, err := ParseTorture(out.Stdout)
	if err != nil {
		return nil, out.String(), fmt.Errorf("%w\n%s", err, out)
	}
	return results, out.String(), nil
}

// ParseTorture reads the suite's output, subunit version 1 in text: "test: X",
// then "success: X" or "failure: X [", lines, "]".
func ParseTorture(output string) (map[string]Result, error) {
	results := make(map[string]Result)
	var name string
	var printed []string
	lines := bufio.NewScanner(strings.NewReader(output))
	for lines.Scan() {
		word, rest, _ := strings.Cut(lines.Text(), ": ")
		switch verdict := Verdict(word); {
		case word == "test":
			name, printed = caseName(rest), nil
			results[name] = Result{Verdict: Unfinished}
		case name != "" && isVerdict(verdict) && caseName(rest) == name:
			r := Result{Verdict: verdict, Output: strings.Join(printed, "\n")}
			if strings.HasSuffix(rest, " [") {
				r.Detail = detail(lines)
			}
			results[name], name = r, ""
		case word != "time":
			printed = append(printed, lines.Text())
		}
	}
	if len(results) == 0 {
		return nil, fmt.Errorf("peers: the torture suite ran no case")
	}
	return results, lines.Err()
}

func isVerdict(v Verdict) bool {
	return v == Success || v == Failure || v == Error || v == Skip
}

// caseName strips the suite's prefix and the bracket that opens the detail.
func caseName(s string) string {
	return strings.TrimPrefix(strings.TrimSuffix(s, " ["), "backupkey.")
}

func detail(lines *bufio.Scanner) string {
	var text []string
	for lines.Scan() && lines.Text() != "]" {
		text = append(text, lines.Text())
	}
	return strings.Join(text, "\n")
}
