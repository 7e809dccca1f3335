package main

import (
	"container/heap"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"flashtap/collector/evidence"
	"flashtap/collector/pcapfile"
	"flashtap/events"
)

// carving is the answer of pull --merge.
type carving struct {
	Evidence  string        `json:"evidence"`
	Out       string        `json:"out"`
	Packets   uint64        `json:"packets"` // written
	Bytes     int64         `json:"bytes"`   // of the file
	Segments  int           `json:"segments"`
	Searched  int           `json:"searched"`  // segments of which anything was read
	BytesRead int64         `json:"bytesRead"` // of segments
	Seen      uint64        `json:"seen"`      // packets that were looked at
	Notes     []string      `json:"notes"`
	Verified  *verification `json:"verified,omitempty"` // of the download
}

func (c carving) text() string {
	var b strings.Builder
	if c.Verified != nil {
		b.WriteString(c.Verified.text())
	}
	fmt.Fprintf(&b, "%s, %s in %s; read %s of %d of %s\n", countOf(c.Packets, "packet"), sizeText(c.Bytes), c.Out, sizeText(c.BytesRead), c.Searched, countOf(uint64(c.Segments), "segment"))
	for _, note := range c.Notes {
		fmt.Fprintf(&b, "note      %s\n", note)
	}
	return b.String()
}

// carve writes the packets that are wanted, in the order of their times.
func (t *tool) carve(ctx context.Context, at place, contents evidence.Contents, o pullOptions, whole *verification) error {
	if contents.Report.Outcome == evidence.Broken {
		var first string
		if len(contents.Report.Discrepancies) > 0 {
			first = ": " + contents.Report.Discrepancies[0].String()
		}
		return problem{exitBroken, fmt.Errorf("%s is broken%s", at.name, first), "flashtap verify tells all that is wrong"}
	}
	sections, err := segmentsOf(ctx, at, contents)
	if err != nil {
		return err
	}
	answer := carving{Evidence: at.name, Out: nameOf(o.merge, "standard output"), Segments: len(sections), Notes: []string{}, Verified: whole}
	switch contents.Report.Outcome {
	case evidence.Consistent:
		answer.Notes = append(answer.Notes, "who sealed it is not verified: give --key or --fingerprint")
	case evidence.Unsealed:
		answer.Notes = append(answer.Notes, "it is not sealed; packets may be missing")
	}
	out, err := t.createMerged(ctx, o)
	if err != nil {
		return err
	}
	m := newMeter(t.err, "reading")
	if t.output == outputJSON || o.merge == stdStream {
		m.next = time.Now().Add(1000 * time.Hour) // somebody else writes to the terminal
	}
	c := carver{ctx: ctx, at: at, wish: o.wish, indexes: indexFolder(at, o.dir), writer: pcapfile.NewWriter(out), answer: &answer, meter: m}
	err = c.run(sections)
	m.end()
	err = errors.Join(err, c.writer.Flush(), out.Close())
	answer.Bytes = c.writer.Written()
	if err != nil {
		return fmt.Errorf("write %s: %w; it is not complete", answer.Out, err)
	}
	onError := *t
	if o.merge == stdStream {
		onError.out = t.err
	}
	if err := onError.show(answer); err != nil {
		return err
	}
	if whole != nil {
		return whole.end()
	}
	return nil
}

// createMerged opens the file of --merge.
func (t *tool) createMerged(ctx context.Context, o pullOptions) (io.WriteCloser, error) {
	if o.merge == stdStream {
		if terminal(t.out) {
			return nil, usage("standard output is a terminal, where packets of others would do what they like", "pipe it, or name a file with --merge")
		}
		return t.create(ctx, stdStream, 0)
	}
	how := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if o.force {
		how = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	}
	out, err := t.create(ctx, o.merge, how)
	if errors.Is(err, fs.ErrExist) {
		return nil, refused("name another file, or give --force to overwrite it", "%s exists", o.merge)
	}
	return out, err
}

// section is a segment that may hold packets that are wanted.
type section struct {
	name   string
	digest string
	bytes  int64
	first  time.Time     // zero: not known
	last   time.Time     // zero: not known
	within time.Duration // how far its packets may be out of order
}

// segmentsOf are the segments in the order of their first packets.
func segmentsOf(ctx context.Context, at place, contents evidence.Contents) ([]section, error) {
	var all []section
	if m := contents.Manifest; m != nil {
		for _, s := range m.Segments {
			name := strings.TrimPrefix(s.Key, events.CapturePrefix(m.Capture))
			all = append(all, section{name, s.SHA256, s.Bytes, s.First, s.Last, max(events.OrderTolerance, time.Duration(s.BackwardsNs))})
		}
	} else {
		left, err := evidence.SegmentsLeft(ctx, at.Source, evidence.Options{Capture: at.capture})
		if err != nil {
			return nil, err
		}
		for _, s := range left {
			one := section{s.Name, s.SHA256, s.Bytes, s.First, s.Last, max(events.OrderTolerance, time.Duration(s.BackwardsNs))}
			if one.first.IsZero() {
				if one.first, err = firstTime(ctx, at, s.Name); err != nil {
					return nil, err
				}
			}
			all = append(all, one)
		}
	}
	sort.SliceStable(all, func(i, j int) bool {
		if !all[i].first.Equal(all[j].first) {
			return all[i].first.Before(all[j].first)
		}
		return all[i].name < all[j].name
	})
	return all, nil
}

