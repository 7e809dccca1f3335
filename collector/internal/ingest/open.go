package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"

	"flashtap/collector/internal/hush"
	"flashtap/collector/internal/link"
	"flashtap/collector/vxlan"
	"flashtap/events"
)

// Opening says what to receive on, and how.
type Opening struct {
	Receiver  string     // one of the events.Receiver... values; empty: auto
	Interface string     // empty: the one that has the first of the endpoints
	Endpoints []Endpoint // addresses for sockets; none: all addresses
	Fixed     bool       // the endpoints were named by a person: sockets, unless a ring is asked for
	RingBytes int        // 0: by the machine's memory
	Merging   bool       // go on although the kernel merges frames here; it is remarked
	Log       *slog.Logger
}

// CheckReceiver says whether there is such a receiver.
func CheckReceiver(name string) error {
	if !slices.Contains([]string{events.ReceiverAuto, events.ReceiverRing, events.ReceiverSocket}, name) {
		return fmt.Errorf("%q is none: want %s, %s or %s", name, events.ReceiverAuto, events.ReceiverRing, events.ReceiverSocket)
	}
	return nil
}

// Opened is what receives, and what has to be undone when it has ended.
type Opened struct {
	Receivers []Receiver
	How       string   // in words
	Remarks   []string // for whoever reads the evidence
	Faults    []string // the same, of what makes it doubtful

	iface string
	watch *link.Watcher  // nil: nothing is known about the interface
	undo  []func() error // in the order of doing
}

// Dropped is what was lost before any receiver could hand it over.
type Dropped struct {
	Ring, Socket uint64            // by the kernel, because nobody took it in time
	Host         uint64            // by the interface or the kernel, before that
	Counters     map[string]uint64 // every counter of such losses that has risen, by its name
}

// Dropped asks all counters.
func (o *Opened) Dropped() (Dropped, error) {
	var (
		d    Dropped
		errs []error
	)
	for _, r := range o.Receivers {
		n, err := r.Dropped()
		errs = append(errs, err)
		if _, ring := r.(*Ring); ring {
			d.Ring += n
		} else {
			d.Socket += n
		}
	}
	if o.watch == nil {
		return d, errors.Join(errs...)
	}
	losses, err := o.watch.Losses()
	errs = append(errs, err)
	d.Host = losses.Dropped
	for _, c := range losses.Counters {
		if d.Counters == nil {
			d.Counters = map[string]uint64{}
		}
		d.Counters[c.Name] = c.Count
	}
	return d, errors.Join(errs...)
}

const forgery = "the kernel may merge frames into ones that never existed: "

// Forged says in words what makes the kernel merge mirrored frames into ones that never existed by now. Nothing can be
// done about it any more but to say so.
func (o *Opened) Forged() ([]string, error) {
	if o.watch == nil {
		return nil, nil
	}
	risks, err := o.watch.Risks()
	for i := range risks {
		risks[i] = forgery + risks[i]
	}
	return risks, err
}

// Close ends receiving and undoes what Open did.
func (o *Opened) Close() error {
	var errs []error
	for _, r := range o.Receivers {
		errs = append(errs, r.Close())
	}
	if o.watch != nil {
		errs = append(errs, o.watch.Close())
	}
	for _, undo := range slices.Backward(o.undo) {
		errs = append(errs, undo())
	}
	o.undo = nil
	return errors.Join(errs...)
}

func (o *Opened) remark(format string, args ...any) {
	o.Remarks = append(o.Remarks, fmt.Sprintf(format, args...))
}

// Open begins to receive in the best way that is allowed here, or in the one that is asked for.
func Open(ctx context.Context, cfg Opening) (opened *Opened, err error) {
	opened = &Opened{iface: cfg.Interface}
	defer func() {
		if err != nil {
			err = errors.Join(err, opened.Close())
		}
	}()
	if cfg.Interface == "" {
		if opened.iface, err = interfaceOf(cfg.Endpoints); err != nil {
			opened.remark("no interface is watched, and no ring is there: %v", err)
		}
	}
	if err := opened.inspect(cfg.Merging); err != nil {
		return opened, err
	}
	var why string
	switch {
	case cfg.Receiver == events.ReceiverSocket:
		why = "as asked"
	case cfg.Receiver == events.ReceiverRing:
		return opened, opened.ring(cfg, "as asked")
	case opened.iface == "":
		why = "a ring needs an interface"
	case cfg.Fixed:
		why = "addresses were named"
	case loopback(opened.iface):
		why = "a loopback interface carries what others send to each other"
	default:
		err := opened.ring(cfg, "it is allowed here")
		if err == nil {
			return opened, nil
		}
		why = "a ring was refused: " + err.Error()
	}
	return opened, opened.sockets(ctx, cfg, why)
}

