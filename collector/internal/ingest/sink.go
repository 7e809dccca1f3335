package ingest

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"flashtap/collector/segment"
	"flashtap/collector/vxlan"
	"flashtap/events"
)

// recordOverhead is what a frame needs in a segment beyond its own bytes (draft-ietf-opsawg-pcap, section 5).
const recordOverhead = 16

// SinkConfig says what a sink admits, and where it goes.
type SinkConfig struct {
	VNI      uint32
	Sources  []netip.Addr // outer source addresses that are the suspect's
	MaxBytes int64        // bytes of frames after which the capture is over; 0: no such limit
	Before   events.Tally // what processes before this one have counted

	Writer    *segment.Writer // the sink is the only one to call it, except for Run and Unsealed
	Room      func() int64    // bytes that the spool may still take
	RoomAgain int64           // once it was full, how many have to be free before frames are written again

	// Remark is told what a reader of the evidence must know. It must not call the sink.
	Remark func(text string)
}

// Sink admits the frames of one session: a datagram counts only if it comes from the suspect interface and carries the
// capture's VNI. Everything else is counted by its cause and never enters the evidence.
//
// Its methods may be called from any goroutine.
type Sink struct {
	cfg SinkConfig

	mu        sync.Mutex
	received  uint64
	rejected  events.Rejected
	unwritten uint64
	accepted  uint64 // bytes of frames given to the writer
	over      bool
	exhausted chan struct{}
	gap       *gap
}

// gap is a time during which genuine frames are not written, because the spool is full.
type gap struct {
	began  time.Time
	frames uint64
}

// NewSink makes a sink.
func NewSink(cfg SinkConfig) *Sink {
	s := &Sink{cfg: cfg, accepted: cfg.Before.WrittenBytes, exhausted: make(chan struct{})}
	s.checkLimit()
	return s
}

// Exhausted is closed when MaxBytes is reached. The frame that reaches it is the last; datagrams after it are not part
// of the capture and are not counted.
func (s *Sink) Exhausted() <-chan struct{} { return s.exhausted }

// Take decides about every datagram of a batch. It can't fail: what can't be kept is counted.
func (s *Sink) Take(batch []Datagram) {
	s.mu.Lock()
	defer s.mu.Unlock()
	room := s.room()
	for i := range batch {
		if s.over {
			return
		}
		d := &batch[i]
		s.received++
		if !slices.Contains(s.cfg.Sources, d.Source) {
			s.rejected.ForeignSource++
			continue
		}
		if d.Oversize {
			s.rejected.Oversize++
			continue
		}
		frame, vni, err := vxlan.Decap(d.Payload)
		switch {
		case err != nil:
			s.rejected.Malformed++
		case vni != s.cfg.VNI:
			s.rejected.ForeignVNI++
		default:
			room -= recordOverhead + int64(len(frame))
			s.keep(d.At, frame, room)
		}
	}
}

// keep writes a genuine frame, or counts it as unwritten when that would leave less than no room.
func (s *Sink) keep(at int64, frame []byte, room int64) {
	if s.gap == nil && room < 0 {
		s.gap = &gap{began: time.Now()}
		s.remark("spool full: genuine frames are not written, until the store has confirmed more of what waits on disk")
		s.cfg.Writer.Rotate() // what is there may go, and make room
	}
	if s.gap != nil {
		s.gap.frames++
		s.unwritten++
		return
	}
	if s.cfg.Writer.Write(at, frame, vxlan.OrigLen(frame)) {
		s.accepted += uint64(len(frame))
		s.checkLimit()
	}
}

// room is how many bytes may still be written, and ends a gap when there are enough.
func (s *Sink) room() int64 {
	room := s.cfg.Room() - s.cfg.Writer.Unsealed()
	if s.gap != nil && room >= s.cfg.RoomAgain {
		s.endGap("spool has room again")
	}
	return room
}

func (s *Sink) endGap(because string) {
	s.remark(fmt.Sprintf("%s: %d genuine frames were not written between %s and %s", because, s.gap.frames,
		s.gap.began.UTC().Format(time.RFC3339Nano), time.Now().UTC().Format(time.RFC3339Nano)))
	s.gap = nil
}

func (s *Sink) checkLimit() {
	if !s.over && s.cfg.MaxBytes > 0 && s.accepted >= uint64(s.cfg.MaxBytes) {
		s.over = true
		close(s.exhausted)
	}
}

// Tend does what time asks for: segments close by age, and a gap ends also when nothing arrives.
func (s *Sink) Tend(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.room()
	s.cfg.Writer.Tend(now)
}

// Tally brings all that was accepted into files and counts what became of every datagram. It balances.
func (s *Sink) Tally() events.Tally {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cfg.Writer.Flush()
	c, t := s.cfg.Writer.Counts(), s.cfg.Before
	t.Received += s.received
	t.Written += c.Written
	t.WrittenBytes += c.WrittenBytes
	t.Truncated += c.Truncated
	t.Unwritten += s.unwritten + c.Lost
	t.Rejected.ForeignSource += s.rejected.ForeignSource
	t.Rejected.ForeignVNI += s.rejected.ForeignVNI
	t.Rejected.Malformed += s.rejected.Malformed
	t.Rejected.Oversize += s.rejected.Oversize
	return t
}

// Close closes the last segment. Nothing may be taken afterwards.
func (s *Sink) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	if s.gap != nil {
		s.endGap("capturing ended while the spool was full")
	}
	s.cfg.Writer.Close()
}

func (s *Sink) remark(text string) {
	if s.cfg.Remark != nil {
		s.cfg.Remark(text)
	}
}
