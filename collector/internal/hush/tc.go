package hush

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// loaded hands the program to the kernel.
func loaded(t target, active *ebpf.Map) (*ebpf.Program, error) {
	return ebpf.NewProgram(&ebpf.ProgramSpec{
		Name:         "flashtap_hush",
		Type:         ebpf.SchedCLS,
		Instructions: program(t.ports, active, true),
		License:      "Apache-2.0",
	})
}

// startTCX puts the program before all others on the tcx hook: one of those could let a datagram pass for good.
func startTCX(t target, _ *slog.Logger) (undo func() error, err error) {
	p, err := loaded(t, nil)
	if err != nil {
		return nil, err
	}
	l, err := link.AttachTCX(link.TCXOptions{Interface: t.ifindex, Program: p, Attach: ebpf.AttachTCXIngress, Anchor: link.Head()})
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return l.Close, p.Close() // the link keeps the program
}

// clsact is a filter that can be turned off without any capability: by a word in memory that is shared with it.
type clsact struct {
	target
	tc     *netlink.Handle
	own    bool // its queueing discipline was made for it
	active *ebpf.Map
	on     *ebpf.Memory
}

// startClsact puts the program before all other filters for what comes in. The queueing discipline that they hang on
// is made if there is none, and removed with the filter, unless others use it by then.
func startClsact(t target, log *slog.Logger) (undo func() error, err error) {
	tc, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	c := &clsact{target: t, tc: tc}
	if err := c.begin(log); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c.close, nil
}

func (c *clsact) begin(log *slog.Logger) (err error) {
	c.active, err = ebpf.NewMap(&ebpf.MapSpec{
		Name: "flashtap_hush", Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1, Flags: unix.BPF_F_MMAPABLE, // Linux 5.5
	})
	if err != nil {
		return err
	}
	if c.on, err = c.active.Memory(); err != nil {
		return err
	}
	if err := c.turn(1); err != nil {
		return err
	}
	p, err := loaded(c.target, c.active)
	if err != nil {
		return err
	}
	defer p.Close() //nolint:errcheck // the filter keeps it
	if err := c.removeStale(log); err != nil {
		return err
	}
	switch err := c.tc.QdiscAdd(c.qdisc()); {
	case err == nil:
		c.own = true
	case !errors.Is(err, unix.EEXIST): // a clsact, or an ingress one, which serves as well
		return fmt.Errorf("add a clsact queueing discipline: %w", err)
	}
	filters, err := c.filters(netlink.HANDLE_MIN_INGRESS)
	if err != nil {
		return err
	}
	for _, f := range filters {
		if a := f.Attrs(); a.Priority == first && (f.Type() != "bpf" || a.Protocol != unix.ETH_P_ALL) {
			return fmt.Errorf("a filter of the kind %s has the first place", f.Type())
		}
	}
	err = c.tc.FilterAdd(&netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: c.ifindex, Parent: netlink.HANDLE_MIN_INGRESS, Priority: first, Protocol: unix.ETH_P_ALL,
			Handle: 0xf1<<24 | uint32(os.Getpid()), // process numbers have 22 bits
		},
		Fd:           p.FD(),
		Name:         filterName(os.Getpid(), c.own),
		DirectAction: true,
	})
	if err != nil {
		return fmt.Errorf("add a filter: %w", err)
	}
	return nil
}

// first is the priority of the filters that see a packet before all others: one of those could let it pass for good.
// Programs share it, and the last one that came sees a packet first (cls_bpf_change in net/sched/cls_bpf.c).
const first = 1

func (c *clsact) qdisc() *netlink.GenericQdisc {
	return &netlink.GenericQdisc{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: c.ifindex, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT},
		QdiscType:  "clsact",
	}
}

// turn says whether the filter drops anything.
func (c *clsact) turn(on byte) error {
	_, err := c.on.WriteAt([]byte{on, 0, 0, 0}, 0)
	return err
}

func (c *clsact) close() error {
	var errs []error
	if c.on != nil {
		errs = append(errs, c.turn(0))
	}
	if err := c.remove(os.Getpid(), c.own); err != nil {
		errs = append(errs, fmt.Errorf("interface %s keeps a filter that does nothing, which \"tc filter show dev %[1]s ingress\" shows as %s...: %w",
			c.iface, namePrefix, err))
	}
	if c.active != nil {
		errs = append(errs, c.active.Close())
	}
	c.tc.Close()
	return errors.Join(errs...)
}

// remove removes the filters that a process has made, and the queueing discipline if it was made for them.
func (c *clsact) remove(process int, own bool) error {
	filters, err := c.filters(netlink.HANDLE_MIN_INGRESS)
	if err != nil {
		return err
	}
	for _, f := range filters {
		made, itsOwn, ok := parseFilterName(f)
		if !ok || made != process {
			continue
		}
		own = own || itsOwn
		if err := c.tc.FilterDel(f); err != nil {
			return fmt.Errorf("remove the filter: %w", err)
		}
	}
	if !own {
		return nil
	}
	for _, parent := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
		if others, err := c.filters(parent); err != nil || len(others) > 0 {
			return err // somebody else needs it by now
		}
	}
	if err := c.tc.QdiscDel(c.qdisc()); err != nil {
		return fmt.Errorf("remove the clsact queueing discipline: %w", err)
	}
	return nil
}

// removeStale removes the filters of processes that ended without doing so.
func (c *clsact) removeStale(log *slog.Logger) error {
	filters, err := c.filters(netlink.HANDLE_MIN_INGRESS)
	if err != nil {
		return err
	}
	for _, f := range filters {
		process, _, ok := parseFilterName(f)
		if !ok || process != os.Getpid() && !errors.Is(unix.Kill(process, 0), unix.ESRCH) {
			continue
		}
		log.Info("removing a filter that a collector has left behind", "interface", c.iface, "process", process)
		if err := c.remove(process, false); err != nil {
			return err
		}
	}
	return nil
}

func (c *clsact) filters(parent uint32) ([]netlink.Filter, error) {
	filters, err := c.tc.FilterList(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Index: c.ifindex}}, parent)
	if err != nil {
		return nil, fmt.Errorf("list the filters: %w", err)
	}
	return filters, nil
}

const namePrefix = "flashtap-hush-"

// filterName is how a filter of ours is found again: it names the process that made it, and says whether the queueing
// discipline was made for it.
func filterName(process int, own bool) string {
	if own {
		return fmt.Sprintf("%s%d-qdisc", namePrefix, process)
	}
	return fmt.Sprintf("%s%d", namePrefix, process)
}

func parseFilterName(f netlink.Filter) (process int, own, ok bool) {
	bpf, ok := f.(*netlink.BpfFilter)
	if !ok {
		return 0, false, false
	}
	name, ok := strings.CutPrefix(bpf.Name, namePrefix)
	if !ok {
		return 0, false, false
	}
	name, own = strings.CutSuffix(name, "-qdisc")
	process, err := strconv.Atoi(name)
	return process, own, err == nil
}