// inspect looks at what may spoil the evidence, and stops it where that is allowed.
func (o *Opened) inspect(merging bool) error {
	if o.iface == "" {
		return nil
	}
	calm, err := link.Calm(o.iface)
	if err != nil {
		return err
	}
	o.undo = append(o.undo, calm.Restore)
	o.Remarks = append(o.Remarks, calm.Remarks...)
	if len(calm.Risks) > 0 && !merging {
		return fmt.Errorf("the kernel would merge frames into ones that never existed: %s; run as root, so that it can be turned off, remove what is named, or accept it with --allow-merging", strings.Join(calm.Risks, "; "))
	}
	for _, risk := range calm.Risks {
		o.Faults = append(o.Faults, forgery+risk)
	}
	if o.watch, err = link.Watch(o.iface); err != nil {
		o.remark("what the host loses is not known: %v", err)
		return nil
	}
	return nil
}

// mirrorPorts are those that mirrored datagrams come to.
var mirrorPorts = []uint16{vxlan.Port, vxlan.GenevePort}

// ring receives on packet rings.
func (o *Opened) ring(cfg Opening, why string) error {
	iface, err := net.InterfaceByName(o.iface)
	if err != nil {
		return fmt.Errorf("interface %s: %w", o.iface, err)
	}
	queues, err := link.RxQueues(o.iface)
	if err != nil {
		queues = 1
		o.remark("the number of receive queues is not known: %v", err)
	}
	// The datagrams leave the stack before the first one is taken, so that none is ever answered.
	quiet, err := hush.Start(iface.Index, o.iface, mirrorPorts, cfg.Log)
	if err != nil {
		return fmt.Errorf("keep the machine from answering mirrored datagrams: %w", err)
	}
	ring, err := OpenRing(RingConfig{Interface: o.iface, Bytes: cfg.RingBytes, Queues: RingQueues(queues)})
	if err != nil {
		return errors.Join(err, quiet.Close())
	}
	o.undo = append(o.undo, quiet.Close)
	o.Receivers = []Receiver{ring}
	o.How = fmt.Sprintf("ring (%s): %d of %d MiB on %s; datagrams leave the stack by %s",
		why, ring.Queues(), ring.Bytes()/ring.Queues()>>20, o.iface, quiet.How())
	return nil
}

// sockets receives on UDP sockets.
func (o *Opened) sockets(ctx context.Context, cfg Opening, why string) error {
	endpoints, device := cfg.Endpoints, ""
	if len(endpoints) == 0 {
		device = o.iface
		endpoints = []Endpoint{
			{AddrPort: netip.AddrPortFrom(netip.IPv4Unspecified(), vxlan.Port)},
			{AddrPort: netip.AddrPortFrom(netip.IPv6Unspecified(), vxlan.Port), Optional: true},
		}
	}
	receivers, remarks, err := ListenAll(ctx, endpoints, SocketConfig{Interface: device}, cfg.Log)
	if err != nil {
		return err
	}
	o.Receivers = receivers
	o.Remarks = append(o.Remarks, remarks...)
	o.How = fmt.Sprintf("socket (%s)", why)
	return nil
}

// interfaceOf finds the interface that has the first of the addresses.
func interfaceOf(endpoints []Endpoint) (string, error) {
	if len(endpoints) == 0 {
		return "", errors.New("neither an interface nor an address is named")
	}
	want := endpoints[0].Addr()
	interfaces, err := net.Interfaces()
	if err != nil {
		return "", err
	}
	for _, i := range interfaces {
		addrs, err := i.Addrs()
		if err != nil {
			return "", err
		}
		for _, a := range addrs {
			prefix, err := netip.ParsePrefix(a.String())
			if err == nil && (prefix.Addr() == want || i.Flags&net.FlagLoopback != 0 && prefix.Contains(want)) {
				return i.Name, nil
			}
		}
	}
	return "", fmt.Errorf("no interface has the address %s", want)
}

func loopback(name string) bool {
	i, err := net.InterfaceByName(name)
	return err == nil && i.Flags&net.FlagLoopback != 0
}
