package peers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Client is a place for Samba's client programs to run from: a directory
// with an smb.conf that keeps all their files inside it.
type Client struct {
	dir     string
	netbios string
	realm   string
	// namespace says that hosts and resolv.conf in dir replace those of the
	// host in a mount namespace of each command's own.
	namespace bool
}

// NewClient makes the files of a client of the domain under dir, which must
// exist. Names are not resolved: servers are given by address.
func NewClient(dir, netbios, realm string) (*Client, error) {
	c := &Client{dir: dir, netbios: netbios, realm: realm}
	var lines strings.Builder
	fmt.Fprintf(&lines, "[global]\n\tworkgroup = %s\n\trealm = %s\n", netbios, realm)
	lines.WriteString("\tnetbios name = CLIENT1\n\tinterfaces = 127.0.0.1/8\n\tname resolve order = host\n")
	for _, option := range []string{"lock directory", "private dir", "state directory", "cache directory", "pid directory", "ncalrpc dir"} {
		sub := filepath.Join(dir, "client", strings.ReplaceAll(option, " ", "-"))
		if err := os.MkdirAll(sub, 0o700); err != nil {
			return nil, fmt.Errorf("making client directory: %w", err)
		}
		fmt.Fprintf(&lines, "\t%s = %s\n", option, sub)
	}
	if err := os.Mkdir(filepath.Join(dir, "torture"), 0o700); err != nil {
		return nil, fmt.Errorf("making client directory: %w", err)
	}
	if err := os.WriteFile(c.Conf(), []byte(lines.String()), 0o600); err != nil {
		return nil, fmt.Errorf("writing client configuration: %w", err)
	}
	return c, nil
}

// Conf is the path of the client's smb.conf, for programs run by [Client.Exec].
func (c *Client) Conf() string { return filepath.Join(c.dir, "client.conf") }

// NetBIOS is the short name of the client's domain.
func (c *Client) NetBIOS() string { return c.netbios }

// Realm is the Kerberos realm of the client's domain, in capitals.
func (c *Client) Realm() string { return c.realm }

// Output is what a program wrote and how it ended.
type Output struct {
	Stdout string
	Stderr string
	Code   int
}

func (o Output) String() string {
	return fmt.Sprintf("exit code %d\n%s%s", o.Code, o.Stdout, o.Stderr)
}

// Exec runs a program as a machine of the domain would: with the domain's
// names and Kerberos configuration, if the client has any. A program that
// ran and failed is no error; its exit code says so.
func (c *Client) Exec(ctx context.Context, args ...string) (Output, error) {
	return c.exec(ctx, nil, args...)
}

// inDomain binds the domain's name service files over the host's, in the
// private mount namespace the shell was started in, and an smb.conf if there is one
// to take the place of the host's, and becomes the command.
const inDomain = `set -e
mount --make-rprivate /
mount --bind "$PEER_DIR/hosts" /etc/hosts
mount --bind "$PEER_DIR/resolv.conf" /etc/resolv.conf
[ -z "${PEER_CONF:-}" ] || mount --bind "$PEER_CONF" /etc/samba/smb.conf
exec "$@"`

// Within is what a program that is to run as a machine of the domain has in front
// of its command line, and further in its environment.
func (c *Client) Within() (command, env []string) {
	if !c.namespace {
		return nil, nil
	}
	return []string{"unshare", "--mount", "bash", "-c", inDomain, "in-domain"},
		[]string{"PEER_DIR=" + c.dir, "KRB5_CONFIG=" + filepath.Join(c.dir, "krb5.conf")}
}

func (c *Client) exec(ctx context.Context, stdin []byte, args ...string) (Output, error) {
	within, env := c.Within()
	return run(ctx, append(os.Environ(), env...), stdin, append(within, args...)...)
}

func run(ctx context.Context, env []string, stdin []byte, args ...string) (Output, error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = env
	cmd.Stdin = bytes.NewReader(stdin)
	// A grandchild that keeps the output open must not hold the test up.
	cmd.WaitDelay = 5 * time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	out := Output{Stdout: stdout.String(), Stderr: stderr.String(), Code: cmd.ProcessState.ExitCode()}
	if ctx.Err() != nil {
		return out, fmt.Errorf("running %s: %w\n%s", args[0], context.Cause(ctx), out)
	}
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		return out, fmt.Errorf("running %s: %w", args[0], err)
	}
	return out, nil
}

// RPCClient runs rpcclient's commands, such as "getusername;quit", on the
// server at address and port with NTLM.
func (c *Client) RPCClient(ctx context.Context, address, port string, who Credentials, commands string, options ...string) (Output, error) {
	args := []string{"rpcclient", "-s", c.Conf(), "-p", port, "-U", who.account(), "-c", commands}
	args = append(args, options...)
	return c.Exec(ctx, append(args, address)...)
}

// Credentials are a domain account and its password.
type Credentials struct {
	Domain   string
	User     string
	Password string
}

func (c Credentials) account() string {
	return c.Domain + `\` + c.User + "%" + c.Password
}
