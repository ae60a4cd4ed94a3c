package main

import (
	"strings"
	"time"

	"github.com/seed05845750/bkrp/keystore/lsastore"
)

// backendLSA is the kind of store whose keys a domain keeps by itself.
const backendLSA = "lsa"

// storeConfig is [store]: where the keys are.
type storeConfig struct {
	Backend string         `toml:"backend" oneof:"bolt|lsa" doc:"Kind of key store: a sealed file, or the LSA secrets that a domain keeps unsealed for its own services."`
	Bolt    boltConfig     `toml:"bolt"`
	LSA     lsaStoreConfig `toml:"lsa"`
}

// boltConfig is [store.bolt].
type boltConfig struct {
	Path string `toml:"path" doc:"File of the key store, sealed, mode 0600."`
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
		LSA: lsaStoreConfig{
			Poll:    duration(lsastore.DefaultPoll),
			Timeout: duration(lsastore.DefaultTimeout),
		},
	}
}

func (c *storeConfig) check(need func(ok bool, key, format string, args ...any)) {
	if c.Backend != backendLSA {
		need(c.Bolt.Path != "", "store.bolt.path", "must be a path")
		return
	}
	domain, user, ok := strings.Cut(c.LSA.User, `\`)
	need(c.LSA.Server != "", "store.lsa.server", "must name a domain controller")
	need(ok && domain != "" && user != "", "store.lsa.user", `must be DOMAIN\NAME`)
	need(c.LSA.PasswordFile != "", "store.lsa.password_file", "must be a path")
	need(c.LSA.Poll >= duration(time.Second), "store.lsa.poll", "must be 1s or more")
	need(c.LSA.Timeout > 0, "store.lsa.timeout", "must be more than 0s")
}
