// Package dtyp has the two [MS-DTYP] types that the BackupKey protocol is
// made of: GUID (2.3.4) and SID (2.4.2). Both are comparable values, so they
// serve as map keys and are compared with ==.
//
// It does no I/O and knows no other type of [MS-DTYP].
package dtyp
