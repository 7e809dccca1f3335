package ingest

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"flashtap/collector/vxlan"
)

// RingConfig says how a ring receives. Zero values mean the defaults.
type RingConfig struct {
	Interface string
	Bytes     int // of memory for each receive queue's ring; default: 1/32 of the machine's memory, 8 to 64 MiB
	Queues    int // rings, one for each CPU that receives; default: the interface's receive queues, 1 with up to 2 CPUs
}

const (
	// ringBlock is the unit in which the kernel hands packets over. Waking up costs more than any number of packets, so
	// it is large.
	ringBlock = 1 << 20

	minRing = 8 << 20
	maxRing = 64 << 20 // 50 ms at 10 Gbit/s

	// retire is after how many milliseconds the kernel hands over a block that is not full.
	retire      = 20
	retireMany  = 8 // with several queues, whose packets wait for each other
	mergeWindow = 3 * retireMany * time.Millisecond

	// stopPatience is how long the last blocks may take. The kernel hands them over after retire.
	stopPatience = 5 * time.Second

	batchSize = 256
)

// Ring receives from packet rings that the kernel fills (AF_PACKET, TPACKET_V3): whole outer packets, with the
// kernel's nanosecond timestamps, without a system call or a copy for each. It needs CAP_NET_RAW.
//
// Each receive queue has a ring of its own. Packets of one queue stay in the order in which the kernel saw them;
// those of different queues are merged by their timestamps, as far as they arrived within mergeWindow.
type Ring struct {
	queues   []*queue
	batch    []vxlan.Datagram
	rest     rest
	ring     int // bytes of all rings
	stopping atomic.Bool
	stopped  time.Time

	mu     sync.Mutex // statistics
	closed bool
}

// queue is one packet ring: blocks that the kernel fills in turn.
type queue struct {
	fd     int
	memory []byte
	blocks int

	next     int                // the block that the kernel hands over next
	held     *unix.TpacketHdrV1 // the block that packets are taken from; nil: none
	packet   *unix.Tpacket3Hdr  // its next packet
	left     uint32             // packets of it that are not taken
	taken    uint64
	accepted uint64 // packets that the kernel put into the ring, as far as it was asked
	dropped  uint64
}

// OpenRing begins to receive what arrives on an interface for the ports of mirrored traffic.
func OpenRing(cfg RingConfig) (*Ring, error) {
	iface, err := net.InterfaceByName(cfg.Interface)
	if err != nil {
		return nil, fmt.Errorf("open a packet ring on interface %s: %w", cfg.Interface, err)
	}
	if cfg.Bytes == 0 {
		cfg.Bytes = ringBytes()
	}
	cfg.Queues = max(cfg.Queues, 1)
	r := &Ring{batch: make([]vxlan.Datagram, batchSize)}
	for range cfg.Queues {
		q, err := openQueue(max(cfg.Bytes/ringBlock, 2), cfg.Queues)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("open a packet ring on interface %s: %w", cfg.Interface, err), r.Close())
		}
		r.queues = append(r.queues, q)
		r.ring += len(q.memory)
	}
	fds := make([]int, 0, len(r.queues))
	for _, q := range r.queues {
		fds = append(fds, q.fd)
	}
	// Of several rings the one that fills fastest counts, which the sum does not show: as if each had all.
	if r.rest, err = newRest(fds, r.ring/len(r.queues)); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	if err := r.begin(iface.Index); err != nil {
		return nil, errors.Join(fmt.Errorf("receive on interface %s: %w", cfg.Interface, err), r.Close())
	}
	return r, nil
}

// ringBytes is how much memory a ring gets when nobody says.
func ringBytes() int {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return maxRing
	}
	memory := info.Totalram * uint64(info.Unit)
	return int(min(max(memory/32, minRing), maxRing))
}

// openQueue makes a ring that receives nothing yet.
func openQueue(blocks, queues int) (*queue, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	q := &queue{fd: fd, blocks: blocks}
	if err := q.prepare(queues); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return q, nil
}

