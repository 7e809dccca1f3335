package confine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What Landlock has to know of before it restricts it, by the version from which on it does (landlock(7)).
var handledFiles = []struct {
	abi    int
	rights uint64
}{
	{1, unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_READ_FILE |
		unix.LANDLOCK_ACCESS_FS_READ_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG |
		unix.LANDLOCK_ACCESS_FS_MAKE_SOCK | unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK |
		unix.LANDLOCK_ACCESS_FS_MAKE_SYM},
	{2, unix.LANDLOCK_ACCESS_FS_REFER},
	{3, unix.LANDLOCK_ACCESS_FS_TRUNCATE},
	{5, unix.LANDLOCK_ACCESS_FS_IOCTL_DEV},
	{9, unix.LANDLOCK_ACCESS_FS_RESOLVE_UNIX},
}

const (
	abiTCP   = 4
	abiScope = 6

	readFile = unix.LANDLOCK_ACCESS_FS_READ_FILE
	read     = readFile | unix.LANDLOCK_ACCESS_FS_READ_DIR

	write = read | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_MAKE_REG |
		unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR |
		unix.LANDLOCK_ACCESS_FS_REFER
)

// always are what Go reads when it turns times into local ones.
var always = []string{"/etc/localtime", "/usr/share/zoneinfo"}

// resolver are the files that Go's own resolver reads (net.Resolver), again when they have changed.
var resolver = []string{"/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/services"}

// dns is the port of name servers, which are asked by TCP when their answer is long.
const dns = 53

// restrictFiles restricts the threads by Landlock.
//
// Signals are left to seccomp: before Linux 6.15, Landlock would take the threads of this process for strangers.
func restrictFiles(cfg Config) (string, error) {
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		// ENOSYS or EOPNOTSUPP: not built in, or not turned on. EPERM: a container's filter does not know of it.
		return "", unsupported(errno)
	}
	rules := ruleset{abi: int(abi)}
	for _, h := range handledFiles {
		if rules.abi >= h.abi {
			rules.attr.Handled_access_fs |= h.rights
		}
	}
	ports := connectable(cfg)
	if rules.abi >= abiTCP {
		rules.attr.Handled_access_net = unix.LANDLOCK_ACCESS_NET_BIND_TCP
		if ports != nil {
			rules.attr.Handled_access_net |= unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
		}
	}
	if rules.abi >= abiScope {
		rules.attr.Scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET
	}
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&rules.attr)), unsafe.Sizeof(rules.attr), 0)
	if errno != 0 {
		return "", os.NewSyscallError("landlock_create_ruleset", errno)
	}
	rules.fd = int(fd)
	defer unix.Close(rules.fd) //nolint:errcheck // it only names the rules
	if err := rules.fill(cfg, ports); err != nil {
		return "", err
	}
	if err := allThreads(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0); err != nil {
		return "", os.NewSyscallError("landlock_restrict_self", err)
	}
	report := fmt.Sprintf("files by Landlock (version %d): writing below %s", rules.abi, strings.Join(cfg.Write, ", "))
	if len(cfg.Write) == 0 {
		report = fmt.Sprintf("files by Landlock (version %d): no writing", rules.abi)
	}
	switch {
	case rules.abi < abiTCP:
		report += ", no restriction of TCP"
	case ports == nil:
		report += ", TCP to any port"
	case len(ports) == 0:
		report += ", no TCP"
	default:
		report += ", TCP to ports " + strings.Trim(fmt.Sprint(ports), "[]")
	}
	return report, nil
}

// connectable are the TCP ports that may be connected to; nil: any.
func connectable(cfg Config) []uint16 {
	switch {
	case !cfg.Network:
		return []uint16{}
	case len(cfg.Ports) == 0 || slices.Contains(cfg.Ports, 0):
		return nil
	}
	ports := append(slices.Clone(cfg.Ports), dns)
	slices.Sort(ports)
	return slices.Compact(ports)
}

// unsupported marks what this kernel does not know, or does not let us use.
func unsupported(err error) error {
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
	}
	return err
}

// ruleset is what Landlock will allow.
type ruleset struct {
	abi  int
	attr unix.LandlockRulesetAttr
	fd   int
}

func (r *ruleset) fill(cfg Config, ports []uint16) error {
	for _, dir := range cfg.Write {
		if err := r.allow(dir, write); err != nil {
			return err
		}
	}
	for _, path := range cfg.Read {
		if err := r.allow(path, read); err != nil {
			return err
		}
	}
	if err := r.allow(os.DevNull, readFile|unix.LANDLOCK_ACCESS_FS_WRITE_FILE); err != nil {
		return err
	}
	common := always
	if cfg.Network {
		roots()
		common = append(slices.Clone(always), resolver...)
		// systemd-resolved and others replace the file that this one leads to.
		if target, err := filepath.EvalSymlinks(resolver[0]); err == nil && filepath.Dir(target) != "/etc" {
			common = append(common, filepath.Dir(target))
		}
	}
	for _, path := range common {
		if err := r.allow(path, read); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if r.attr.Handled_access_net&unix.LANDLOCK_ACCESS_NET_CONNECT_TCP == 0 {
		return nil
	}
	for _, port := range ports {
		rule := struct{ access, port uint64 }{unix.LANDLOCK_ACCESS_NET_CONNECT_TCP, uint64(port)} // linux/landlock.h, struct landlock_net_port_attr
		if err := r.add(ruleNetPort, unsafe.Pointer(&rule)); err != nil {
			return fmt.Errorf("allow TCP port %d: %w", port, err)
		}
	}
	return nil
}

// The types of rules (linux/landlock.h, enum landlock_rule_type).
const (
	rulePathBeneath = 1
	ruleNetPort     = 2
)

// allow allows what can be done with a file, or with all below a directory.
func (r *ruleset) allow(path string, rights uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("allow %s: %w", path, err)
	}
	defer unix.Close(fd) //nolint:errcheck // it only names the path
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return fmt.Errorf("allow %s: %w", path, err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFDIR {
		rights &= readFile | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	rule := unix.LandlockPathBeneathAttr{Allowed_access: rights & r.attr.Handled_access_fs, Parent_fd: int32(fd)}
	if err := r.add(rulePathBeneath, unsafe.Pointer(&rule)); err != nil {
		return fmt.Errorf("allow %s: %w", path, err)
	}
	return nil
}

func (r *ruleset) add(kind uintptr, rule unsafe.Pointer) error {
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(r.fd), kind, uintptr(rule), 0, 0, 0)
	if errno != 0 {
		return os.NewSyscallError("landlock_add_rule", errno)
	}
	return nil
}
