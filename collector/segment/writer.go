package segment

import (
	"context"
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"
)

// Config says where segments lie and when one is closed.
type Config struct {
	Dir      string
	First    int           // number of the first segment, from 1
	MaxBytes int64         // a segment is closed before it grows past this, unless a single frame does
	MaxAge   time.Duration // or when its first frame came this long ago
	NoDigest bool          // no SHA-256: segments are named by their numbers alone
	Reserve  int64         // bytes of disk that Prepare takes ahead of the frames
	Evict    bool          // nobody reads sealed segments soon: they need not stay in memory

	Buffer  int // bytes gathered before they are written; 0: 512 KiB
	Buffers int // how many of them; 0: 32

	// Sealed is told about every sealed segment, in order, by one goroutine.
	Sealed func(File)
	// Trouble is told about every act on the disk that was refused, by any goroutine. What was lost by it is in Counts.
	Trouble func(error)
}

// File is a sealed segment on disk.
type File struct {
	Seq       int
	Path      string
	SHA256    string // hexadecimal, of the whole file; empty with NoDigest
	Bytes     int64
	Packets   uint64
	Truncated uint64 // packets with incl_len < orig_len
	First     time.Time
	Last      time.Time
	Recovered bool // sealed after a crash

	// BackwardsNs is by how many nanoseconds a timestamp lies before the one before it, at most; 0 when that is nowhere
	// more than events.OrderTolerance.
	BackwardsNs int64
}

// Counts says what became of the frames given to a writer, since its start. A frame that is still on its way to the
// disk is in none of them.
type Counts struct {
	Written      uint64 // frames that a file holds
	WrittenBytes uint64 // their bytes, without pcap headers
	Truncated    uint64 // of Written: frames shorter than they were on the wire
	Lost         uint64 // frames that no file holds, because the disk refused them
	LostBytes    uint64
}

// Writer turns frames into a series of segments.
//
// Write copies a frame into one of a fixed number of buffers, and that is all that happens while packets wait: files
// are opened, written, digested, synced and renamed by Run. A disk that is slower than the network makes Write wait
// for a buffer (Stalled tells how long); whoever brings the frames then finds what that cost in its own counters.
//
// Write, Tend, Flush, Rotate and Close belong to one goroutine at a time; Run to another; the rest to any.
type Writer struct {
	cfg Config

	current   *buffer // nil: the next frame takes a new one
	free      int     // bytes that current may still take
	size      int64   // of the open segment, as far as frames were given to it
	began     time.Time
	second    int64 // a whole second in nanoseconds since 1970, and
	secondsOf uint32
	accepted  uint64 // frames
	acceptedB uint64 // their bytes

	pool     *pool
	full     chan *buffer
	unsealed atomic.Int64 // bytes handed over to Run and not sealed yet
	ended    atomic.Bool

	mu     sync.Mutex
	counts Counts

	disk disk // Run's
}

// buffer is a run of whole records on its way into a file.
type buffer struct {
	memory []byte // page-aligned, with a page more than the data may take
	data   []byte // in memory
	holds  contents
	last   bool // the segment ends behind it
}

// page is what the page cache is made of.
const page = 4 << 10

// align lets the data begin at the place within a page that it will have in the file: the kernel copies twice as fast
// when both ends are aligned alike.
func (b *buffer) align(offset int64) {
	at := int(offset % page)
	b.data = b.memory[at : at : len(b.memory)-page+at]
}

const (
	defaultBuffer  = 512 << 10
	defaultBuffers = 32
)

// NewWriter makes a writer that opens its first segment with its first frame.
func NewWriter(cfg Config) *Writer {
	if cfg.Buffer == 0 {
		cfg.Buffer = defaultBuffer
	}
	if cfg.Buffers == 0 {
		cfg.Buffers = defaultBuffers
	}
	cfg.Buffer = max(cfg.Buffer, recHeaderLen+SnapLen)
	if cfg.Sealed == nil {
		cfg.Sealed = func(File) {}
	}
	if cfg.Trouble == nil {
		cfg.Trouble = func(error) {}
	}
	w := &Writer{cfg: cfg, pool: newPool(cfg.Buffers, cfg.Buffer), full: make(chan *buffer, cfg.Buffers)}
	w.disk = disk{w: w, next: max(cfg.First, 1), closed: make(chan *openFile, sealBacklog)}
	return w
}

// Write adds a frame that arrived at (nanoseconds since 1970) and was origLen bytes long on the wire. The frame is
// copied.
func (w *Writer) Write(at int64, frame []byte, origLen int) {
	need := recHeaderLen + len(frame)
	if need > w.free && !w.makeRoom(need) {
		return
	}
	// Division is the dearest part of a small record, and most frames come within the same second.
	nanos := at - w.second
	if uint64(nanos) >= 1e9 {
		w.second, w.secondsOf = at-at%1e9, uint32(at/1e9)
		nanos = at - w.second
	}
	b := w.current
	n := len(b.data)
	record := b.data[n : n+need]
	binary.LittleEndian.PutUint64(record, uint64(w.secondsOf)|uint64(nanos)<<32)
	binary.LittleEndian.PutUint64(record[8:], uint64(uint32(len(frame)))|uint64(origLen)<<32)
	copy(record[recHeaderLen:], frame)
	b.data = b.data[:n+need]
	if b.holds.packets == 0 {
		b.holds.first = at
	}
	if at < b.holds.last {
		b.holds.backwards = max(b.holds.backwards, b.holds.last-at)
	}
	b.holds.last = at
	b.holds.packets++
	if len(frame) < origLen {
		b.holds.truncated++
	}
	w.free -= need
}

