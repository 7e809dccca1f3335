package confine

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

// scene is what a child is told.
type scene struct {
	User  int // whom it becomes before it drops anything; 0: nobody else
	Drop  Config
	Older []uint32 // system calls that its kernel does not have

	Inside, Outside  string // directories, with a file "there" in each; only the first may be written to
	Allowed, Refused string // addresses of TCP servers
	Names            string // address of a name server
	Crash            bool
}

// outcome is what a child found.
type outcome struct {
	Report string
	Acts   map[string]string // by name, the error; empty: it succeeded
}

func TestMain(m *testing.M) {
	told := os.Getenv("CONFINE_CHILD")
	if told == "" {
		os.Exit(m.Run())
	}
	var s scene
	err := json.Unmarshal([]byte(told), &s)
	if err == nil {
		err = s.play()
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// play drops, tries everything, tells the parent, and waits for it.
func (s scene) play() error {
	if err := allThreads(unix.SYS_GETPID, 0, 0, 0); errors.Is(err, unix.ENOTSUP) {
		report, err := Drop(s.Drop)
		return errors.Join(err, json.NewEncoder(os.Stdout).Encode(outcome{Report: report}))
	}
	// A service may start with a wish for core dumps.
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: 1 << 20, Max: 1 << 20})
	if s.User > 0 {
		if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(s.User), syscall.Setuid(s.User)); err != nil {
			return err
		}
	}
	if err := withoutCalls(s.Older); err != nil {
		return err
	}
	before, err := prepare()
	if err != nil {
		return err
	}
	var o outcome
	if o.Report, err = Drop(s.Drop); err != nil {
		return err
	}
	o.Acts = map[string]string{}
	for name, act := range s.acts(before) {
		if len(s.Older) > 0 && !slices.Contains(allowed, name) {
			continue
		}
		if err := act(); err != nil {
			o.Acts[name] = err.Error()
		} else {
			o.Acts[name] = ""
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(o); err != nil {
		return err
	}
	if s.Crash {
		panic("as it may happen")
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// withoutCalls makes system calls unknown, as in an older kernel.
func withoutCalls(calls []uint32) error {
	if len(calls) == 0 {
		return nil
	}
	program := []bpf.Instruction{bpf.LoadAbsolute{Off: dataCall, Size: 4}}
	for _, call := range calls {
		program = append(program, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: call, SkipTrue: 1}, bpf.RetConstant{Val: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)})
	}
	raw, err := bpf.Assemble(append(program, bpf.RetConstant{Val: allow}))
	if err != nil {
		return err
	}
	instructions := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		instructions[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	filter := unix.SockFprog{Len: uint16(len(instructions)), Filter: &instructions[0]}
	if _, err := noNewPrivileges(Config{}); err != nil {
		return err
	}
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&filter))); errno != 0 {
		return errno
	}
	return nil
}

// opened is what a child has before it drops anything.
type opened struct {
	packets int // a packet socket; -1: not allowed
	ring    []byte
	waiting *sync.WaitGroup
	wake    chan string
	answers chan error
}

const waiters = 8

func prepare() (*opened, error) {
	o := &opened{packets: -1, wake: make(chan string), answers: make(chan error), waiting: &sync.WaitGroup{}}
	// Threads that exist by then, and wait in the kernel.
	for range waiters {
		o.waiting.Add(1)
		go func() {
			runtime.LockOSThread()
			o.waiting.Done()
			path := <-o.wake
			_, err := os.ReadFile(path)
			o.answers <- err
		}()
	}
	o.waiting.Wait()
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if errors.Is(err, unix.EPERM) {
		return o, nil
	}
	if err != nil {
		return nil, err
	}
	o.packets = fd
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VERSION, unix.TPACKET_V3); err != nil {
		return nil, err
	}
	request := unix.TpacketReq3{Block_size: 1 << 16, Block_nr: 1, Frame_size: 1 << 11, Frame_nr: 1 << 5, Retire_blk_tov: 10}
	if err := unix.SetsockoptTpacketReq3(fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &request); err != nil {
		return nil, err
	}
	o.ring, err = unix.Mmap(fd, 0, 1<<16, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	return o, err
}

