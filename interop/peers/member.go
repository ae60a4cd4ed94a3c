package peers

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Member is an account of a [Domain] for a server of ours: host is its name,
// which [Client.Exec] resolves to 127.0.0.1 from now on.
type Member struct {
	// Account is the account's name.
	Account string
	// Keytab is a file with its AES keys under its service principal names.
	Keytab string
}

// Member makes an account for a server called host, such as
// "srv1.bkrp.test", with the service principal names cifs/ and host/ of it,
// and writes its keys into a keytab.
func (d *Domain) Member(ctx context.Context, host string) (*Member, error) {
	short, _, _ := strings.Cut(host, ".")
	m := &Member{Account: "svc-" + short, Keytab: filepath.Join(d.dir, short+".keytab")}
	if err := d.addHost(host, short); err != nil {
		return nil, err
	}
	conf := filepath.Join(d.dir, "etc", "smb.conf")
	admin := Administrator + "%" + d.passwords[Administrator]
	commands := [][]string{
		{"samba-tool", "user", "create", m.Account, "Service.Passw0rd.1", "-s", conf},
		{"samba-tool", "spn", "add", "cifs/" + host, m.Account, "-s", conf},
		{"samba-tool", "spn", "add", "host/" + host, m.Account, "-s", conf},
		// Without this an account that is no computer's has an RC4 key only.
		{"net", "ads", "enctypes", "set", m.Account, "24", "-s", d.Conf(), "-S", d.Host, "-U", admin},
	}
	for _, spn := range []string{"cifs/" + host, "host/" + host, m.Account} {
		commands = append(commands, []string{"samba-tool", "domain", "exportkeytab", m.Keytab, "--principal=" + spn, "-s", conf})
	}
	for _, args := range commands {
		out, err := d.Exec(ctx, args...)
		if err != nil {
			return nil, err
		}
		if out.Code != 0 {
			return nil, fmt.Errorf("peers: %s: %s", strings.Join(args[:3], " "), out)
		}
	}
	return m, nil
}

// OnlyRC4 has the domain seal tickets for a member with RC4, with AES session
// keys in them (RC4-HMAC and AES256-CTS-HMAC-SHA1-96-SK), as for an account
// from before there was AES, and writes its keytab anew.
func (d *Domain) OnlyRC4(ctx context.Context, m *Member, spn string) error {
	admin := Administrator + "%" + d.passwords[Administrator]
	if err := os.Remove(m.Keytab); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"net", "ads", "enctypes", "set", m.Account, "36", "-s", d.Conf(), "-S", d.Host, "-U", admin},
		{"samba-tool", "domain", "exportkeytab", m.Keytab, "--principal=" + spn, "-s", filepath.Join(d.dir, "etc", "smb.conf")},
	} {
		out, err := d.Exec(ctx, args...)
		if err == nil && out.Code != 0 {
			err = fmt.Errorf("peers: %s: %s", args[0], out)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// withoutPAC sets NO_AUTH_DATA_REQUIRED of an account's userAccountControl
// ([MS-KILE] 3.3.5.3).
const withoutPAC = `
import sys
import ldb
from samba.auth import system_session
from samba.param import LoadParm
from samba.samdb import SamDB
lp = LoadParm()
lp.load(sys.argv[1])
sam = SamDB(lp=lp, session_info=system_session())
found = sam.search(expression="sAMAccountName=" + sys.argv[2], attrs=["userAccountControl"])[0]
change = ldb.Message(found.dn)
flags = str(int(str(found["userAccountControl"])) | 0x2000000)
change["f"] = ldb.MessageElement(flags, ldb.FLAG_MOD_REPLACE, "userAccountControl")
sam.modify(change)
`

// WithoutPAC has the domain's KDC leave the PAC out of tickets for a member.
func (d *Domain) WithoutPAC(ctx context.Context, m *Member) error {
	out, err := d.Exec(ctx, python, "-c", withoutPAC, filepath.Join(d.dir, "etc", "smb.conf"), m.Account)
	if err == nil && out.Code != 0 {
		err = fmt.Errorf("peers: leaving out the PAC: %s", out)
	}
	return err
}

// addHost makes names resolve to 127.0.0.1 for commands of the domain.
func (c *Client) addHost(names ...string) error {
	f, err := os.OpenFile(filepath.Join(c.dir, "hosts"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("adding a host: %w", err)
	}
	_, err = fmt.Fprintf(f, "127.0.0.1 %s\n", strings.Join(names, " "))
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

// Krb5Conf is the path of the domain's krb5.conf.
func (c *Client) Krb5Conf() string { return filepath.Join(c.dir, "krb5.conf") }

// Kinit gets a user's ticket-granting ticket, and tickets for the services,
// and gives the path of their cache.
func (d *Domain) Kinit(ctx context.Context, user string, services ...string) (string, error) {
	return d.kinit(ctx, user, d.passwords[user], services)
}

func (c *Client) kinit(ctx context.Context, user, password string, services []string) (string, error) {
	cache := filepath.Join(c.dir, "krb5cc_"+user)
	out, err := c.exec(ctx, []byte(password+"\n"), "kinit", "-c", "FILE:"+cache, user)
	if err == nil && out.Code == 0 && len(services) > 0 {
		out, err = c.Exec(ctx, append([]string{"kvno", "-c", "FILE:" + cache}, services...)...)
	}
	if err == nil && out.Code != 0 {
		err = fmt.Errorf("peers: kinit %s: %s", user, out)
	}
	return cache, err
}
