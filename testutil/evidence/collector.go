package evidence

import (
	"encoding/binary"
	"fmt"
	"time"

	"flashtap/events"
	"flashtap/testutil/packets"
)

// series gives frames of recordings, over and over.
type series struct {
	frames []packets.Frame
	next   int
}

func newSeries(recordings []string) (*series, error) {
	s := &series{}
	for _, name := range recordings {
		frames, err := packets.Load(name)
		if err != nil {
			return nil, err
		}
		for _, f := range frames {
			if len(f.Data) >= 14 {
				s.frames = append(s.frames, f)
			}
		}
	}
	if len(s.frames) == 0 {
		return nil, fmt.Errorf("recordings %v have no frames", recordings)
	}
	return s, nil
}

// pcap is one segment's file and what a record says of it.
type pcap struct {
	body []byte
	events.Segment
	frameBytes uint64
	last       int64
}

// header opens every segment (section 3).
func header() []byte {
	h := binary.LittleEndian.AppendUint32(nil, 0xa1b23c4d)
	h = binary.LittleEndian.AppendUint16(h, 2)
	h = binary.LittleEndian.AppendUint16(h, 4)
	h = binary.LittleEndian.AppendUint64(h, 0)
	h = binary.LittleEndian.AppendUint32(h, 262144)
	return binary.LittleEndian.AppendUint32(h, 1)
}

func (p *pcap) add(at time.Time, frame []byte, wire int) {
	ns := at.UnixNano()
	if p.Packets == 0 {
		p.First = at.UTC()
	} else if back := p.last - ns; back > int64(events.OrderTolerance) && back > p.BackwardsNs {
		p.BackwardsNs = back
	}
	p.last, p.Last = ns, at.UTC()
	p.body = binary.LittleEndian.AppendUint32(p.body, uint32(ns/1e9))
	p.body = binary.LittleEndian.AppendUint32(p.body, uint32(ns%1e9))
	p.body = binary.LittleEndian.AppendUint32(p.body, uint32(len(frame)))
	p.body = binary.LittleEndian.AppendUint32(p.body, uint32(wire))
	p.body = append(p.body, frame...)
	p.Packets++
	p.frameBytes += uint64(len(frame))
	if len(frame) < wire {
		p.Truncated++
	}
}

// machine is a collector at work.
type machine struct {
	e       *Evidence
	user    string
	tally   events.Tally
	host    map[string]uint64
	chain   string
	records []events.Segment // all that joined the chain
	fresh   []events.Segment // those that no checkpoint has yet
	points  int
	last    string // digest of the last checkpoint
	at      time.Time
}

// collect has the n-th collector work and leave what it leaves.
func (e *Evidence) collect(n int, start time.Time) error {
	frames, err := newSeries(e.cfg.Recordings)
	if err != nil {
		return err
	}
	frames.next = 7 * n
	m := &machine{e: e, user: userID(n), host: map[string]uint64{}, at: start.Add(90*time.Second + time.Duration(n)*time.Hour)}
	started := m.at
	clock := &events.Clock{At: m.at, Source: "chrony 169.254.169.123", Synchronized: true, OffsetNs: -1234, MaxErrorNs: 250000, Leap: events.LeapNone, Stratum: 4}
	if err := m.checkpoint(events.CollectorCapturing, clock); err != nil {
		return err
	}
	first := n == 0
	killed := e.cfg.Killed && n == e.cfg.Collectors-1
	var held [][2]any // of the disk: name and bytes of segments that are still to be sent
	for seq := 1; seq <= e.cfg.Segments; seq++ {
		p := m.segment(frames, seq, first && e.cfg.Backwards && seq == 1)
		if err := m.seal(&p); err != nil {
			return err
		}
		held = append(held, [2]any{p.Key, p.body})
		if first && (seq == 1 || seq == 2) {
			m.tally.RingDropped += e.cfg.Lost / 2
		}
		if first && seq == 2 && e.cfg.HostLost > 0 {
			m.tally.HostDropped += e.cfg.HostLost
			m.host["rx_missed_errors"] = e.cfg.HostLost
		}
		if err := m.checkpoint(events.CollectorCapturing, nil); err != nil {
			return err
		}
		if first && e.cfg.Cut && seq == 2 {
			cut := p.cut()
			m.tally.Reduced += cut.Reduced
			m.tally.SealedBytes -= uint64(p.Bytes - cut.Bytes)
			if err := m.chainUp(&cut.Segment); err != nil {
				return err
			}
			held[len(held)-1] = [2]any{cut.Key, cut.body}
		}
	}
	for i, h := range held {
		if first && e.cfg.Missing && i == 0 {
			continue
		}
		e.put(e.name(h[0].(string)), h[1].([]byte))
	}
	if killed {
		// One was sealed and sent after the last checkpoint.
		p := m.segment(frames, e.cfg.Segments+1, false)
		if err := m.seal(&p); err != nil {
			return err
		}
		e.put(e.name(p.Key), p.body)
		return nil
	}
	latest, superseded := m.parted()
	for i := range latest {
		if first && e.cfg.Missing && i == 0 {
			continue
		}
		latest[i].Confirmed = true
		m.tally.Uploaded += latest[i].Packets
		m.tally.UploadedBytes += uint64(latest[i].Bytes)
	}
	clock2 := *clock
	clock2.At, clock2.OffsetNs = m.at, 987
	if err := m.checkpoint(events.CollectorClosed, &clock2); err != nil {
		return err
	}
	closing := events.CollectorManifest{
		Version: events.RecordVersion, Capture: e.Capture, UserID: m.user, InstanceID: instance(n), Tool: "flashtap collector test",
		Build: "0123456789abcdef0123456789abcdef01234567 sha256:" + Digest([]byte("program")), Started: started, Ended: m.at, StopReason: events.StopDeadline,
		Notes: []string{"received by a packet ring"}, Config: e.config(), Segments: latest, Superseded: superseded, Tally: m.tally, Host: m.host,
		Checkpoints: m.points, LastCheckpoint: m.last, Chain: m.chain, Clock: &events.Clocks{Start: clock, End: &clock2},
	}
	if closing.Segments == nil {
		closing.Segments = []events.Segment{}
	}
	if first && e.cfg.Missing {
		closing.Error = "segment 1 could not be sent: the store answered no"
	}
	e.cfg.Changes.Closing(&closing)
	_, err = e.putRecord(e.name(events.CollectorManifestKey(e.Capture, m.user)), closing)
	return err
}