func (q *queue) prepare(queues int) error {
	if err := unix.SetsockoptInt(q.fd, unix.SOL_PACKET, unix.PACKET_VERSION, unix.TPACKET_V3); err != nil {
		return os.NewSyscallError("setsockopt PACKET_VERSION", err)
	}
	// What this machine sends, like its uploads, is none of the ring's business.
	if err := unix.SetsockoptInt(q.fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
		return os.NewSyscallError("setsockopt PACKET_IGNORE_OUTGOING", err)
	}
	if err := q.filter([]unix.SockFilter{dropAll}); err != nil { // until all rings are there
		return err
	}
	timeout := uint32(retire)
	if queues > 1 {
		timeout = retireMany
	}
	// Frame size and number only have to fit the blocks; packets of TPACKET_V3 take what they need.
	const frame = 1 << 11
	for {
		request := unix.TpacketReq3{
			Block_size: ringBlock, Block_nr: uint32(q.blocks), Frame_size: frame, Frame_nr: uint32(q.blocks * (ringBlock / frame)),
			Retire_blk_tov: timeout,
		}
		err := unix.SetsockoptTpacketReq3(q.fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &request)
		if errors.Is(err, unix.ENOMEM) && q.blocks > minRing/ringBlock {
			q.blocks /= 2
			continue
		}
		if err != nil {
			return os.NewSyscallError("setsockopt PACKET_RX_RING", err)
		}
		break
	}
	memory, err := unix.Mmap(q.fd, 0, q.blocks*ringBlock, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return os.NewSyscallError("mmap", err)
	}
	q.memory = memory
	return nil
}

func (q *queue) filter(filter []unix.SockFilter) error {
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	return os.NewSyscallError("attach filter", unix.SetsockoptSockFprog(q.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program))
}

// begin lets packets in. Sockets that share the work are joined before, or each would get every packet.
func (r *Ring) begin(ifindex int) error {
	filter, err := tapFilter()
	if err != nil {
		return err
	}
	for _, q := range r.queues {
		if err := unix.Bind(q.fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: ifindex}); err != nil {
			return os.NewSyscallError("bind", err)
		}
		if len(r.queues) == 1 {
			break
		}
		// By CPU: a ring's lock is taken for every packet, so receive queues must not share one.
		group := os.Getpid()&0xffff | unix.PACKET_FANOUT_CPU<<16
		if err := unix.SetsockoptInt(q.fd, unix.SOL_PACKET, unix.PACKET_FANOUT, group); err != nil {
			return os.NewSyscallError("setsockopt PACKET_FANOUT", err)
		}
	}
	for _, q := range r.queues {
		if err := q.filter(filter); err != nil {
			return err
		}
	}
	return nil
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }

// Bytes is the memory of all rings.
func (r *Ring) Bytes() int { return r.ring }

// Queues is the number of rings.
func (r *Ring) Queues() int { return len(r.queues) }

// Receive implements Receiver.
func (r *Ring) Receive() ([]Datagram, error) {
	for {
		for _, q := range r.queues {
			if q.release() {
				r.rest.took(ringBlock)
			}
		}
		stopping := r.stopping.Load() // asked before the rings are looked at
		if n := r.take(); n > 0 {
			return r.batch[:n], nil
		}
		if stopping {
			if over, err := r.over(); over || err != nil {
				return nil, err
			}
		}
		if err := r.rest.wait(stopping); err != nil {
			return nil, fmt.Errorf("packet ring: %w", err)
		}
	}
}

// take fills the batch with what the rings hold, in the order of the timestamps.
func (r *Ring) take() int {
	if len(r.queues) == 1 {
		if q := r.queues[0]; q.load() {
			return q.take(r.batch, math.MaxInt64)
		}
		return 0
	}
	// What a ring that looks empty will hand over yet is not older than this.
	horizon := time.Now().Add(-mergeWindow).UnixNano()
	if r.stopping.Load() && time.Since(r.stopped) > mergeWindow {
		horizon = math.MaxInt64 // nothing will come any more
	}
	loaded := 0
	for _, q := range r.queues {
		if q.load() {
			loaded++
		}
	}
	if loaded == len(r.queues) {
		horizon = math.MaxInt64
	}
	n := 0
	for n < len(r.batch) {
		var first *queue
		until := horizon
		for _, q := range r.queues {
			switch {
			case q.left == 0 && q.held != nil:
				return n // its next packet may be the oldest; the block can't go before the batch is used
			case q.left == 0:
			case first == nil || q.at() < first.at():
				if first != nil {
					until = min(until, first.at())
				}
				first = q
			default:
				until = min(until, q.at())
			}
		}
		if first == nil || first.at() > until {
			return n
		}
		n += first.take(r.batch[n:], until)
	}
	return n
}

// load looks for a packet, and says whether there is one.
func (q *queue) load() bool {
	for q.left == 0 {
		if q.held != nil {
			return false // until release
		}
		header := q.header(q.next)
		if atomic.LoadUint32(&header.Block_status)&unix.TP_STATUS_USER == 0 {
			return false
		}
		q.held = header
		q.left = header.Num_pkts
		q.packet = (*unix.Tpacket3Hdr)(unsafe.Pointer(&q.memory[q.next*ringBlock+int(header.Offset_to_first_pkt)]))
		q.next = (q.next + 1) % q.blocks
		q.release() // one without packets
	}
	return true
}