// firstTime is the time of a segment's first packet. It is zero where there is none, which is told when all of it is read.
func firstTime(ctx context.Context, at place, name string) (time.Time, error) {
	in, err := at.Open(ctx, name, 24) // behind the header
	if err != nil {
		return time.Time{}, err
	}
	defer in.Close()
	var stamp [8]byte
	switch _, err := io.ReadFull(in, stamp[:]); {
	case err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF):
		return time.Time{}, nil
	case err != nil:
		return time.Time{}, fmt.Errorf("read %s: %w", name, err)
	}
	return time.Unix(int64(binary.LittleEndian.Uint32(stamp[0:])), int64(binary.LittleEndian.Uint32(stamp[4:]))).UTC(), nil
}

// carver merges segments.
type carver struct {
	ctx     context.Context
	at      place
	wish    wish
	indexes string // folder; empty: none are kept
	writer  *pcapfile.Writer
	answer  *carving
	meter   *meter
	open    streams
	total   int64
}

// run merges what is wanted of all sections. Only those are open at a time whose packets may come next.
func (c *carver) run(sections []section) error {
	var chosen []section
	for _, s := range sections {
		if c.wish.overlaps(s) {
			chosen = append(chosen, s)
			c.total += s.bytes
		}
	}
	defer func() {
		for _, s := range c.open {
			s.close()
		}
	}()
	for {
		for len(chosen) > 0 && (len(c.open) == 0 || chosen[0].first.IsZero() || chosen[0].first.Add(-chosen[0].within).UnixNano() <= c.open[0].next.at) {
			if err := c.begin(chosen[0]); err != nil {
				return err
			}
			chosen = chosen[1:]
		}
		if len(c.open) == 0 {
			return nil
		}
		s := c.open[0]
		if err := c.writer.Write(s.next.at, s.next.data, s.next.wire); err != nil {
			return err
		}
		c.answer.Packets++
		s.release()
		if err := s.advance(); err == io.EOF {
			heap.Pop(&c.open)
			s.close()
		} else if err != nil {
			return err
		} else {
			heap.Fix(&c.open, 0)
		}
	}
}

// overlaps says whether a segment can hold packets of the wanted time.
func (w wish) overlaps(s section) bool {
	if s.first.IsZero() {
		return true
	}
	return (w.to.IsZero() || s.first.Add(-s.within).Before(w.to)) && (w.from.IsZero() || s.last.IsZero() || !s.last.Add(s.within).Before(w.from))
}

// wants says whether a packet is wanted.
func (w *wish) wants(at int64, frame []byte, p *packet) bool {
	if !w.from.IsZero() && at < w.from.UnixNano() || !w.to.IsZero() && at >= w.to.UnixNano() {
		return false
	}
	if len(w.flows) == 0 {
		return true
	}
	parsePacket(frame, p)
	for _, f := range w.flows {
		if f.matches(p) {
			return true
		}
	}
	return false
}

// begin opens a section, and has it join the merge if it has anything.
func (c *carver) begin(s section) error {
	records, err := c.records(s)
	if err != nil {
		return err
	}
	if records == nil {
		return nil // its index says that there is nothing
	}
	c.answer.Searched++
	stream := &ordered{records: records, within: int64(s.within), carver: c}
	switch err := stream.advance(); {
	case err == io.EOF:
		stream.close()
	case err != nil:
		stream.close()
		return err
	default:
		heap.Push(&c.open, stream)
	}
	return nil
}

// kept is a packet that waits for its turn.
type kept struct {
	at   int64
	turn uint64 // among those of the same time
	data []byte
	wire int
}

// ordered gives the wanted packets of one section in the order of time. Those that may still be overtaken wait.
type ordered struct {
	records *recordReader
	carver  *carver
	within  int64
	waiting packetHeap
	latest  int64
	turns   uint64
	ended   bool
	next    kept
	free    [][]byte
	parsed  packet
}

func (s *ordered) close() { s.records.close() }

func (s *ordered) release() { s.free = append(s.free, s.next.data[:0]) }

// advance finds the next packet.
func (s *ordered) advance() error {
	for !s.ended && (len(s.waiting) == 0 || s.waiting[0].at > s.latest-s.within) {
		at, frame, wire, err := s.records.next()
		if err == io.EOF {
			s.ended = true
			break
		}
		if err != nil {
			return err
		}
		s.carver.answer.Seen++
		s.latest = max(s.latest, at)
		if !s.carver.wish.wants(at, frame, &s.parsed) {
			continue
		}
		var data []byte
		if n := len(s.free); n > 0 {
			data, s.free = s.free[n-1], s.free[:n-1]
		}
		s.turns++
		heap.Push(&s.waiting, kept{at, s.turns, append(data, frame...), wire})
	}
	if len(s.waiting) == 0 {
		return io.EOF
	}
	s.next = heap.Pop(&s.waiting).(kept)
	return nil
}

type packetHeap []kept

func (h packetHeap) Len() int { return len(h) }
func (h packetHeap) Less(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].turn < h[j].turn
}
func (h packetHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *packetHeap) Push(x any)   { *h = append(*h, x.(kept)) }
func (h *packetHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = kept{}
	*h = old[:len(old)-1]
	return last
}

type streams []*ordered

func (h streams) Len() int           { return len(h) }
func (h streams) Less(i, j int) bool { return h[i].next.at < h[j].next.at }
func (h streams) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *streams) Push(x any)        { *h = append(*h, x.(*ordered)) }
func (h *streams) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}

// indexFolder is where indexes of segments are kept: beside the download, or where the user's caches are.
func indexFolder(at place, dir string) string {
	if at.folder != "" {
		return strings.TrimSuffix(at.folder, string(filepath.Separator)) + ".index"
	}
	if dir != "" {
		return dir + ".index"
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "" // a user without a home has no caches, and reads everything each time
	}
	return filepath.Join(cache, "flashtap", "index", string(at.capture))
}

func (c *carver) indexPath(s section) string {
	if c.indexes == "" {
		return ""
	}
	return filepath.Join(c.indexes, path.Base(s.name)+".json")
}
