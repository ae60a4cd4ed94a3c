//go:build unix

package bkrpclient

import (
	"io/fs"
	"os"
	"syscall"
)

// onlyOurs says whether nobody but the caller and root can have written what
// info is of.
func onlyOurs(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && (stat.Uid == 0 || int(stat.Uid) == os.Geteuid()) && info.Mode().Perm()&0o022 == 0
}