// call makes a system call that is to be refused before its arguments are looked at. These make no sense, so that
// nothing happens where it is not refused.
func call(number uintptr, args ...uintptr) func() error {
	return func() error {
		args := append(args, 0, 0, 0, 0, 0, 0)
		if _, _, errno := unix.Syscall6(number, args[0], args[1], args[2], args[3], args[4], args[5]); errno != 0 {
			return errno
		}
		return nil
	}
}

func socket(family, kind, protocol int) func() error {
	return func() error {
		fd, err := unix.Socket(family, kind, protocol)
		if err == nil {
			unix.Close(fd)
		}
		return err
	}
}

func dial(address string) func() error {
	return func() error {
		conn, err := net.DialTimeout("tcp", address, 5*time.Second)
		if err == nil {
			conn.Close()
		}
		return err
	}
}

func readable(path string) func() error {
	return func() error {
		_, err := os.ReadFile(path)
		return err
	}
}

// acts are what a collector does, or must not.
func (s scene) acts(before *opened) map[string]func() error {
	inside, outside := func(name string) string { return filepath.Join(s.Inside, name) }, func(name string) string { return filepath.Join(s.Outside, name) }
	acts := map[string]func() error{
		// the spool
		"make, sync and rename a file": func() error {
			f, err := os.Create(inside("new"))
			if err != nil {
				return err
			}
			_, err = f.WriteString("evidence")
			return errors.Join(err, f.Sync(), f.Truncate(3), f.Close(), os.Rename(inside("new"), inside("renamed")))
		},
		"make a directory and move a file there": func() error {
			return errors.Join(os.Mkdir(inside("dir"), 0o700), os.WriteFile(inside("move"), nil, 0o600), os.Rename(inside("move"), inside("dir/moved")))
		},
		"link a file": func() error {
			return errors.Join(os.WriteFile(inside("one"), nil, 0o600), os.Link(inside("one"), inside("two")))
		},
		"sync a directory": func() error {
			d, err := os.Open(s.Inside)
			if err != nil {
				return err
			}
			return errors.Join(d.Sync(), d.Close())
		},
		"remove a file": func() error { return os.Remove(inside("there")) },
		"list":          func() error { _, err := os.ReadDir(s.Inside); return err },

		"read outside": readable(outside("there")),
		"read outside, by threads that waited": func() error {
			var errs []error
			for range waiters {
				before.wake <- outside("there")
			}
			for range waiters {
				if err := <-before.answers; err == nil {
					return nil
				} else {
					errs = append(errs, err)
				}
			}
			return errs[0]
		},
		"read outside, by new threads": func() error {
			answers := make(chan error)
			for range waiters {
				go func() {
					runtime.LockOSThread() // never unlocked: a thread for each
					_, err := os.ReadFile(outside("there"))
					answers <- err
				}()
			}
			var last error
			for range waiters {
				if last = <-answers; last == nil {
					return nil
				}
			}
			return last
		},
		"write outside":            func() error { return os.WriteFile(outside("new"), nil, 0o600) },
		"truncate outside":         func() error { return os.Truncate(outside("there"), 0) },
		"remove outside":           func() error { return os.Remove(outside("there")) },
		"list outside":             func() error { _, err := os.ReadDir("/"); return err },
		"move out":                 func() error { return os.Rename(inside("mine"), outside("mine")) },
		"make a symbolic link":     func() error { return os.Symlink("/etc/shadow", inside("symbolic")) },
		"change a mode":            func() error { return os.Chmod(outside("there"), 0o777) },
		"change an owner":          func() error { return os.Chown(outside("there"), os.Getuid(), os.Getgid()) },
		"change an extended one":   func() error { return unix.Setxattr(outside("there"), "user.x", []byte("y"), 0) },
		"read the names of hosts":  readable("/etc/hosts"),
		"read the time zone":       func() error { _, err := time.LoadLocation("Europe/Berlin"); return err },
		"use the null device":      func() error { return os.WriteFile(os.DevNull, []byte("x"), 0) },
		"read the secrets of root": readable("/etc/shadow"),
		"read another process":     readable(fmt.Sprintf("/proc/%d/environ", os.Getppid())),
		"read its own status":      readable("/proc/self/status"),

		// the runtime
		"start threads, be interrupted, collect garbage": func() error {
			var wait sync.WaitGroup
			stop := time.Now().Add(50 * time.Millisecond)
			for range 20 {
				wait.Go(func() {
					runtime.LockOSThread()
					for time.Now().Before(stop) {
					}
				})
			}
			for time.Now().Before(stop) {
				runtime.GC()
			}
			wait.Wait()
			return nil
		},
		"wait in poll": func() error {
			_, err := unix.Poll([]unix.PollFd{{Fd: 0}}, 1)
			return err
		},
		"map memory":            mapping(unix.PROT_READ | unix.PROT_WRITE),
		"map memory to execute": mapping(unix.PROT_READ | unix.PROT_EXEC),
		"make memory executable": func() error {
			memory, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
			if err != nil {
				return err
			}
			return unix.Mprotect(memory, unix.PROT_READ|unix.PROT_EXEC)
		},
		"ask for its limits": func() error { return unix.Getrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{}) },
		"wish for core dumps": func() error {
			return unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: 1 << 20, Max: 1 << 20})
		},
		"signal itself": func() error { return unix.Kill(os.Getpid(), 0) },
		"signal others": func() error { return unix.Kill(os.Getppid(), 0) },
		"signal all":    func() error { return unix.Kill(-1, 0) },
		"limit others":  func() error { return unix.Prlimit(os.Getppid(), unix.RLIMIT_NOFILE, nil, &unix.Rlimit{}) },

		// the network
		"list interfaces":                func() error { _, err := net.Interfaces(); return err },
		"connect":                        dial(s.Allowed),
		"connect to another port":        dial(s.Refused),
		"listen":                         func() error { l, err := net.Listen("tcp", "127.0.0.1:0"); _ = l; return err },
		"resolve a name":                 func() error { return resolve(s.Names, "store.example") },
		"resolve the local name":         func() error { _, err := net.DefaultResolver.LookupHost(context.Background(), "localhost"); return err },
		"a socket of this machine":       socket(unix.AF_UNIX, unix.SOCK_STREAM, 0),
		"a packet socket":                socket(unix.AF_PACKET, unix.SOCK_RAW, 0),
		"a raw socket":                   socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP),
		"a multipath socket":             socket(unix.AF_INET, unix.SOCK_STREAM, 262),
		"a socket of the cipher":         socket(unix.AF_ALG, unix.SOCK_SEQPACKET, 0),
		"a socket of the firewall":       socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER),
		"type at the terminal":           call(unix.SYS_IOCTL, 0, unix.TIOCSTI),
		"command the console":            call(unix.SYS_IOCTL, 0, tioclinux),
		"execute a file":                 func() error { return exec.Command("/bin/true").Run() },
		"execute a file, directly":       call(unix.SYS_EXECVE),
		"make a process":                 call(unix.SYS_CLONE, unix.CLONE_SIGHAND),
		"make a process, in the new way": call(unix.SYS_CLONE3),
		"make a user namespace":          call(unix.SYS_UNSHARE, unix.CLONE_NEWUSER),
		"enter a namespace":              call(unix.SYS_SETNS, 0, 0),
		"trace":                          call(unix.SYS_PTRACE, unix.PTRACE_PEEKDATA),
		"read another's memory":          call(unix.SYS_PROCESS_VM_READV, uintptr(os.Getppid())),
		"write another's memory":         call(unix.SYS_PROCESS_VM_WRITEV, uintptr(os.Getppid())),
		"mount":                          call(unix.SYS_MOUNT),
		"change the root":                call(unix.SYS_CHROOT),
		"load a BPF program":             call(unix.SYS_BPF),
		"load a module":                  call(unix.SYS_INIT_MODULE),
		"load a kernel":                  call(unix.SYS_KEXEC_LOAD),
		"open performance events":        call(unix.SYS_PERF_EVENT_OPEN),
		"use keys":                       call(unix.SYS_KEYCTL),
		"handle page faults":             call(unix.SYS_USERFAULTFD),
		"use io_uring":                   call(unix.SYS_IO_URING_SETUP, 8),
		"set the clock":                  call(unix.SYS_CLOCK_SETTIME, unix.CLOCK_REALTIME),
		"ask how the clock stands":       adjust(0),
		"pace the clock":                 adjust(unix.ADJ_FREQUENCY),
		"declare the clock unset":        adjust(unix.ADJ_STATUS),
		"name the machine":               call(unix.SYS_SETHOSTNAME, 0, 1),
	}
	if before.packets >= 0 {
		acts["filter and count packets, and give the ring back"] = func() error {
			program := unix.SockFprog{Len: 1, Filter: &unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K}}
			err := unix.SetsockoptSockFprog(before.packets, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program)
			_, errCount := unix.GetsockoptTpacketStatsV3(before.packets, unix.SOL_PACKET, unix.PACKET_STATISTICS)
			return errors.Join(err, errCount, unix.Munmap(before.ring), unix.Close(before.packets))
		}
	}
	return acts
}

