package peers

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
)

// python is Debian's interpreter, the one its impacket is installed for:
// another that comes first in PATH would not find it.
const python = "/usr/bin/python3"

// MissingImpacket says why [Impacket] cannot run here, or returns nil.
func MissingImpacket(ctx context.Context) error {
	if err := Missing(python); err != nil {
		return err
	}
	out, err := run(ctx, os.Environ(), nil, python, "-c", "import impacket, Cryptodome")
	if err != nil {
		return err
	}
	if out.Code != 0 {
		return fmt.Errorf("peers: python3-impacket is not installed (script/install-peers installs it): %s", tail(out.Stderr, 200))
	}
	return nil
}

// Impacket runs a script that uses impacket, gives it request as JSON on
// standard input and reads result as JSON from its standard output. No
// password stands on its command line.
func Impacket(ctx context.Context, script string, request, result any) error {
	stdin, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("writing the request of %s: %w", script, err)
	}
	out, err := run(ctx, os.Environ(), stdin, python, script)
	if err != nil {
		return err
	}
	if out.Code != 0 {
		return fmt.Errorf("peers: %s: %s", script, out)
	}
	if err := json.Unmarshal([]byte(out.Stdout), result); err != nil {
		return fmt.Errorf("reading the result of %s: %w", script, err)
	}
	return nil
}
