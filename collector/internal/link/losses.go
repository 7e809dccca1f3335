package link

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Losses is what was lost since Watch, before a socket or a ring could see it.
type Losses struct {
	// Dropped is the number of packets, each counted once, as far as the driver keeps to the kernel's definitions
	// (Documentation/networking/statistics.rst).
	Dropped uint64

	// Counters are those that have risen, by name: those that Dropped is made of, and others that are a part of these,
	// or that don't count packets, or not only lost ones.
	Counters []Counter
}

// Counter is a counter of the interface, of its driver or of the machine.
type Counter struct {
	Name  string
	Count uint64 // since Watch
	Note  string // what it counts, where the name does not say it
}

func (c Counter) String() string {
	if c.Note == "" {
		return fmt.Sprintf("%s rose by %d", c.Name, c.Count)
	}
	return fmt.Sprintf("%s rose by %d (%s)", c.Name, c.Count, c.Note)
}

// The kernel's names of the counters of all interfaces (linux/if_link.h, struct rtnl_link_stats64).
const (
	rxDropped = "rx_dropped"
	rxMissed  = "rx_missed_errors"
	rxOver    = "rx_over_errors"
	rxFIFO    = "rx_fifo_errors"
	rxErrors  = "rx_errors"
	rxCRC     = "rx_crc_errors"
	rxFrame   = "rx_frame_errors"
	rxLength  = "rx_length_errors"
)

// softnet are the drops of the queues between drivers and the network stack. Each of them counts as rx_dropped of its
// interface too (enqueue_to_backlog in net/core/dev.c).
const softnet = "softnet dropped"

// conntrack is a counter of EC2's driver: packets that EC2 dropped since it could not track their connection.
const conntrack = "conntrack_allowance_exceeded"

// driverNotes are the counters of drivers that tell of losses, and what is to be said of them. They are those of EC2
// (amzn/amzn-drivers, kernel/linux/ena/ena_ethtool.c; "Monitor network performance for ENA settings" in the EC2 User
// Guide). Others of it are no losses: packets with a wrong checksum (bad_csum, csum_bad) come through.
var driverNotes = map[string]string{
	conntrack:                      "dropped by EC2, of connections that it could not track",
	"bw_in_allowance_exceeded":     "queued or dropped by EC2, for the instance's bandwidth",
	"pps_allowance_exceeded":       "queued or dropped by EC2, in both directions, for the instance's packets per second",
	"linklocal_allowance_exceeded": "dropped by EC2, to and from DNS, metadata and time services",
	"queue_rx_skb_alloc_fail":      "the driver had no memory for a packet",
	"queue_rx_page_alloc_fail":     "the driver had no memory for buffers",
	"queue_rx_refil_partial":       "times that the driver could not refill its ring",
	"queue_rx_empty_rx_ring":       "times that the driver found its ring empty",
	"queue_rx_dma_mapping_err":     "the driver could not map a buffer",
	"queue_rx_bad_desc_num":        "the device announced an impossible packet",
	"queue_rx_bad_req_id":          "the device announced an impossible packet",
	"queue_rx_xdp_drop":            "dropped by an XDP program",
	"queue_rx_xdp_aborted":         "dropped by an XDP program that failed",
	"rx_desc_malformed":            "the device announced an impossible packet",
	"total_resets":                 "times that the device was reset; what came meanwhile is lost and not counted",
	"reset_fail":                   "times that the device could not be reset",
	"wd_expired":                   "times that the device did not answer and was reset",
	"interface_down":               "times that the interface was set down",
}

// note says what a counter counts.
func note(name string) string {
	switch name {
	case rxDropped:
		return "dropped by the interface, or of a protocol that nobody handles here"
	case softnet:
		return "of the whole machine; those of this interface are a part of " + rxDropped
	case rxErrors, rxCRC, rxFrame, rxLength, rxOver, rxFIFO, rxMissed:
		return ""
	}
	return driverNotes[name]
}

// Watcher counts the losses of an interface. All that it needs is opened by Watch, in the network namespace of that
// moment, so that it goes on without privileges and without access to files.
type Watcher struct {
	iface   string
	index   int
	finder  *finder
	tool    *ethtool.Ethtool
	softnet *os.File

	last  map[string]uint64 // the counters as they were read
	risen map[string]uint64 // by how much they have risen
}

// Watch begins to count the losses of an interface.
func Watch(iface string) (*Watcher, error) {
	w, err := watch(iface)
	if err != nil {
		return nil, fmt.Errorf("watch interface %s: %w", iface, err)
	}
	return w, nil
}

func watch(iface string) (w *Watcher, err error) {
	w = &Watcher{iface: iface, risen: map[string]uint64{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.Close())
		}
	}()
	if w.finder, err = newFinder(); err != nil {
		return w, err
	}
	l, err := w.finder.links.LinkByName(iface)
	if err != nil {
		return w, err
	}
	w.index = l.Attrs().Index
	if w.tool, err = ethtool.NewEthtool(); err != nil {
		return w, err
	}
	if w.softnet, err = os.Open("/proc/net/softnet_stat"); err != nil {
		return w, err
	}
	w.last, err = w.read()
	return w, err
}

// Close ends the watching.
func (w *Watcher) Close() error {
	if w.finder != nil {
		w.finder.close()
		w.finder = nil
	}
	if w.tool != nil {
		w.tool.Close()
		w.tool = nil
	}
	if w.softnet != nil {
		w.softnet.Close() //nolint:errcheck // nothing was written
		w.softnet = nil
	}
	return nil
}

