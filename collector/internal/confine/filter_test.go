package confine

import (
	"encoding/binary"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// verdict runs the filter on a call. The interpreter reads words in network order.
func verdict(t *testing.T, network bool, arch, call uint32, args ...uint32) uint32 {
	t.Helper()
	vm, err := bpf.NewVM(filter(Config{Network: network}, 4711))
	if err != nil {
		t.Fatal(err)
	}
	data := make([]byte, dataArguments+6*8)
	binary.BigEndian.PutUint32(data[dataCall:], call)
	binary.BigEndian.PutUint32(data[dataArchitecture:], arch)
	for i, arg := range args {
		binary.BigEndian.PutUint32(data[dataArguments+8*i:], arg)
	}
	n, err := vm.Run(data)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(n)
}

func TestCallsThatAreRefused(t *testing.T) {
	for _, call := range append(denied, deniedHere...) {
		if got := verdict(t, true, architecture, call); got != deny {
			t.Errorf("call %d: %#x", call, got)
		}
	}
	const unknown = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	for _, c := range []struct {
		reason string
		call   uint32
		args   []uint32
		want   uint32
	}{
		{"Go makes threads", unix.SYS_CLONE, []uint32{unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_SYSVSEM | unix.CLONE_THREAD}, allow},
		{"a process", unix.SYS_CLONE, []uint32{uint32(unix.SIGCHLD)}, deny},
		{"a process that shares memory", unix.SYS_CLONE, []uint32{unix.CLONE_VM | unix.CLONE_VFORK}, deny},
		{"a way to ask that can't be looked into", unix.SYS_CLONE3, nil, unknown},
		{"to itself", unix.SYS_TGKILL, []uint32{4711, 4712, uint32(unix.SIGURG)}, allow},
		{"to another process", unix.SYS_TGKILL, []uint32{1, 1, 9}, deny},
		{"to itself as a whole", unix.SYS_KILL, []uint32{4711, 6}, allow},
		{"to its group", unix.SYS_KILL, []uint32{0, 9}, deny},
		{"to all", unix.SYS_KILL, []uint32{1<<32 - 1, 9}, deny},
		{"its own limits", unix.SYS_PRLIMIT64, []uint32{0}, allow},
		{"limits of others", unix.SYS_PRLIMIT64, []uint32{1}, deny},
		{"what ethtool asks", unix.SYS_IOCTL, []uint32{3, unix.SIOCETHTOOL}, allow},
		{"typing", unix.SYS_IOCTL, []uint32{0, unix.TIOCSTI}, deny},
		{"pasting", unix.SYS_IOCTL, []uint32{0, tioclinux}, deny},
		{"memory", unix.SYS_MMAP, []uint32{0, 4096, unix.PROT_READ | unix.PROT_WRITE}, allow},
		{"memory for programs", unix.SYS_MMAP, []uint32{0, 4096, unix.PROT_READ | unix.PROT_EXEC}, deny},
		{"memory that becomes a program", unix.SYS_MPROTECT, []uint32{0, 4096, unix.PROT_EXEC}, deny},
		{"memory that becomes a program, with a key", unix.SYS_PKEY_MPROTECT, []uint32{0, 4096, unix.PROT_EXEC}, deny},
		{"what all programs do", unix.SYS_WRITE, nil, allow},
		{"waiting", unix.SYS_PPOLL, nil, allow},
	} {
		if got := verdict(t, true, architecture, c.call, c.args...); got != c.want {
			t.Errorf("%s: %#x, want %#x", c.reason, got, c.want)
		}
	}
}

func TestSocketsThatAreRefused(t *testing.T) {
	for _, c := range []struct {
		reason                 string
		family, kind, protocol uint32
		online, offline        uint32
	}{
		{"TCP", unix.AF_INET, unix.SOCK_STREAM, 0, allow, deny},
		{"TCP by its name", unix.AF_INET6, unix.SOCK_STREAM, unix.IPPROTO_TCP, allow, deny},
		{"UDP", unix.AF_INET6, unix.SOCK_DGRAM, unix.IPPROTO_UDP, allow, deny},
		{"multipath TCP", unix.AF_INET, unix.SOCK_STREAM, 262, deny, deny},
		{"SCTP", unix.AF_INET, unix.SOCK_STREAM, 132, deny, deny},
		{"routing information", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE, allow, allow},
		{"the firewall", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER, deny, deny},
		{"services of this machine", unix.AF_UNIX, unix.SOCK_STREAM, 0, deny, deny},
		{"the hypervisor", unix.AF_VSOCK, unix.SOCK_STREAM, 0, deny, deny},
		{"packets", unix.AF_PACKET, unix.SOCK_RAW, 0, deny, deny},
	} {
		for network, want := range map[bool]uint32{true: c.online, false: c.offline} {
			if got := verdict(t, network, architecture, unix.SYS_SOCKET, c.family, c.kind, c.protocol); got != want {
				t.Errorf("%s, network %v: %#x, want %#x", c.reason, network, got, want)
			}
		}
	}
}

// Calls of another kind have other numbers, by which they could pass for harmless ones.
func TestCallsOfOtherKindsAreRefused(t *testing.T) {
	if got := verdict(t, true, unix.AUDIT_ARCH_I386, unix.SYS_WRITE); got != deny {
		t.Errorf("32 bits: %#x", got)
	}
	if got := verdict(t, true, architecture, foreignCalls|unix.SYS_WRITE); got != deny {
		t.Errorf("numbers of another table: %#x", got)
	}
}