// header is where kernel and collector tell each other whose a block is (struct tpacket_block_desc).
func (q *queue) header(block int) *unix.TpacketHdrV1 {
	desc := (*unix.TpacketBlockDesc)(unsafe.Pointer(&q.memory[block*ringBlock]))
	return (*unix.TpacketHdrV1)(unsafe.Pointer(&desc.Hdr[0]))
}

// release gives a block of which all packets are used back to the kernel, and says whether there was one.
func (q *queue) release() bool {
	if q.held == nil || q.left > 0 {
		return false
	}
	atomic.StoreUint32(&q.held.Block_status, unix.TP_STATUS_KERNEL)
	q.held, q.packet = nil, nil
	return true
}

// at is the timestamp of the next packet.
func (q *queue) at() int64 { return int64(q.packet.Sec)*1e9 + int64(q.packet.Nsec) }

// checked are the marks of packets whose checksum somebody has verified, or that have none yet since they were made
// on this very machine.
const checked = unix.TP_STATUS_CSUM_VALID | unix.TP_STATUS_CSUMNOTREADY

// take fills the batch with packets of the held block that are not younger than until, and says how many.
func (q *queue) take(batch []vxlan.Datagram, until int64) int {
	count := min(int(q.left), len(batch))
	packet := q.packet
	n := 0
	for ; n < count; n++ {
		d := &batch[n]
		d.At = int64(packet.Sec)*1e9 + int64(packet.Nsec)
		if d.At > until {
			break
		}
		frame := unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(packet), packet.Mac)), packet.Snaplen)
		d.Fault = vxlan.Outer(frame, d)
		switch {
		case packet.Snaplen < packet.Len:
			d.Fault = vxlan.Oversize
		case packet.Status&checked == 0 && d.Fault == vxlan.None && !vxlan.ChecksumOK(frame):
			d.Fault = vxlan.BadChecksum
		}
		packet = (*unix.Tpacket3Hdr)(unsafe.Add(unsafe.Pointer(packet), packet.Next_offset))
	}
	q.packet = packet
	q.left -= uint32(n)
	q.taken += uint64(n)
	return n
}

// over says whether all is taken that the kernel had put into the rings before Stop.
func (r *Ring) over() (bool, error) {
	if time.Since(r.stopped) < mergeWindow {
		return false, nil // the filter of Stop is not waited for by packets that are in the middle of it
	}
	if _, err := r.Dropped(); err != nil {
		return false, err
	}
	var taken, accepted uint64
	r.mu.Lock()
	for _, q := range r.queues {
		taken += q.taken
		accepted += q.accepted
	}
	r.mu.Unlock()
	if taken == accepted {
		return true, io.EOF
	}
	if time.Since(r.stopped) > stopPatience {
		return true, fmt.Errorf("packet ring: the kernel says that it held %d packets, but %d were found in it", accepted, taken)
	}
	return false, nil
}

// Stop implements Receiver.
func (r *Ring) Stop() error {
	if r.stopping.Load() {
		return nil
	}
	var errs []error
	for _, q := range r.queues {
		errs = append(errs, q.filter([]unix.SockFilter{dropAll}))
	}
	r.stopped = time.Now()
	r.stopping.Store(true)
	return errors.Join(append(errs, r.rest.wake())...)
}

// Dropped implements Receiver.
func (r *Ring) Dropped() (uint64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	dropped := uint64(0)
	for _, q := range r.queues {
		if !r.closed {
			stats, err := unix.GetsockoptTpacketStatsV3(q.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
			if err != nil {
				return dropped, os.NewSyscallError("getsockopt PACKET_STATISTICS", err)
			}
			// Asking sets the kernel's counters to zero; its packets include those that it dropped (packet(7)).
			q.accepted += uint64(stats.Packets) - uint64(stats.Drops)
			q.dropped += uint64(stats.Drops)
		}
		dropped += q.dropped
	}
	return dropped, nil
}

// Close implements Receiver.
func (r *Ring) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	for _, q := range r.queues {
		if !r.closed {
			errs = append(errs, unix.Munmap(q.memory), unix.Close(q.fd))
		}
	}
	if !r.closed {
		errs = append(errs, r.rest.close())
	}
	r.closed = true
	return errors.Join(errs...)
}

// RingQueues is how many rings suit a machine: one for each receive queue of its interface, as long as there are CPUs
// that are free to do other things.
func RingQueues(receiveQueues int) int {
	if runtime.NumCPU() <= 2 {
		return 1
	}
	return max(1, min(receiveQueues, runtime.NumCPU()-1, 8))
}
