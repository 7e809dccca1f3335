// Package rig is two network namespaces joined by a cable, in which one CPU does all receiving and its cost is known.
package rig

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/safchain/ethtool"
	"golang.org/x/sys/unix"

	"flashtap/testutil/bench/traffic"
)

// Config says how a rig is made. Zero values mean the defaults, but for the CPUs.
type Config struct {
	SendCPU    int
	ReceiveCPU int    // of the kernel's receiving thread, and of the programs that are started
	MTU        int    // default 9001, the jumbo interface of EC2
	Base       string // where recordings lie; default /dev/shm, so that no disk is measured, or the system's folder
	Nice       int    // of everything that is measured; negative values keep the rest of the machine out
}

// Rig is the two namespaces. Packets that are sent into SendInterface arrive at ReceiveInterface, in a kernel thread
// of its own (threaded NAPI), through GRO as at a network card.
type Rig struct {
	SendNamespace, ReceiveNamespace string // paths
	SendInterface, ReceiveInterface string
	Dir                             string // for recordings; removed by Close

	cfg       Config
	sender    string // names of the namespaces
	receiver  string
	targetMAC net.HardwareAddr
	sourceMAC net.HardwareAddr
	napi      int // id of the kernel's receiving thread
}

// ErrPermission is what New returns when network namespaces can't be made here.
var ErrPermission = errors.New("making network namespaces needs root")

// The two ends, of a block for measurements (RFC 2544, section C.2.2), and of one for documentation (RFC 3849).
var (
	source4, target4 = netip.MustParseAddr("198.18.0.1"), netip.MustParseAddr("198.18.0.2")
	source6, target6 = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
)

// prefix begins the names of all that a rig makes; the id of its process follows.
const prefix = "ftbench"

// netns is where iproute2 keeps its namespaces.
const netns = "/run/netns"

var serial atomic.Uint32

// New makes a rig. Close must be called when it is no longer needed; what a killed process has left behind is
// removed now.
func New(cfg Config) (*Rig, error) {
	if os.Geteuid() != 0 {
		return nil, ErrPermission
	}
	if cfg.MTU == 0 {
		cfg.MTU = 9001
	}
	if cfg.Base == "" {
		cfg.Base = "/dev/shm"
		if _, err := os.Stat(cfg.Base); err != nil {
			cfg.Base = os.TempDir()
		}
	}
	removeLeft(cfg.Base)
	name := fmt.Sprintf("%d-%d", os.Getpid(), serial.Add(1))
	r := &Rig{
		cfg: cfg, sender: prefix + name + "s", receiver: prefix + name + "r",
		SendInterface: "bs" + name, ReceiveInterface: "br" + name, Dir: filepath.Join(cfg.Base, prefix+name),
	}
	r.SendNamespace, r.ReceiveNamespace = filepath.Join(netns, r.sender), filepath.Join(netns, r.receiver)
	if err := r.build(); err != nil {
		return nil, errors.Join(fmt.Errorf("make a rig: %w", err), r.Close())
	}
	return r, nil
}

func (r *Rig) build() error {
	if err := os.MkdirAll(r.Dir, 0o755); err != nil {
		return err
	}
	for _, name := range []string{r.sender, r.receiver} {
		if err := ip("netns", "add", name); err != nil {
			return err
		}
		if err := ip("-n", name, "link", "set", "lo", "up"); err != nil {
			return err
		}
	}
	mtu := strconv.Itoa(r.cfg.MTU)
	if err := ip("link", "add", r.SendInterface, "netns", r.sender, "mtu", mtu, "type", "veth", "peer", "name", r.ReceiveInterface, "netns", r.receiver, "mtu", mtu); err != nil {
		return err
	}
	// A veth hands packets to NAPI only when its peer never sends packets that are to be cut.
	if err := r.offload(r.SendNamespace, r.SendInterface, map[string]bool{
		"tx-tcp-segmentation": false, "tx-tcp-ecn-segmentation": false, "tx-tcp-mangleid-segmentation": false, "tx-tcp6-segmentation": false,
	}); err != nil {
		return err
	}
	if err := r.offload(r.ReceiveNamespace, r.ReceiveInterface, map[string]bool{"rx-gro": true}); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"-n", r.sender, "addr", "add", source4.String() + "/24", "dev", r.SendInterface},
		{"-n", r.sender, "addr", "add", source6.String() + "/64", "dev", r.SendInterface, "nodad"},
		{"-n", r.receiver, "addr", "add", target4.String() + "/24", "dev", r.ReceiveInterface},
		{"-n", r.receiver, "addr", "add", target6.String() + "/64", "dev", r.ReceiveInterface, "nodad"},
		{"-n", r.sender, "link", "set", r.SendInterface, "up"},
		{"-n", r.receiver, "link", "set", r.ReceiveInterface, "up"},
		{"netns", "exec", r.receiver, "sh", "-c", "echo 1 > /sys/class/net/" + r.ReceiveInterface + "/threaded"},
	} {
		if err := ip(args...); err != nil {
			return err
		}
	}
	var err error
	if r.sourceMAC, err = hardwareAddress(r.SendNamespace, r.SendInterface); err != nil {
		return err
	}
	if r.targetMAC, err = hardwareAddress(r.ReceiveNamespace, r.ReceiveInterface); err != nil {
		return err
	}
	return r.pinKernel()
}

