package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/cli"
	"github.com/seed05845750/bkrp/internal/keyform"
	"github.com/seed05845750/bkrp/keystore"
	"github.com/seed05845750/bkrp/keystore/lsastore"
)

// importFromDC copies keys out of the LSA secrets of a domain controller.
func importFromDC(ctx context.Context, std stdio, cfg *config, o importOptions) error {
	domain, user, ok := strings.Cut(o.User, `\`)
	if !ok || domain == "" || user == "" {
		return cli.Usagef(`-U %s: it must be DOMAIN\NAME`, o.User)
	}
	var guids []dtyp.GUID
	for _, text := range o.Keys {
		guid, err := dtyp.ParseGUID(text)
		if err != nil {
			return cli.Usagef("--key %s: %w", text, err)
		}
		guids = append(guids, guid)
	}
	if cfg.Store.Backend == backendLSA {
		return errors.New(`keys import: the store of this configuration is a domain controller (store.backend is "lsa"); there is nothing to copy to`)
	}
	password, err := readDomainPassword(std, o.User)
	if err != nil {
		return err
	}
	defer clear(password)
	stop := cli.ShowProgress(std.err, cli.Doing("reading the keys of "+o.From))
	defer stop()
	dc, err := lsastore.Open(ctx, lsastore.Config{
		Server: o.From, Domain: domain, User: user, Password: lsastore.Password(password),
	})
	if err != nil {
		return err
	}
	defer dc.Close()
	warnOfOtherDomain(ctx, std, cfg, dc)
	keys, err := domainKeys(ctx, dc, guids)
	defer clearKeys(keys)
	if err != nil {
		return fmt.Errorf("reading the keys of %s: %w", o.From, err)
	}
	stop()
	return askImport(ctx, std, cfg, keys, formDC, o.asJSON)
}

// warnOfOtherDomain tells that secrets of the domain's users are bound to SIDs
// that nobody has in the store's domain.
func warnOfOtherDomain(ctx context.Context, std stdio, cfg *config, dc *lsastore.Backend) {
	self, err := dc.Self(ctx)
	if err != nil {
		cli.Warnf(std.err, "the domain's SID is not known: %v", err)
		return
	}
	sid, _, _ := self.Cut()
	warnOfOtherSID(std, cfg, sid)
}

func warnOfOtherSID(std stdio, cfg *config, sid dtyp.SID) {
	if sid != cfg.Domain.SID {
		cli.Warnf(std.err, "the keys are of the domain %v, and this server's is %v: only callers with SIDs of the former unwrap what was wrapped there", sid, cfg.Domain.SID)
	}
}

// domainKeys reads the domain's current keys and those named. The keys read so
// far are returned with an error as well, to be cleared.
func domainKeys(ctx context.Context, dc *lsastore.Backend, guids []dtyp.GUID) (keys []*keyform.Key, err error) {
	for _, p := range []struct {
		pointer string
		kind    keyform.Kind
	}{
		{keystore.CurrentClientSecret, keyform.ClientWrap},
		{keystore.CurrentServerSecret, keyform.ServerWrap},
	} {
		value, _, err := dc.Get(ctx, p.pointer)
		if errors.Is(err, keystore.ErrNotFound) {
			continue // the domain has never needed one
		}
		if err != nil {
			return keys, fmt.Errorf("reading %s: %w", p.pointer, err)
		}
		if len(value) != dtyp.GUIDSize {
			return keys, fmt.Errorf("%s has %d octets and is no GUID", p.pointer, len(value))
		}
		key, err := domainKey(ctx, dc, dtyp.GUID(value))
		if err != nil {
			return keys, err
		}
		key.Current = true
		keys = append(keys, key)
		if key.Kind != p.kind {
			return keys, fmt.Errorf("%s leads to a %v", p.pointer, key)
		}
	}
	for _, guid := range guids {
		key, err := domainKey(ctx, dc, guid)
		if err != nil {
			return keys, err
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, errors.New("the domain has no current key; name others by --key")
	}
	return keys, nil
}

func domainKey(ctx context.Context, dc *lsastore.Backend, guid dtyp.GUID) (*keyform.Key, error) {
	secret, _, err := dc.Get(ctx, keystore.SecretPrefix+guid.String())
	if err != nil {
		return nil, fmt.Errorf("reading key %v: %w", guid, err)
	}
	// A domain may have written numbers for the CRT that are wrong, so
	// that this is the lenient check.
	k := &keyform.Key{GUID: guid, Secret: secret}
	if err := k.Check(); err != nil {
		k.Clear()
		return nil, fmt.Errorf("key %v: %w", guid, err)
	}
	return k, nil
}

// passwordFileEnv names the variable with the file that the password of an
// administrator of another domain is in.
const passwordFileEnv = environmentPrefix + "PASSWORD_FILE"

// readDomainPassword takes the password of an account from a file, a terminal
// or standard input.
func readDomainPassword(std stdio, user string) ([]byte, error) {
	if path := os.Getenv(passwordFileEnv); path != "" {
		return readFirstLine("the password ("+passwordFileEnv+")", path)
	}
	if f, ok := std.in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return cli.ReadPassword(std.err, f, "Password for "+user+": ")
	}
	return readPasswordLine(io.Reader(std.in))
}
