package bkrp

import "github.com/seed05845750/bkrp/dtyp"

// InterfaceUUID names the RPC interface ([MS-BKRP] 1.9), version
// InterfaceMajor.InterfaceMinor.
var InterfaceUUID = dtyp.MustParseGUID("3dde7c30-165d-11d1-ab8f-00805f14db40")

// The version of the RPC interface.
const (
	InterfaceMajor = 1
	InterfaceMinor = 0
)

// Action is the pguidActionAgent of a call: what the server shall do ([MS-BKRP]
// 3.1.4.1).
type Action dtyp.GUID

// The four actions.
var (
	// ActionBackup, BACKUPKEY_BACKUP_GUID, has the server wrap a secret
	// (3.1.4.1.1).
	ActionBackup = Action(dtyp.MustParseGUID("7f752b10-178e-11d1-ab8f-00805f14db40"))
	// ActionRestoreWin2K, BACKUPKEY_RESTORE_GUID_WIN2K, has it unwrap a
	// ServerWrap blob (3.1.4.1.2).
	ActionRestoreWin2K = Action(dtyp.MustParseGUID("7fe94d50-178e-11d1-ab8f-00805f14db40"))
	// ActionRetrieve, BACKUPKEY_RETRIEVE_BACKUP_KEY_GUID, asks for the
	// domain's certificate (3.1.4.1.3).
	ActionRetrieve = Action(dtyp.MustParseGUID("018ff48a-eaba-40c6-8f6d-72370240e967"))
	// ActionRestore, BACKUPKEY_RESTORE_GUID, has it unwrap a ClientWrap blob
	// (3.1.4.1.4).
	ActionRestore = Action(dtyp.MustParseGUID("47270c64-2fc7-499b-ac5b-0e37cdce899a"))
)

// String is the action's name, or its GUID if it is none of the four.
func (a Action) String() string {
	switch a {
	case ActionBackup:
		return "BACKUP"
	case ActionRestoreWin2K:
		return "RESTORE_WIN2K"
	case ActionRetrieve:
		return "RETRIEVE"
	case ActionRestore:
		return "RESTORE"
	}
	return dtyp.GUID(a).String()
}
