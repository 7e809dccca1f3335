package verify

import (
	"bytes"
	"encoding/binary"
	"slices"

	"flashtap/testutil/bench/traffic"
)

// Verifier judges recordings file by file, for who can't keep them all.
type Verifier struct {
	opts    Options
	verdict Verdict
	scanner scanner
	buffers [traffic.Patterns]traffic.Buffer

	seen   []uint64 // a bit for each number
	next   uint64   // one past the highest number so far
	inFlow []uint64 // the same of each flow
	lastAt int64
	delays sample
}

// New makes a verifier.
func New(opts Options) *Verifier {
	return &Verifier{
		opts: opts, verdict: Verdict{PerVNI: map[uint32]uint64{}},
		inFlow: make([]uint64, opts.Traffic.Plan().Flows),
	}
}

// Verdict is the judgement so far, if n frames are expected.
func (v *Verifier) Verdict(n uint64) Verdict {
	out := v.verdict
	out.Lost = v.missing(n)
	out.Delay = v.delays.percentiles()
	return out
}

// missing counts the expected numbers that were not seen.
func (v *Verifier) missing(n uint64) uint64 {
	var missing uint64
	for i := range n {
		if i/64 < uint64(len(v.seen)) && v.seen[i/64]>>(i%64)&1 == 1 {
			continue
		}
		if len(v.opts.VNIs) == 0 || slices.Contains(v.opts.VNIs, v.opts.Traffic.VNI(v.opts.First+i)) {
			missing++
		}
	}
	return missing
}

// mark notes that a number was seen; it is false when it had been.
func (v *Verifier) mark(n uint64) bool {
	i := n - v.opts.First
	if have := uint64(len(v.seen)); i/64 >= have {
		v.seen = append(v.seen, make([]uint64, i/64+1-have+have/4)...)
	}
	bit := uint64(1) << (i % 64)
	if v.seen[i/64]&bit != 0 {
		return false
	}
	v.seen[i/64] |= bit
	return true
}

// record judges one record.
func (v *Verifier) record(r record) {
	d, g := &v.verdict, v.opts.Traffic
	d.Records++
	if r.at < v.lastAt {
		d.StampsBack++
	}
	v.lastAt = r.at
	frame, vni, outer := strip(r.data)
	if outer {
		d.Outer++
	}
	stamp, stamped := g.Stamp(frame)
	switch {
	case !stamped && len(r.data) < r.length:
		d.Truncated++
		return
	case !stamped && g.Marked(frame):
		d.Corrupt++
		return
	case !stamped || stamp.Number < v.opts.First || stamp.Number-v.opts.First >= maxFrames:
		d.Foreign++
		return
	}
	n := stamp.Number
	size := g.Size(n)
	if len(frame) > size {
		if merged := v.merged(frame, size); merged > 1 {
			d.Merged++
			d.MergedFrames += merged
			return
		}
		d.Corrupt++
		return
	}
	if len(frame) < size || len(r.data) < r.length {
		d.Truncated++
		return
	}
	want := g.Frame(&v.buffers[n%traffic.Patterns], n, stamp.Sent)
	if !bytes.Equal(frame, want) || outer && vni != g.VNI(n) {
		d.Corrupt++
		return
	}
	v.intact(stamp, r.at, size)
}

// maxFrames bounds how many numbers are kept track of.
const maxFrames = 1 << 33

// intact takes in a frame that is as it was sent.
func (v *Verifier) intact(stamp traffic.Stamp, at int64, size int) {
	d, g, n := &v.verdict, v.opts.Traffic, stamp.Number
	vni := g.VNI(n)
	if len(v.opts.VNIs) > 0 && !slices.Contains(v.opts.VNIs, vni) {
		d.WrongVNI++
		return
	}
	if !v.mark(n) {
		d.Duplicate++
		return
	}
	if n < v.next {
		d.Reordered++
	}
	v.next = max(v.next, n+1)
	flow := &v.inFlow[g.Flow(n)]
	if n < *flow {
		d.ReorderedInFlow++
	}
	*flow = max(*flow, n+1)
	d.Intact++
	d.Bytes += uint64(size)
	d.PerVNI[vni]++
	v.delays.add(float32(at-stamp.Sent) / 1e3)
}

// merged counts the frames in a record that is longer than its first: their payloads follow each other.
func (v *Verifier) merged(frame []byte, size int) uint64 {
	g := v.opts.Traffic
	count := uint64(1)
	for rest := frame[size:]; len(rest) > 0; count++ {
		stamp, ok := g.PayloadStamp(rest)
		if !ok {
			break
		}
		rest = rest[min(g.Size(stamp.Number)-g.HeaderSize(), len(rest)):]
	}
	return count
}

// strip takes what carried a frame off a packet. It is written apart from the collector's own parser, which it is to
// judge. A packet that is no VXLAN is returned as it is.
func strip(packet []byte) (frame []byte, vni uint32, outer bool) {
	be := binary.BigEndian
	at := 12
	for len(packet) >= at+6 && (be.Uint16(packet[at:]) == 0x8100 || be.Uint16(packet[at:]) == 0x88a8) {
		at += 4
	}
	if len(packet) < at+2+20 {
		return packet, 0, false
	}
	kind := be.Uint16(packet[at:])
	at += 2
	protocol, header := 0, 0
	switch kind {
	case 0x0800:
		protocol, header = int(packet[at+9]), int(packet[at]&0xf)*4
	case 0x86dd:
		protocol, header = int(packet[at+6]), 40
	}
	at += header
	if protocol != 17 || len(packet) < at+16 || be.Uint16(packet[at+2:]) != 4789 || packet[at+8]&0x08 == 0 {
		return packet, 0, false
	}
	return packet[at+16:], be.Uint32(packet[at+12:]) >> 8, true
}

// sample keeps every so many values, so that it stays small however many there are.
type sample struct {
	values []float32
	stride int
	skip   int
}

const sampleSize = 1 << 17

func (s *sample) add(value float32) {
	if s.skip > 0 {
		s.skip--
		return
	}
	s.stride = max(s.stride, 1)
	s.skip = s.stride - 1
	s.values = append(s.values, value)
	if len(s.values) < sampleSize {
		return
	}
	for i := range sampleSize / 2 {
		s.values[i] = s.values[2*i]
	}
	s.values = s.values[:sampleSize/2]
	s.stride *= 2
}

func (s *sample) percentiles() Percentiles {
	sorted := slices.Sorted(slices.Values(s.values))
	if len(sorted) == 0 {
		return Percentiles{}
	}
	at := func(share float64) float64 { return float64(sorted[int(share*float64(len(sorted)-1))]) }
	return Percentiles{Min: at(0), Median: at(.5), P99: at(.99), Max: at(1)}
}
