package ingest

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestTheKernelStampsOnceASocketHasAskedForIt(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1); err != nil {
		t.Fatal(err)
	}
	if !awaitStamps(time.Minute) {
		t.Error("what arrives has no stamp")
	}
}
