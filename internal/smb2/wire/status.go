package wire

import "fmt"

// Status is an NTSTATUS ([MS-ERREF] 2.3).
type Status uint32

// The codes that this server answers with, and Success.
const (
	StatusSuccess                Status = 0x00000000
	StatusPending                Status = 0x00000103
	StatusBufferOverflow         Status = 0x80000005
	StatusInvalidInfoClass       Status = 0xC0000003
	StatusInfoLengthMismatch     Status = 0xC0000004
	StatusInvalidParameter       Status = 0xC000000D
	StatusInvalidDeviceRequest   Status = 0xC0000010
	StatusMoreProcessingRequired Status = 0xC0000016
	StatusAccessDenied           Status = 0xC0000022
	StatusBufferTooSmall         Status = 0xC0000023
	StatusObjectNameInvalid      Status = 0xC0000033
	StatusObjectNameNotFound     Status = 0xC0000034
	StatusLogonFailure           Status = 0xC000006D
	StatusInsufficientResources  Status = 0xC000009A
	StatusPipeBusy               Status = 0xC00000AE
	StatusBadImpersonationLevel  Status = 0xC00000A5
	StatusInvalidReadMode        Status = 0xC00000B4
	StatusNotSupported           Status = 0xC00000BB
	StatusNetworkNameDeleted     Status = 0xC00000C9
	StatusBadNetworkName         Status = 0xC00000CC
	StatusRequestNotAccepted     Status = 0xC00000D0
	StatusInternalError          Status = 0xC00000E5
	StatusNotADirectory          Status = 0xC0000103
	StatusTooManyOpenedFiles     Status = 0xC000011F
	StatusCancelled              Status = 0xC0000120
	StatusFileClosed             Status = 0xC0000128
	StatusPipeBroken             Status = 0xC000014B
	StatusFSDriverRequired       Status = 0xC000019C
	StatusUserSessionDeleted     Status = 0xC0000203
	StatusNetworkSessionExpired  Status = 0xC000035C
	StatusNoPreauthHashOverlap   Status = 0xC05D0000
)

// IsError reports whether a response with this status carries the ERROR
// response in place of the command's own ([MS-SMB2] 3.3.4.4). The two codes
// that look like errors and are answers are not.
func (s Status) IsError() bool {
	return s>>30 == 3 && s != StatusMoreProcessingRequired
}

// String is the code in hexadecimal.
func (s Status) String() string { return fmt.Sprintf("0x%08X", uint32(s)) }
