package main

import (
	"strings"
	"time"

	"github.com/seed05845750/bkrp/keystore/etcdstore"
	"github.com/seed05845750/bkrp/keystore/lsastore"
)

// Kinds of key stores, besides the file.
const (
	// backendEtcd is a sealed store that several servers share.
	backendEtcd = "etcd"
	// backendLSA is the one whose keys a domain keeps by itself.
	backendLSA = "lsa"
)

// storeConfig is [store]: where the keys are.
type storeConfig struct {
	Backend string         `toml:"backend" oneof:"bolt|etcd|lsa" doc:"Kind of key store: a sealed file, a sealed store in an etcd cluster that several servers share, or the LSA secrets that a domain keeps unsealed for its own services."`
	Replica string         `toml:"replica" doc:"Name of this server among those that share a store in etcd; empty for the host's. It has to stay the same: the use of keys is counted under it, and what was counted under a name that does not come back stays in the store."`
	Bolt    boltConfig     `toml:"bolt"`
	Etcd    etcdConfig     `toml:"etcd"`
	LSA     lsaStoreConfig `toml:"lsa"`
}

// boltConfig is [store.bolt].
type boltConfig struct {
	Path string `toml:"path" doc:"File of the key store, sealed, mode 0600."`
}

// Where etcdConfig.Plaintext allows http.
const (
	plaintextLoopback = "loopback"
	plaintextAnywhere = "anywhere"
)

// etcdConfig is [store.etcd]: the cluster that keeps the keys.
type etcdConfig struct {
	Endpoints    []string `toml:"endpoints" doc:"Client URLs of the cluster's members, https://HOST:PORT; with backend \"etcd\" only, as all of this table."`
	Prefix       string   `toml:"prefix" doc:"What the names of all entries begin with in the cluster; other domains take others."`
	CAFile       string   `toml:"ca_file" doc:"Authority of the members' certificates, PEM; the system's are not taken."`
	CertFile     string   `toml:"cert_file" doc:"Client certificate to show, PEM, if the cluster asks for one; read anew at each connection."`
	KeyFile      string   `toml:"key_file" doc:"Key of that certificate, PEM (mode 0600)."`
	User         string   `toml:"user" doc:"User of the cluster, if its authentication is on and a certificate does not say who this is."`
	PasswordFile string   `toml:"password_file" doc:"File (mode 0600) whose first line is that user's password."`
	Plaintext    string   `toml:"plaintext" oneof:"loopback|anywhere" doc:"Where http:// endpoints may be: the user's password and the names of accounts are not encrypted on the way there."`
	Timeout      duration `toml:"timeout" doc:"How long one operation may take, also while the cluster is away."`
}

// lsaStoreConfig is [store.lsa]: the domain controller that keeps the keys.
type lsaStoreConfig struct {
	Server       string   `toml:"server" doc:"Writable domain controller, host or host:port; with backend \"lsa\" only, as all of this table."`
	User         string   `toml:"user" doc:"Administrator of the domain who reads and writes its LSA secrets, DOMAIN\\NAME."`
	PasswordFile string   `toml:"password_file" doc:"File (mode 0600) whose first line is that account's password."`
	Poll         duration `toml:"poll" doc:"How often the domain's current keys are looked for."`
	Timeout      duration `toml:"timeout" doc:"How long the domain controller may take for one operation."`
}

func defaultStoreConfig() storeConfig {
	return storeConfig{
		Backend: "bolt",
		Bolt:    boltConfig{Path: "bkrpd.db"},
		Etcd: etcdConfig{
			Endpoints: []string{},
			Prefix:    etcdstore.DefaultPrefix,
			Plaintext: plaintextLoopback,
			Timeout:   duration(etcdstore.DefaultTimeout),
		},
		LSA: lsaStoreConfig{
			Poll:    duration(lsastore.DefaultPoll),
			Timeout: duration(lsastore.DefaultTimeout),
		},
	}
}

// place says where a sealed store is, for messages.
func (c *storeConfig) place() string {
	if c.Backend == backendEtcd {
		return "etcd, " + c.Etcd.Prefix + " on " + strings.Join(c.Etcd.Endpoints, ", ")
	}
	return c.Bolt.Path
}

// paths are those of the files in c.
func (c *storeConfig) paths() []*string {
	return []*string{&c.Bolt.Path, &c.Etcd.CAFile, &c.Etcd.CertFile, &c.Etcd.KeyFile, &c.Etcd.PasswordFile, &c.LSA.PasswordFile}
}

func (c *storeConfig) check(need func(ok bool, key, format string, args ...any)) {
	switch c.Backend {
	case backendEtcd:
		c.Etcd.check(need)
	case backendLSA:
		c.LSA.check(need)
	default:
		need(c.Bolt.Path != "", "store.bolt.path", "must be a path")
	}
}

// check says what is wrong beyond what etcdstore.Open will say.
func (c *etcdConfig) check(need func(ok bool, key, format string, args ...any)) {
	need(len(c.Endpoints) > 0, "store.etcd.endpoints", "must name at least one member, such as https://etcd1.example:2379")
	need((c.CertFile == "") == (c.KeyFile == ""), "store.etcd.key_file", "must be set if store.etcd.cert_file is, and only then")
	need((c.User == "") == (c.PasswordFile == ""), "store.etcd.password_file", "must be set if store.etcd.user is, and only then")
	need(c.Timeout >= duration(time.Second), "store.etcd.timeout", "must be 1s or more")
}

func (c *lsaStoreConfig) check(need func(ok bool, key, format string, args ...any)) {
	domain, user, ok := strings.Cut(c.User, `\`)
	need(c.Server != "", "store.lsa.server", "must name a domain controller")
	need(ok && domain != "" && user != "", "store.lsa.user", `must be DOMAIN\NAME`)
	need(c.PasswordFile != "", "store.lsa.password_file", "must be a path")
	need(c.Poll >= duration(time.Second), "store.lsa.poll", "must be 1s or more")
	need(c.Timeout > 0, "store.lsa.timeout", "must be more than 0s")
}
