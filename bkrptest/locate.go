package bkrptest

import (
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/seed05845750/bkrp/bkrpclient"
	"github.com/seed05845750/bkrp/internal/dclocator/locatortest"
)

// readOnlyName is the host name of the read-only domain controller.
const readOnlyName = "rodc"

// startLocator serves DNS and LDAP pings for the domain controllers.
func (d *Domain) startLocator(readOnly bool) {
	d.t.Helper()
	var dcs []*locatortest.DC
	if readOnly {
		// Asked before the others, or nobody would see it passed over.
		dcs = append(dcs, &locatortest.DC{Name: readOnlyName, Reply: locatortest.ReadOnly})
	}
	for _, s := range d.servers {
		dcs = append(dcs, &locatortest.DC{Name: s.name, Priority: uint16(len(dcs))})
	}
	d.locator = locatortest.Start(d.t, d.Name, dcs...)
}

// locate completes the configuration of a client that finds its own way.
func (d *Domain) locate(client bkrpclient.Config) bkrpclient.DomainConfig {
	return bkrpclient.DomainConfig{
		Domain: d.Name, Client: client, Resolver: d.locator.Resolver(), Address: d.address, PingDelay: pingDelay,
	}
}

// pingDelay is long, as every domain controller answers: none is passed over
// because a machine that runs tests is busy, and the first is dc1.
const pingDelay = 10 * time.Second

// address is where SMB of a domain controller is served: all have one address,
// and ports of their own. At port 0, nothing answers.
func (d *Domain) address(dc string, addr netip.Addr) string {
	host, _, _ := strings.Cut(dc, ".")
	for _, s := range d.servers {
		if strings.EqualFold(s.name, host) {
			return s.addr
		}
	}
	return net.JoinHostPort(addr.String(), "0")
}
