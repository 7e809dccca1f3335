// Package confine gives up what a process may do, once it has opened what it needs.
//
// The collector parses packets that an attacker shaped. Whoever took it over that way shall have nothing but the
// evidence folder and the way to the store.
package confine

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Config says what remains allowed.
type Config struct {
	Write   []string // directories below which files may be made, changed, renamed and removed
	Read    []string // further files and directories that may be read
	Network bool     // outgoing connections, and name resolution for them
	Ports   []uint16 // the TCP ports that these may go to; with none, or with 0 among them, any
}

// Drop gives up everything else, for all threads, and for good:
//
//   - the rights that executing a file could bring (no_new_privs), and all capabilities;
//   - access to files, by Landlock: executing, and reading and writing outside the directories that are named. What
//     is open stays open. Making sockets of TCP listen, and connecting them to other ports (Linux 6.7);
//   - by a seccomp filter, the system calls by which processes are made, changed or watched, the kernel is configured
//     or extended, or files outside the directories are changed (Landlock leaves out the mode and the owner); sockets
//     other than those of the network and of routing information; signals to others; memory that can be executed;
//   - core dumps, which would hold credentials, and being traced.
//
// The user stays the same. Files that a root collector has made are root's, and the next one has to find them; what
// root could do beyond that, it does by capabilities, or by owning files, where Landlock and seccomp stand against it.
//
// The report says in one line what was done, and which of it this kernel does not know. An error means that the
// process is not what its caller believes: it should end. A program with C code can't change all of its threads: it
// gives up nothing, and the report says so. None that ships is one.
func Drop(cfg Config) (report string, err error) {
	if err := allThreads(unix.SYS_GETPID, 0, 0, 0); errors.Is(err, unix.ENOTSUP) {
		return "nothing was given up: a program with cgo can't change all of its threads", nil
	}
	var done, missing []string
	for _, step := range []struct {
		name string
		do   func(Config) (string, error)
	}{
		{"core dumps", noCoreDumps},
		{"no_new_privs", noNewPrivileges},
		{"Landlock", restrictFiles}, // before capabilities go: directories may be another user's
		{"capabilities", noCapabilities},
		{"seccomp", restrictCalls},
	} {
		what, err := step.do(cfg)
		switch {
		case errors.Is(err, errors.ErrUnsupported):
			missing = append(missing, fmt.Sprintf("%s (%v)", step.name, err))
		case err != nil:
			return "", fmt.Errorf("give up privileges: %s: %w", step.name, err)
		default:
			done = append(done, what)
		}
	}
	report = strings.Join(done, "; ")
	if len(missing) > 0 {
		report += "; not available here: " + strings.Join(missing, ", ")
	}
	return report, nil
}

// noCoreDumps also keeps processes of the same user from reading this one's memory (PR_SET_DUMPABLE in prctl(2)).
func noCoreDumps(Config) (string, error) {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return "", os.NewSyscallError("setrlimit RLIMIT_CORE", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return "", os.NewSyscallError("prctl PR_SET_DUMPABLE", err)
	}
	return "no core dumps, not traceable", nil
}

func noNewPrivileges(Config) (string, error) {
	if err := allThreads(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0); err != nil {
		return "", os.NewSyscallError("prctl PR_SET_NO_NEW_PRIVS", err)
	}
	return "no_new_privs", nil
}

// noCapabilities empties all sets of capabilities (capabilities(7)).
func noCapabilities(Config) (string, error) {
	if err := allThreads(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0); err != nil {
		return "", os.NewSyscallError("prctl PR_CAP_AMBIENT", err)
	}
	// Without CAP_SETPCAP the bounding set stays. It limits what executing a file could bring, which is nothing.
	for c := range uintptr(64) {
		had, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0)
		if errors.Is(err, unix.EINVAL) {
			break // the kernel knows no more of them
		}
		if err != nil {
			return "", os.NewSyscallError("prctl PR_CAPBSET_READ", err)
		}
		if had == 0 {
			continue
		}
		if err := allThreads(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, c, 0); errors.Is(err, unix.EPERM) {
			break
		} else if err != nil {
			return "", os.NewSyscallError("prctl PR_CAPBSET_DROP", err)
		}
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3} // of the calling thread
	var none [2]unix.CapUserData
	if err := allThreads(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&none)), 0); err != nil {
		return "", os.NewSyscallError("capset", err)
	}
	return "no capabilities", nil
}

// allThreads makes a system call on each thread of the process; new threads inherit from those.
func allThreads(call, a1, a2, a3 uintptr) error {
	if _, _, errno := syscall.AllThreadsSyscall6(call, a1, a2, a3, 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// roots loads the certificates that the machine trusts, which Go does once, while it may read them. Without any,
// connecting will say so.
func roots() { _, _ = x509.SystemCertPool() }
