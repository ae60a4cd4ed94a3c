// Package peers runs other people's clients and servers of the protocols
// this module speaks, as Debian ships them, for the tests in package
// interop: a throw-away Samba Active Directory domain controller
// ([StartDomain]), Samba's torture suite ([Client.Torture]) and rpcclient
// ([Client.RPCClient]), and impacket ([Impacket]).
//
// Everything runs as root, on loopback addresses, under one temporary
// directory, and ends with the process that started it, even when that is
// killed. Nothing of the host's own Samba or Kerberos configuration is read
// or changed.
//
// It is test support: nothing that is shipped imports it.
package peers