// adjust changes nothing of the clock, even where it may: frequency and status become what they are.
func adjust(modes uint32) func() error {
	return func() error {
		var t unix.Timex
		if _, err := unix.Adjtimex(&t); err != nil || modes == 0 {
			return err
		}
		t.Modes = modes
		_, err := unix.Adjtimex(&t)
		return err
	}
}

func mapping(protection int) func() error {
	return func() error {
		memory, err := unix.Mmap(-1, 0, 4096, protection, unix.MAP_PRIVATE|unix.MAP_ANON)
		if err == nil {
			err = unix.Munmap(memory)
		}
		return err
	}
}

// resolve asks a name server in Go's own way.
func resolve(server, name string) error {
	resolver := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, server)
	}}
	got, err := resolver.LookupHost(context.Background(), name)
	if err == nil && !slices.Contains(got, "192.0.2.80") {
		err = fmt.Errorf("%s is %v", name, got)
	}
	return err
}

// serveNames answers every question with the same address.
func serveNames(t *testing.T) (address string) {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		buffer := make([]byte, 512)
		for {
			n, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buffer[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			m.Response, m.Additionals = true, nil
			if m.Questions[0].Type == dnsmessage.TypeA {
				m.Answers = []dnsmessage.Resource{{
					Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Class: dnsmessage.ClassINET},
					Body:   &dnsmessage.AResource{A: [4]byte{192, 0, 2, 80}},
				}}
			}
			if answer, err := m.Pack(); err == nil {
				conn.WriteTo(answer, from) // if it is lost, the resolver asks again
			}
		}
	}()
	return conn.LocalAddr().String()
}