// segment writes one file.
func (m *machine) segment(frames *series, seq int, backwards bool) pcap {
	p := pcap{body: header(), Segment: events.Segment{Seq: seq}}
	for i := range m.e.cfg.Packets {
		f := frames.frames[frames.next%len(frames.frames)]
		frames.next++
		m.at = m.at.Add(1234567 * time.Nanosecond)
		at := m.at
		if backwards && i == m.e.cfg.Packets/2 {
			at = at.Add(-250 * time.Millisecond)
		}
		kept, wire := f.Data, len(f.Data)
		if n := int(m.e.cfg.PacketLength); n > 0 && n < len(kept) {
			kept = kept[:n]
		}
		p.add(at, kept, wire)
	}
	m.tally.Received += p.Packets + 1
	m.tally.Rejected.ForeignVNI++
	m.tally.Written += p.Packets
	m.tally.WrittenBytes += p.frameBytes
	m.tally.Truncated += p.Truncated
	return p
}

// seal names a segment and adds its record to the chain.
func (m *machine) seal(p *pcap) error {
	p.name(m)
	m.tally.Sealed += p.Packets
	m.tally.SealedBytes += uint64(p.Bytes)
	return m.chainUp(&p.Segment)
}

func (p *pcap) name(m *machine) {
	p.SHA256, p.Bytes = Digest(p.body), int64(len(p.body))
	p.Key = events.SegmentKey(m.e.Capture, m.user, p.Seq, p.SHA256)
}

func (m *machine) chainUp(r *events.Segment) error {
	r.Previous = m.chain
	m.e.cfg.Changes.Record(r)
	link, err := Link(*r)
	if err != nil {
		return err
	}
	m.chain = link
	m.records, m.fresh = append(m.records, *r), append(m.fresh, *r)
	return nil
}

// cut is the segment with only the first 54 bytes of each frame.
func (p pcap) cut() pcap {
	short := pcap{body: header(), Segment: events.Segment{Seq: p.Seq, Replaces: p.SHA256}}
	for at := 24; at < len(p.body); {
		h := p.body[at:]
		incl := int(binary.LittleEndian.Uint32(h[8:]))
		ns := int64(binary.LittleEndian.Uint32(h))*1e9 + int64(binary.LittleEndian.Uint32(h[4:]))
		keep := min(54, incl)
		if keep < incl {
			short.Reduced++
		}
		short.add(time.Unix(0, ns).UTC(), h[16:16+keep], int(binary.LittleEndian.Uint32(h[12:])))
		at += 16 + incl
	}
	short.SHA256, short.Bytes = Digest(short.body), int64(len(short.body))
	short.Key = p.Key[:len(p.Key)-len(".pcap")-64] + short.SHA256 + ".pcap"
	return short
}

// parted are the latest record of each number, and those whose place another took.
func (m *machine) parted() (latest, superseded []events.Segment) {
	for i, r := range m.records {
		replaced := false
		for _, later := range m.records[i+1:] {
			replaced = replaced || later.Seq == r.Seq
		}
		if replaced {
			superseded = append(superseded, r)
			continue
		}
		at := len(latest)
		for at > 0 && latest[at-1].Seq > r.Seq {
			at--
		}
		latest = append(latest[:at], append([]events.Segment{r}, latest[at:]...)...)
	}
	return latest, superseded
}

// checkpoint reports.
func (m *machine) checkpoint(state string, clock *events.Clock) error {
	m.at = m.at.Add(3 * time.Second)
	m.points++
	c := events.Checkpoint{
		Version: events.RecordVersion, Capture: m.e.Capture, UserID: m.user, Seq: m.points, At: m.at, State: state, Tally: m.tally,
		Segments: len(m.records), Previous: m.last, Records: m.fresh, Chain: m.chain, Clock: clock, Host: m.host,
	}
	if state != events.CollectorClosed {
		c.Pending = len(m.records)
	}
	m.fresh = nil
	m.e.cfg.Changes.Checkpoint(&c)
	body, err := Canonical(c)
	if err != nil {
		return err
	}
	m.last = Digest(body)
	m.e.put(m.e.name(events.CheckpointKey(m.e.Capture, m.user, m.points, m.last)), body)
	return nil
}

func (e *Evidence) config() events.CollectorConfig {
	c := e.Plan.CollectorConfig(events.Candidate{BinaryKey: "bin/collector", BinarySHA256: Digest([]byte("program"))})
	c.Bucket, c.RoleID = "evidence", "AROAFLASHTAPCOLLECTOR"
	return c
}
