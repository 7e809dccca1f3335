package confine

import (
	"fmt"
	"os"
	"slices"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// denied are system calls that a collector never makes once it is set up, or that only whoever took it over would.
// They fail with EPERM. adjtimex, by which the kernel tells how its clock stands, is not among them: to set anything by it
// takes a capability, which is gone.
var denied = []uint32{
	// other programs and processes
	unix.SYS_EXECVE, unix.SYS_EXECVEAT, unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV,
	unix.SYS_PROCESS_MADVISE, unix.SYS_PROCESS_MRELEASE, unix.SYS_KCMP, unix.SYS_PIDFD_OPEN, unix.SYS_PIDFD_GETFD,
	unix.SYS_PIDFD_SEND_SIGNAL, unix.SYS_TKILL, unix.SYS_RT_SIGQUEUEINFO, unix.SYS_RT_TGSIGQUEUEINFO,
	unix.SYS_MIGRATE_PAGES, unix.SYS_MOVE_PAGES,
	// namespaces and mounts
	unix.SYS_UNSHARE, unix.SYS_SETNS, unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT,
	unix.SYS_OPEN_TREE, unix.SYS_OPEN_TREE_ATTR, unix.SYS_MOVE_MOUNT, unix.SYS_FSOPEN, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT,
	unix.SYS_FSPICK, unix.SYS_MOUNT_SETATTR,
	// the kernel itself
	unix.SYS_BPF, unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE, unix.SYS_KEXEC_LOAD,
	unix.SYS_KEXEC_FILE_LOAD, unix.SYS_PERF_EVENT_OPEN, unix.SYS_REBOOT, unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_ACCT,
	unix.SYS_SYSLOG, unix.SYS_QUOTACTL, unix.SYS_QUOTACTL_FD, unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME,
	unix.SYS_CLOCK_ADJTIME, unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME, unix.SYS_VHANGUP,
	// large parts of it that are of no use here
	unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_USERFAULTFD, unix.SYS_IO_URING_SETUP,
	unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER, unix.SYS_FANOTIFY_INIT, unix.SYS_NAME_TO_HANDLE_AT,
	unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_REMAP_FILE_PAGES, unix.SYS_PERSONALITY, unix.SYS_SHMAT, unix.SYS_MEMFD_CREATE,
	// what an owner may do with a file anywhere, which Landlock does not ask about
	unix.SYS_FCHMOD, unix.SYS_FCHMODAT, unix.SYS_FCHMODAT2, unix.SYS_FCHOWN, unix.SYS_FCHOWNAT, unix.SYS_SETXATTR,
	unix.SYS_LSETXATTR, unix.SYS_FSETXATTR, unix.SYS_SETXATTRAT, unix.SYS_REMOVEXATTR, unix.SYS_LREMOVEXATTR,
	unix.SYS_FREMOVEXATTR, unix.SYS_REMOVEXATTRAT, unix.SYS_UTIMENSAT,
}

// The values of struct seccomp_data (linux/seccomp.h), of which the filter reads the lower halves of arguments: so
// does the kernel with those that are looked at here. The machines that it runs on are little-endian.
const (
	dataCall         = 0
	dataArchitecture = 4
	dataArguments    = 16
)

const (
	deny  = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	allow = unix.SECCOMP_RET_ALLOW
)

// filter is the classic BPF program that decides about each system call of a process. What it allows without a look
// at the arguments, the kernel remembers and does not ask it again (Linux 5.11).
func filter(cfg Config, process uint32) []bpf.Instruction {
	f := program{
		bpf.LoadAbsolute{Off: dataArchitecture, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: architecture, SkipTrue: 1}, // 32-bit calls have other numbers
		bpf.RetConstant{Val: deny},
		bpf.LoadAbsolute{Off: dataCall, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpLessThan, Val: foreignCalls, SkipTrue: 1},
		bpf.RetConstant{Val: deny},
	}
	for _, call := range slices.Concat(denied, deniedHere) {
		f = append(f, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: call, SkipTrue: 1}, bpf.RetConstant{Val: deny})
	}
	// Go asks for threads by clone. What clone3 is asked for can't be seen; without it, others fall back to clone.
	f.on(unix.SYS_CLONE3, bpf.RetConstant{Val: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)})
	f.on(unix.SYS_CLONE, argument(0),
		bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: unix.CLONE_THREAD, SkipFalse: 1},
		bpf.RetConstant{Val: allow}, bpf.RetConstant{Val: deny})
	for _, call := range []uint32{unix.SYS_KILL, unix.SYS_TGKILL} {
		f.on(call, argument(0),
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: process, SkipFalse: 1},
			bpf.RetConstant{Val: allow}, bpf.RetConstant{Val: deny})
	}
	f.on(unix.SYS_PRLIMIT64, argument(0),
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0, SkipFalse: 1},
		bpf.RetConstant{Val: allow}, bpf.RetConstant{Val: deny})
	// Input for a terminal that others type at (ioctl_tty(2)).
	f.on(unix.SYS_IOCTL, argument(1),
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.TIOCSTI, SkipTrue: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: tioclinux, SkipTrue: 1},
		bpf.RetConstant{Val: allow}, bpf.RetConstant{Val: deny})
	for _, call := range []uint32{unix.SYS_MMAP, unix.SYS_MPROTECT, unix.SYS_PKEY_MPROTECT} {
		f.on(call, argument(2),
			bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: unix.PROT_EXEC, SkipTrue: 1},
			bpf.RetConstant{Val: allow}, bpf.RetConstant{Val: deny})
	}
	// Sockets of this machine's services, say of one that starts containers, ask for no more than the user's name.
	f.on(unix.SYS_SOCKET, sockets(cfg.Network)...)
	return append(f, bpf.RetConstant{Val: allow})
}