// Tunnels says in words what takes mirrored datagrams apart within the kernel by now, whether or not GRO is on.
func (w *Watcher) Tunnels() ([]string, error) {
	found, err := w.finder.find()
	if err != nil {
		return found, fmt.Errorf("look for tunnels: %w", err)
	}
	return found, nil
}

// Risks says in words what merges mirrored packets into ones that never existed by now, as Calm does: a tunnel that
// came up, with GRO on, or what somebody has turned on again.
func (w *Watcher) Risks() ([]string, error) {
	found, err := w.risks()
	if err != nil {
		return found, fmt.Errorf("look for what merges packets on interface %s: %w", w.iface, err)
	}
	return found, nil
}

func (w *Watcher) risks() ([]string, error) {
	tunnels, err := w.finder.find()
	if err != nil {
		return nil, err
	}
	all, err := w.finder.links.LinkList()
	if err != nil {
		return nil, err
	}
	var found []string
	for _, l := range below(w.iface, all) {
		if l.Attrs().Flags&net.FlagLoopback != 0 {
			continue
		}
		on, err := w.tool.Features(l.Attrs().Name)
		if err != nil {
			return found, err
		}
		for _, risk := range risks(on, tunnels) {
			found = append(found, fmt.Sprintf("interface %s: %s", l.Attrs().Name, risk))
		}
	}
	return found, nil
}

// Losses reads the counters. When a counter is reset, what it had counted since it was last read is not known; so it
// is to be called now and then.
func (w *Watcher) Losses() (Losses, error) {
	now, err := w.read()
	if err != nil {
		return Losses{}, fmt.Errorf("count the losses of interface %s: %w", w.iface, err)
	}
	for name, count := range now {
		if before, known := w.last[name]; known {
			w.risen[name] += rise(name, before, count)
		}
		w.last[name] = count
	}
	return losses(w.risen), nil
}

// rise is by how much a counter has risen. One that has fallen was reset, and has risen from zero since.
func rise(name string, before, now uint64) uint64 {
	switch {
	case name == softnet:
		// The counter of each CPU has 32 bits. When a CPU goes, so does its share.
		if d := uint32(now) - uint32(before); d <= math.MaxInt32 {
			return uint64(d)
		}
		return 0
	case now >= before:
		return now - before
	default:
		return now
	}
}

// losses makes up the sum.
//
// By the kernel's definitions, rx_errors are the bad packets and include those of wrong length, checksum or alignment;
// rx_dropped and rx_missed_errors are apart from these. Drivers agree less about overflows (rx_over_errors,
// rx_fifo_errors): that of EC2 counts them in rx_errors as well as in what the device dropped, which is rx_dropped.
// So an overflow counts as it were one of rx_dropped, which is at least as many.
func losses(risen map[string]uint64) Losses {
	overflow := max(risen[rxOver], risen[rxFIFO])
	bad := max(risen[rxErrors]-min(risen[rxErrors], overflow), risen[rxCRC]+risen[rxFrame]+risen[rxLength])
	l := Losses{Dropped: max(risen[rxDropped], overflow) + risen[rxMissed] + bad + risen[conntrack]}
	for name, count := range risen {
		if count > 0 {
			l.Counters = append(l.Counters, Counter{Name: name, Count: count, Note: note(name)})
		}
	}
	slices.SortFunc(l.Counters, func(a, b Counter) int { return strings.Compare(a.Name, b.Name) })
	return l
}

// read reads all counters.
func (w *Watcher) read() (map[string]uint64, error) {
	l, err := w.finder.links.LinkByIndex(w.index)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil, fmt.Errorf("it is gone: %w", err)
	}
	if err != nil {
		return nil, err
	}
	s := l.Attrs().Statistics
	if s == nil {
		return nil, errors.New("the kernel has no statistics of it")
	}
	now := map[string]uint64{
		rxDropped: s.RxDropped, rxMissed: s.RxMissedErrors, rxOver: s.RxOverErrors, rxFIFO: s.RxFifoErrors,
		rxErrors: s.RxErrors, rxCRC: s.RxCrcErrors, rxFrame: s.RxFrameErrors, rxLength: s.RxLengthErrors,
	}
	driver, err := w.tool.Stats(l.Attrs().Name)
	if err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return nil, fmt.Errorf("ask the driver for its counters: %w", err)
	}
	for name, count := range driver {
		if name, ok := driverCounter(name); ok {
			now[name] += count
		}
	}
	now[softnet], err = softnetDrops(io.NewSectionReader(w.softnet, 0, 1<<62))
	return now, err
}

// perQueue is how drivers name the counters of a receive queue.
var perQueue = regexp.MustCompile(`^queue_\d+_rx_`)

// driverCounter says whether a counter of the driver is one of losses. Those of its queues become one.
func driverCounter(name string) (string, bool) {
	name = perQueue.ReplaceAllString(name, "queue_rx_")
	_, ok := driverNotes[name]
	return name, ok
}

// softnetDrops sums what the CPUs dropped between the drivers and the network stack: the second column
// (softnet_seq_show in net/core/net-procfs.c).
func softnetDrops(table io.Reader) (uint64, error) {
	sum := uint64(0)
	lines := bufio.NewScanner(table)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 {
			return 0, fmt.Errorf("read softnet_stat: %q", lines.Text())
		}
		n, err := strconv.ParseUint(fields[1], 16, 32)
		if err != nil {
			return 0, fmt.Errorf("read softnet_stat: %w", err)
		}
		sum += n
	}
	return sum, lines.Err()
}
