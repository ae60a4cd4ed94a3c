package bkrpclient

import (
	"context"
	"net/netip"
	"time"
)

// Server is a domain controller that DNS names for a domain, and what a ping of
// it came to.
type Server struct {
	// Name is its DNS name.
	Name string
	// Addr is where it was pinged; it is zero when DNS has no address for it.
	Addr netip.Addr
	// Address is where its SMB is, by DomainConfig.Address; "" without an Addr.
	Address string
	// Site is its own, ClientSite where it says that the caller is.
	Site, ClientSite string
	// Answered says that it answered the ping, Writable that it is no read-only
	// one.
	Answered, Writable bool
	// Err says why it is not used; nil for one that is.
	Err error
	// Took is how long it took to answer.
	Took time.Duration
}

// Servers pings every domain controller that DNS names for the whole domain, an
// entry for each address of each; no call uses what it finds. The error is a
// *DomainError, and ErrNoServer, when DNS names none.
func (d *Domain) Servers(ctx context.Context) ([]Server, error) {
	trace, err := d.locator.Survey(ctx)
	r := newRecord(ctx)
	r.located(trace)
	if err != nil {
		return nil, d.failed(r, inTime(ctx, ErrNoServer))
	}
	var servers []Server
	for _, s := range trace[1:] { // behind the look-up of the records
		found := Server{Name: s.Server, Addr: s.Addr.Addr(), Err: s.Err, Took: s.Took}
		if found.Addr.IsValid() {
			found.Address = d.cfg.Address(found.Name, found.Addr)
		}
		if dc := s.DC; dc != nil {
			found.Answered, found.Writable = true, dc.Writable()
			found.Site, found.ClientSite = dc.Site, dc.ClientSite
		}
		servers = append(servers, found)
	}
	return servers, nil
}
