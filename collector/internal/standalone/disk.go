package standalone

import (
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// freeBytes is how much an unprivileged program may still write into the file system of a folder.
func freeBytes(dir string) (int64, error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return 0, os.NewSyscallError("statfs", err)
	}
	return int64(min(stat.Bavail*uint64(stat.Bsize), math.MaxInt64)), nil
}
