package bkrp

import "fmt"

// Status is the Win32 error code that a call of BackuprKey returns ([MS-ERREF]
// 2.2). As an error it is what the other end answered.
type Status uint32

// The codes that the protocol's text and its known servers use. The text
// demands no particular one for most refusals, and a client treats all but
// StatusOK alike (C-3.2.4-17).
const (
	StatusOK               Status = 0
	StatusFileNotFound     Status = 0x2
	StatusAccessDenied     Status = 0x5
	StatusNotEnoughMemory  Status = 0x8
	StatusInvalidAccess    Status = 0xC
	StatusInvalidData      Status = 0xD
	StatusNotSupported     Status = 0x32
	StatusInvalidParameter Status = 0x57
	StatusIOPending        Status = 0x3E5 // Windows Server 2003, for an unknown key
	StatusInvalidSID       Status = 0x539
	StatusInternalError    Status = 0x54F
)

func (s Status) name() string {
	switch s {
	case StatusOK:
		return "ERROR_SUCCESS"
	case StatusFileNotFound:
		return "ERROR_FILE_NOT_FOUND"
	case StatusAccessDenied:
		return "ERROR_ACCESS_DENIED"
	case StatusNotEnoughMemory:
		return "ERROR_NOT_ENOUGH_MEMORY"
	case StatusInvalidAccess:
		return "ERROR_INVALID_ACCESS"
	case StatusInvalidData:
		return "ERROR_INVALID_DATA"
	case StatusNotSupported:
		return "ERROR_NOT_SUPPORTED"
	case StatusInvalidParameter:
		return "ERROR_INVALID_PARAMETER"
	case StatusIOPending:
		return "ERROR_IO_PENDING"
	case StatusInvalidSID:
		return "ERROR_INVALID_SID"
	case StatusInternalError:
		return "ERROR_INTERNAL_ERROR"
	}
	return ""
}

// String is the code's name and value, "ERROR_INVALID_DATA (0xD)".
func (s Status) String() string {
	if n := s.name(); n != "" {
		return fmt.Sprintf("%s (0x%X)", n, uint32(s))
	}
	return fmt.Sprintf("Win32 error 0x%X", uint32(s))
}

// Error is String with the protocol's name before it.
func (s Status) Error() string { return "bkrp: " + s.String() }
