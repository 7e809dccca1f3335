// Package hush keeps a machine from answering the mirrored datagrams that it records.
//
// A mirror target that nobody listens on answers each datagram with an ICMP port-unreachable message: the suspect
// would learn of the capture, and the kernel would walk through IP, UDP and ICMP for every packet. So the datagrams
// are dropped right behind the packet sockets, which see them before (__netif_receive_skb_core in net/core/dev.c).
package hush

import (
	"errors"
	"fmt"
	"log/slog"
)

// Hush is in force until Close.
type Hush struct {
	how  string
	undo func() error
}

// target is what is to be kept quiet.
type target struct {
	ifindex int
	iface   string
	ports   []uint16
}

// way is one of the ways to keep a machine quiet.
type way struct {
	name  string
	start func(target, *slog.Logger) (undo func() error, err error)
}

// ways are ordered by what a packet costs.
var ways = []way{
	{"tcx", startTCX},
	{"clsact", startClsact},
	{"sockets that drop everything", startSockets},
}

// Start drops what arrives on an interface for UDP ports of this host, in the cheapest way that is allowed here:
//
//   - by a program on the interface's tcx hook (Linux 6.6), which ends with the process at the latest;
//   - by the same program as the first filter of a clsact or ingress queueing discipline. It outlives a process that
//     is killed: the next Start on the interface removes it;
//   - by sockets on the ports that accept nothing.
//
// The first two need CAP_BPF (CAP_SYS_ADMIN before Linux 5.8) and CAP_NET_ADMIN. They drop what a packet socket with
// the filter of a ring takes, and nothing else: whole datagrams and first fragments that are addressed to this host,
// behind up to two VLAN tags, IPv4 options and one IPv6 extension header. The sockets drop whatever reaches the ports.
//
// It works in the network namespace of the calling thread.
func Start(ifindex int, iface string, ports []uint16, log *slog.Logger) (*Hush, error) {
	return start(target{ifindex, iface, ports}, log, ways)
}

func start(t target, log *slog.Logger, ways []way) (*Hush, error) {
	var errs []error
	for _, w := range ways {
		undo, err := w.start(t, log)
		if err == nil {
			return &Hush{how: w.name, undo: undo}, nil
		}
		log.Info("a way to drop mirrored datagrams is refused here", "way", w.name, "interface", t.iface, "err", err)
		errs = append(errs, fmt.Errorf("%s: %w", w.name, err))
	}
	return nil, fmt.Errorf("drop what arrives for UDP ports %v of interface %s: %w", t.ports, t.iface, errors.Join(errs...))
}

// How says in words by what the datagrams are dropped.
func (h *Hush) How() string { return h.how }

// Close lets datagrams through again. It needs no capability for that; but without CAP_NET_ADMIN a filter of clsact
// can't be removed: it is told to do nothing, and the error says how to remove it.
func (h *Hush) Close() error {
	if h.undo == nil {
		return nil
	}
	err := h.undo()
	h.undo = nil
	if err != nil {
		return fmt.Errorf("stop dropping mirrored datagrams by %s: %w", h.how, err)
	}
	return nil
}
