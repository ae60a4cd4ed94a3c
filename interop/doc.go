// Package interop holds the tests against programs that have never heard of
// this module: Samba's domain controller, its torture suite and rpcclient,
// and impacket. Our server answers their clients, our client asks their
// server; package [github.com/seed05845750/bkrp/interop/peers] runs them.
//
// By hand a test whose peer is not installed is skipped and says what is
// missing. With BKRP_PEERS=required, as in script/test, it fails.
package interop
