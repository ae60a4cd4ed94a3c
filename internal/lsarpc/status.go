package lsarpc

import "github.com/seed05845750/bkrp/internal/ndr"

// status is an NTSTATUS ([MS-ERREF] 2.3), the return value of each method.
type status uint32

const (
	statusSuccess          status = 0x00000000
	statusSomeNotMapped    status = 0x00000107
	statusInvalidHandle    status = 0xC0000008
	statusInvalidParameter status = 0xC000000D
	statusAccessDenied     status = 0xC0000022
	statusNameNotFound     status = 0xC0000034
	statusNoneMapped       status = 0xC0000073
	statusNoResources      status = 0xC000009A
	statusInternalError    status = 0xC00000E5
	statusNoSessionKey     status = 0xC0000202
)

func (s status) write(w *ndr.Writer) { w.U32(uint32(s)) }