// tioclinux is the command TIOCLINUX (ioctl_console(2)).
const tioclinux = 0x541c

// sockets decides about a socket by its family and protocol: routing information, UDP, and TCP, but not the multipath
// kind of it, which Landlock does not restrict.
func sockets(network bool) []bpf.Instruction {
	families := []uint32{unix.AF_NETLINK}
	if network {
		families = append(families, unix.AF_INET, unix.AF_INET6)
	}
	block := program{
		argument(2),
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0, SkipTrue: 3}, // the default of a type, or NETLINK_ROUTE
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.IPPROTO_TCP, SkipTrue: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.IPPROTO_UDP, SkipTrue: 1},
		bpf.RetConstant{Val: deny},
		argument(0),
	}
	for i, family := range families {
		block = append(block, bpf.JumpIf{Cond: bpf.JumpEqual, Val: family, SkipTrue: uint8(len(families) - i)})
	}
	return append(block, bpf.RetConstant{Val: deny}, bpf.RetConstant{Val: allow})
}

// program is a BPF program that grows from the top. Everything in it begins with the call's number loaded.
type program []bpf.Instruction

// on adds a block that decides about a call. It ends with a return.
func (p *program) on(call uint32, block ...bpf.Instruction) {
	*p = append(*p, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: call, SkipTrue: uint8(len(block))})
	*p = append(*p, block...)
}

// argument loads the lower half of an argument of the call.
func argument(n uint32) bpf.Instruction {
	return bpf.LoadAbsolute{Off: dataArguments + 8*n, Size: 4}
}

// restrictCalls puts the filter on all threads.
func restrictCalls(cfg Config) (string, error) {
	raw, err := bpf.Assemble(filter(cfg, uint32(os.Getpid())))
	if err != nil {
		return "", err
	}
	instructions := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		instructions[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	filter := unix.SockFprog{Len: uint16(len(instructions)), Filter: &instructions[0]}
	thread, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&filter)))
	if errno != 0 {
		return "", unsupported(os.NewSyscallError("seccomp", errno))
	}
	if thread != 0 {
		return "", fmt.Errorf("thread %d has a filter of its own", thread)
	}
	return "system calls by seccomp", nil
}
