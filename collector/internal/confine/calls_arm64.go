package confine

import "golang.org/x/sys/unix"

const (
	architecture = unix.AUDIT_ARCH_AARCH64

	// foreignCalls is beyond all numbers.
	foreignCalls = 1<<32 - 1
)

// deniedHere are those that only this architecture has: none.
var deniedHere []uint32
