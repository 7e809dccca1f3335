package ingest

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
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
	AnyVNI   bool         // admit every VNI
	Sources  []netip.Addr // outer source addresses that are the suspect's; none: admit every source
	MaxBytes int64        // bytes of frames after which the capture is over; 0: no such limit
	Before   events.Tally // what processes before this one have counted

	Writer    *segment.Writer // the sink is the only one to hand it frames
	Room      func() int64    // bytes that may still be written
	RoomAgain int64           // once it was full, how many have to be free before frames are written again
	Place     string          // what may be full, in words; default: spool

	// Remark is told what a reader of the evidence must know. It must not call the sink.
	Remark func(text string)
}

// Sink admits the frames of one session: a datagram counts only if it comes from the suspect interface and carries the
// capture's VNI. Everything else is counted by its cause and never enters the evidence.
//
// Its methods may be called from any goroutine.
type Sink struct {
	cfg SinkConfig

	sources [][16]byte // as datagrams carry them

	mu        sync.Mutex
	received  uint64
	rejected  events.Rejected
	unwritten uint64
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
	cfg.Place = cmp.Or(cfg.Place, "spool")
	s := &Sink{cfg: cfg, exhausted: make(chan struct{})}
	for _, addr := range cfg.Sources {
		s.sources = append(s.sources, addr.As16())
	}
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
	if s.over {
		return
	}
	left := s.left()
	room := s.room()
	for i := range batch {
		d := &batch[i]
		if d.Fault != vxlan.None {
			s.reject(d.Fault)
			continue
		}
		if !s.genuine(d) {
			s.rejected.ForeignSource++
			continue
		}
		frame, vni, err := vxlan.Decap(d.Payload)
		if err != nil {
			s.rejected.Malformed++
			continue
		}
		if vni != s.cfg.VNI && !s.cfg.AnyVNI {
			s.rejected.ForeignVNI++
			continue
		}
		if room -= recordOverhead + int64(len(frame)); room < 0 || s.gap != nil {
			s.miss()
			continue
		}
		s.cfg.Writer.Write(d.At, frame, vxlan.OrigLen(frame))
		if left -= int64(len(frame)); left <= 0 {
			s.received += uint64(i + 1)
			s.end()
			return
		}
	}
	s.received += uint64(len(batch))
}

// genuine says whether a datagram comes from the suspect.
func (s *Sink) genuine(d *Datagram) bool {
	for i := range s.sources {
		if s.sources[i] == d.Source {
			return true
		}
	}
	return len(s.sources) == 0
}

// reject counts a datagram that the receiver has found to be no evidence.
func (s *Sink) reject(fault vxlan.Fault) {
	switch fault {
	case vxlan.Oversize:
		s.rejected.Oversize++
	case vxlan.Fragment:
		s.rejected.Fragment++
	case vxlan.BadChecksum:
		s.rejected.BadChecksum++
	default:
		s.rejected.Malformed++
	}
}

// miss counts a genuine frame as unwritten, since it would leave less than no room.
func (s *Sink) miss() {
	if s.gap == nil {
		s.gap = &gap{began: time.Now()}
		s.remark(s.cfg.Place + " full: genuine frames are not written until there is room again")
		s.cfg.Writer.Rotate() // what is there may go, and make room
	}
	s.gap.frames++
	s.unwritten++
}

// room is how many bytes may still be written, and ends a gap when there are enough.
func (s *Sink) room() int64 {
	room := s.cfg.Room() - s.cfg.Writer.Unsealed()
	if s.gap != nil && room >= s.cfg.RoomAgain {
		s.endGap(s.cfg.Place + " has room again")
	}
	return room
}

func (s *Sink) endGap(because string) {
	s.remark(fmt.Sprintf("%s: %d genuine frames were not written between %s and %s", because, s.gap.frames,
		s.gap.began.UTC().Format(time.RFC3339Nano), time.Now().UTC().Format(time.RFC3339Nano)))
	s.gap = nil
}

// left is how many bytes of frames are missing to MaxBytes. What the disk has refused does not count.
func (s *Sink) left() int64 {
	if s.cfg.MaxBytes == 0 {
		return math.MaxInt64
	}
	_, accepted := s.cfg.Writer.Accepted()
	return s.cfg.MaxBytes - int64(s.cfg.Before.WrittenBytes+accepted-s.cfg.Writer.Counts().LostBytes)
}

func (s *Sink) checkLimit() {
	if s.left() <= 0 {
		s.end()
	}
}

func (s *Sink) end() {
	s.over = true
	close(s.exhausted)
}

// Tend does what time asks for: segments close by age, and a gap ends also when nothing arrives.
func (s *Sink) Tend(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	s.room()
	s.cfg.Writer.Tend(now)
}

// Tally says what has become of every datagram. As long as the writer runs, frames on their way to the disk have no
// fate yet and are in no count, so that it balances at any time.
func (s *Sink) Tally() events.Tally {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.over {
		s.cfg.Writer.Flush()
	}
	ended := s.cfg.Writer.Ended() // asked before the counts
	c := s.cfg.Writer.Counts()
	t := events.Tally{
		Received: s.received, Written: c.Written, WrittenBytes: c.WrittenBytes, Truncated: c.Truncated,
		Unwritten: s.unwritten + c.Lost, Rejected: s.rejected,
	}
	if accepted, _ := s.cfg.Writer.Accepted(); !ended {
		t.Received -= accepted - c.Written - c.Lost
	}
	return s.cfg.Before.Add(t)
}

// Close closes the last segment. Nothing may be taken afterwards.
func (s *Sink) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	if s.gap != nil {
		s.endGap("capturing ended while the " + s.cfg.Place + " was full")
	}
	s.cfg.Writer.Close()
}

func (s *Sink) remark(text string) {
	if s.cfg.Remark != nil {
		s.cfg.Remark(text)
	}
}
