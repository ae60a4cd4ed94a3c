// Package backuprkey reads and writes the stub of the one method of the
// BackupKey remote protocol, BackuprKey ([MS-BKRP] 3.1.4.1, IDL in 6), for
// both ends. What the octets inside mean is package bkrp's business.
package backuprkey

import "github.com/seed05845750/bkrp/dtyp"

// The method's numbers: [MS-BKRP] 1.9 and 3.1.4.1.
const (
	Opnum        = 0
	VersionMajor = 1
	VersionMinor = 0
)

// InterfaceUUID is the interface of the BackupKey remote protocol, 3dde7c30-165d-11d1-
// ab8f-00805f14db40 ([MS-BKRP] 1.9), in packet form.
var InterfaceUUID = dtyp.GUID{
	0x30, 0x7c, 0xde, 0x3d, 0x5d, 0x16, 0xd1, 0x11,
	0xab, 0x8f, 0x00, 0x80, 0x5f, 0x14, 0xdb, 0x40,
}