// makeRoom makes current a buffer that takes a record of that length. It waits for one as long as the disk has time.
func (w *Writer) makeRoom(need int) bool {
	if w.size > 0 && w.sizeNow()+int64(need) > w.cfg.MaxBytes {
		w.Rotate()
	} else {
		w.Flush()
	}
	if w.current = w.pool.take(); w.current == nil {
		w.abandon(contents{bytes: int64(need), packets: 1, frameBytes: uint64(need - recHeaderLen)})
		return false
	}
	if w.size == 0 {
		w.size, w.began = fileHeaderLen, time.Now()
	}
	w.current.align(w.size)
	w.free = max(need, int(min(int64(cap(w.current.data)), w.cfg.MaxBytes-w.size)))
	return true
}

func (w *Writer) sizeNow() int64 {
	if w.current == nil {
		return w.size
	}
	return w.size + int64(len(w.current.data))
}

// Tend closes the open segment when its time is over, also when no frame comes any more. Otherwise it brings what
// waits on its way, so that a crash costs no more than what came since the last call.
func (w *Writer) Tend(now time.Time) {
	if w.size > 0 && now.Sub(w.began) >= w.cfg.MaxAge {
		w.Rotate()
		return
	}
	w.Flush()
}

// Rotate closes the open segment, if there is one, so that it can be sealed and shipped.
func (w *Writer) Rotate() {
	if w.size == 0 {
		return
	}
	if w.current == nil {
		if w.current = w.pool.take(); w.current == nil {
			return
		}
	}
	w.current.last = true
	w.handOver()
	w.size = 0
}

// Flush brings everything written so far on its way into the file.
func (w *Writer) Flush() {
	if w.current != nil && len(w.current.data) > 0 {
		w.handOver()
	}
}

func (w *Writer) handOver() {
	b := w.current
	w.current, w.free = nil, 0
	b.holds.bytes = int64(len(b.data))
	b.holds.frameBytes = uint64(b.holds.bytes) - recHeaderLen*b.holds.packets
	w.size += b.holds.bytes
	w.accepted += b.holds.packets
	w.acceptedB += b.holds.frameBytes
	w.unsealed.Add(b.holds.bytes)
	w.full <- b // never waits: it has room for every buffer there is
}

// abandon counts frames as lost that could not even be buffered.
func (w *Writer) abandon(c contents) {
	w.accepted += c.packets
	w.acceptedB += c.frameBytes
	w.account(contents{}, c)
}

func (w *Writer) account(written, lost contents) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counts.Written += written.packets
	w.counts.WrittenBytes += written.frameBytes
	w.counts.Truncated += written.truncated
	w.counts.Lost += lost.packets
	w.counts.LostBytes += lost.frameBytes
}

// Counts is what has become of the frames so far.
func (w *Writer) Counts() Counts {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.counts
}

// Accepted is how many frames were given to Write, and their bytes. It belongs to the goroutine of Write.
func (w *Writer) Accepted() (frames, bytes uint64) {
	frames, bytes = w.accepted, w.acceptedB
	if w.current != nil {
		p := w.current.holds.packets
		frames += p
		bytes += uint64(len(w.current.data)) - recHeaderLen*p
	}
	return frames, bytes
}

// Unsealed is how many bytes were given to files that are not sealed yet. It belongs to the goroutine of Write.
func (w *Writer) Unsealed() int64 {
	n := w.unsealed.Load()
	if w.current != nil {
		n += int64(len(w.current.data))
	}
	return n
}

// Stalled says how often Write had to wait for the disk, and for how long in all.
func (w *Writer) Stalled() (times uint64, total time.Duration) { return w.pool.stalled() }

// Close closes the open segment and lets Run end when all are sealed. Nothing may be written afterwards.
func (w *Writer) Close() {
	w.Rotate()
	close(w.full)
}

// Ended says whether Run has ended, so that Counts tells of every frame.
func (w *Writer) Ended() bool { return w.ended.Load() }

// Run brings what is written into files and seals them, until Close. A disk that refuses is asked again until ctx
// ends; what could not be sealed by then stays open, for Recover to find, and is named in the error.
func (w *Writer) Run(ctx context.Context) error {
	defer w.ended.Store(true)
	stop := context.AfterFunc(ctx, w.pool.close)
	defer stop()
	sealed := make(chan error, 1)
	go func() { sealed <- w.sealAll(ctx) }()
	for b := range w.full {
		w.disk.take(b)
		w.pool.give(b)
	}
	w.disk.finish()
	return <-sealed
}