func serveTCP(t *testing.T) (address string) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

func port(t *testing.T, address string) uint16 {
	t.Helper()
	_, p, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseUint(p, 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	return uint16(n)
}

// staged makes what a scene needs.
func staged(t *testing.T, user int) scene {
	t.Helper()
	s := scene{User: user, Allowed: serveTCP(t), Refused: serveTCP(t), Names: serveNames(t)}
	base, err := os.MkdirTemp("", "confine")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	s.Inside, s.Outside = filepath.Join(base, "inside"), filepath.Join(base, "outside")
	for _, dir := range []string{s.Inside, s.Outside} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	files := []string{filepath.Join(s.Inside, "there"), filepath.Join(s.Inside, "mine"), filepath.Join(s.Outside, "there")}
	for _, file := range files {
		if err := os.WriteFile(file, []byte("secret"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range append(files, base, s.Inside, s.Outside) {
		if user == 0 {
			break
		}
		if err := os.Chown(path, user, user); err != nil {
			t.Fatal(err)
		}
	}
	s.Drop = Config{Write: []string{s.Inside}, Network: true, Ports: []uint16{port(t, s.Allowed)}}
	return s
}

// played runs this test binary as a child that plays a scene, and hands over what it found.
func played(t *testing.T, s scene) (o outcome, cmd *exec.Cmd) {
	t.Helper()
	told, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	cmd = exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "CONFINE_CHILD="+string(told), "GOTRACEBACK=crash")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &o)
	}
	if err != nil {
		cmd.Process.Kill()
		cmd.Wait()
		t.Fatalf("%v: %s%s", err, line, stderr.String())
	}
	if strings.Contains(o.Report, "cgo") {
		t.Skip(o.Report)
	}
	t.Log(o.Report)
	return o, cmd
}