// Close removes everything that the rig is made of. Programs in it must have ended.
func (r *Rig) Close() error {
	var errs []error
	for _, name := range []string{r.sender, r.receiver} {
		if _, err := os.Stat(filepath.Join(netns, name)); err == nil {
			errs = append(errs, ip("netns", "del", name))
		}
	}
	return errors.Join(append(errs, os.RemoveAll(r.Dir))...)
}

// TempDir makes a folder, as os.MkdirTemp does, of which the next rig knows should this process be killed.
func TempDir() (string, error) { return os.MkdirTemp("", fmt.Sprintf("%s%d-", prefix, os.Getpid())) }

// removeLeft removes what rigs have left behind whose process is no more.
func removeLeft(base string) {
	for _, dir := range []string{netns, base, os.TempDir()} {
		left, _ := filepath.Glob(filepath.Join(dir, prefix+"*-*"))
		for _, path := range left {
			pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(path), prefix), "-")
			if _, err := os.Stat("/proc/" + pid); err == nil || pid == "" {
				continue
			}
			if dir == netns {
				ip("netns", "del", filepath.Base(path)) //nolint:errcheck // the next rig tries again
			} else {
				os.RemoveAll(path) //nolint:errcheck // the same
			}
		}
	}
}

// Plan gives a plan the addresses of the two ends; the family is that of the plan's own.
func (r *Rig) Plan(p traffic.Plan) traffic.Plan {
	p.Outer.SourceMAC, p.Outer.TargetMAC = [6]byte(r.sourceMAC), [6]byte(r.targetMAC)
	six := p.Outer.Source.Is6()
	p.Outer.Source, p.Outer.Target = source4, target4
	if six {
		p.Outer.Source, p.Outer.Target = source6, target6
	}
	return p
}

// SendCPU is where the sender belongs.
func (r *Rig) SendCPU() int { return r.cfg.SendCPU }

// Kernel is what the kernel's receiving thread has used so far.
func (r *Rig) Kernel() (Usage, error) { return usage(fmt.Sprintf("/proc/%d/schedstat", r.napi)) }

// pinKernel finds the kernel's receiving thread, and gives it its CPU and rank.
func (r *Rig) pinKernel() error {
	want := "napi/" + r.ReceiveInterface + "-"
	for try := 0; r.napi == 0; try++ {
		names, _ := filepath.Glob("/proc/[0-9]*/comm")
		for _, name := range names {
			if comm, err := os.ReadFile(name); err == nil && strings.HasPrefix(string(comm), want) {
				r.napi, _ = strconv.Atoi(filepath.Base(filepath.Dir(name)))
			}
		}
		if r.napi == 0 && try == 20 {
			return fmt.Errorf("no kernel thread is called %s", want)
		}
		if r.napi == 0 {
			time.Sleep(50 * time.Millisecond)
		}
	}
	var cpus unix.CPUSet
	cpus.Set(r.cfg.ReceiveCPU)
	if err := unix.SchedSetaffinity(r.napi, &cpus); err != nil {
		return os.NewSyscallError("sched_setaffinity", err)
	}
	return os.NewSyscallError("setpriority", unix.Setpriority(unix.PRIO_PROCESS, r.napi, r.cfg.Nice))
}

// offload changes what an interface does for the kernel.
func (r *Rig) offload(namespace, name string, features map[string]bool) error {
	return inNamespace(namespace, func() error {
		tool, err := ethtool.NewEthtool()
		if err != nil {
			return err
		}
		defer tool.Close()
		if err := tool.Change(name, features); err != nil {
			return fmt.Errorf("change offloads of %s: %w", name, err)
		}
		return nil
	})
}

func hardwareAddress(namespace, name string) (addr net.HardwareAddr, err error) {
	err = inNamespace(namespace, func() error {
		iface, err := net.InterfaceByName(name)
		if err == nil {
			addr = iface.HardwareAddr
		}
		return err
	})
	return addr, err
}

// inNamespace calls f on a thread of its own within a network namespace.
func inNamespace(path string, f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with its namespace
		ns, err := os.Open(path)
		if err == nil {
			defer ns.Close()
			err = os.NewSyscallError("setns", unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET))
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// ip runs iproute2.
func ip(args ...string) error {
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
