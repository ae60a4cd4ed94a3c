package peers

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
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

// Enctypes are the encryption types of an account: msDS-SupportedEncryptionTypes
// ([MS-KILE] 2.2.7).
type Enctypes uint32

// The bits of Enctypes. RC4 with AESSessionKeys is an account from before there
// was AES whose session keys are AES all the same.
const (
	RC4            Enctypes = 0x4
	AES128         Enctypes = 0x8
	AES256         Enctypes = 0x10
	AESSessionKeys Enctypes = 0x20
)

// Enctypes has the domain make tickets and session keys for a member of the
// types, and writes its keytab anew, for the service principal names.
func (d *Domain) Enctypes(ctx context.Context, m *Member, types Enctypes, spns ...string) error {
	admin := Administrator + "%" + d.passwords[Administrator]
	if err := os.Remove(m.Keytab); err != nil {
		return err
	}
	commands := [][]string{{"net", "ads", "enctypes", "set", m.Account, strconv.Itoa(int(types)), "-s", d.Conf(), "-S", d.Host, "-U", admin}}
	for _, spn := range spns {
		commands = append(commands, []string{"samba-tool", "domain", "exportkeytab", m.Keytab, "--principal=" + spn, "-s", filepath.Join(d.dir, "etc", "smb.conf")})
	}
	for _, args := range commands {
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
