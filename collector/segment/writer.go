package segment

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
)

// Config says where segments lie and when one is closed.
type Config struct {
	Dir      string
	First    int           // number of the first segment, from 1
	MaxBytes int64         // a segment is closed before it grows past this, unless a single frame does
	MaxAge   time.Duration // or when its first frame came this long ago
	Buffer   int           // bytes gathered before they are written; 0: 1 MiB

	// Sealed is told about every sealed segment, in order, by the goroutine of Run.
	Sealed func(File)
	// Trouble is told about every act on the disk that was refused. What was lost by it is in Counts.
	Trouble func(error)
}

// File is a sealed segment on disk.
type File struct {
	Seq       int
	Path      string
	SHA256    string // hexadecimal, of the whole file
	Bytes     int64
	Packets   uint64
	Truncated uint64 // packets with incl_len < orig_len
	First     time.Time
	Last      time.Time
	Recovered bool // sealed after a crash
}

// Counts says what became of the frames given to a writer, since its start.
type Counts struct {
	Written      uint64 // frames that a file holds
	WrittenBytes uint64 // their bytes, without pcap headers
	Truncated    uint64 // of Written: frames shorter than they were on the wire
	Lost         uint64 // frames that no file holds, because the disk refused them
}

// Writer turns frames into a series of segments.
//
// Write, Tend, Flush, Counts and Close belong to one goroutine at a time. Run seals what they have closed, since
// syncing a file to disk takes longer than a socket can wait.
type Writer struct {
	cfg     Config
	buf     []byte   // what the next write to the open file will carry: whole records, at first behind the file header
	waiting contents // of buf
	open    *openFile
	next    int
	counts  Counts
	retry   time.Time // not before this is a disk that has refused something asked again

	closed   chan *openFile
	unsealed atomic.Int64
}

// openFile is a segment before it is sealed.
type openFile struct {
	seq    int
	path   string
	file   *os.File
	hash   hash.Hash
	opened time.Time
	header bool     // the file header has been written
	holds  contents // what the file holds behind its header
	cut    bool     // a failed write may have left bytes behind the last whole record
}

func (o *openFile) size() int64 {
	if !o.header {
		return 0
	}
	return fileHeaderLen + o.holds.bytes
}

// sealBacklog is how many closed segments may wait to be sealed before Write waits for the disk.
const sealBacklog = 64

// retryAfter is how long a writer leaves a disk alone that has refused something.
const retryAfter = time.Second

// NewWriter makes a writer that opens its first segment with its first frame.
func NewWriter(cfg Config) *Writer {
	if cfg.Buffer == 0 {
		cfg.Buffer = 1 << 20
	}
	if cfg.Sealed == nil {
		cfg.Sealed = func(File) {}
	}
	if cfg.Trouble == nil {
		cfg.Trouble = func(error) {}
	}
	return &Writer{
		cfg:    cfg,
		buf:    make([]byte, 0, max(cfg.Buffer, fileHeaderLen+recHeaderLen+SnapLen)),
		next:   max(cfg.First, 1),
		closed: make(chan *openFile, sealBacklog),
	}
}

// Write adds a frame that arrived at (nanoseconds since 1970) and was origLen bytes long on the wire. The frame is
// copied. It says whether the frame was taken; one that the disk has refused counts as lost.
func (w *Writer) Write(at int64, frame []byte, origLen int) bool {
	need := recHeaderLen + len(frame)
	if w.open != nil && w.openSize()+int64(need) > w.cfg.MaxBytes && w.openPackets() > 0 {
		w.Rotate()
	}
	if w.open != nil && len(w.buf)+need > cap(w.buf) {
		w.Flush()
	}
	if w.open == nil && !w.begin() {
		w.counts.Lost++
		return false
	}
	w.buf = appendRecord(w.buf, at, frame, origLen)
	w.waiting.addRecord(record{at: at, inclLen: len(frame), origLen: origLen})
	w.unsealed.Add(int64(need))
	return true
}

// Tend closes the open segment when its time is over, also when no frame comes any more. Otherwise it brings what
// waits into the file, so that a crash costs no more than what came since the last call.
func (w *Writer) Tend(now time.Time) {
	if w.open != nil && now.Sub(w.open.opened) >= w.cfg.MaxAge {
		w.Rotate()
		return
	}
	w.Flush()
}

// Rotate closes the open segment, if there is one, so that it can be sealed and shipped.
func (w *Writer) Rotate() {
	w.Flush() // closes the segment itself when the disk refuses
	if w.open != nil {
		w.put()
	}
}

// Flush brings everything written so far into the file, so that Counts accounts for every frame.
func (w *Writer) Flush() {
	if w.open == nil || len(w.buf) == 0 {
		return
	}
	o := w.open
	n, err := o.file.Write(w.buf)
	if err == nil {
		o.hash.Write(w.buf)
		o.header = true
		o.holds.add(w.waiting)
		w.account(w.waiting)
		w.empty()
		return
	}
	// Keep the whole records that did arrive; the others are lost, and the file is closed behind them.
	written, kept := w.buf[:n], contents{}
	if !o.header && len(written) >= fileHeaderLen {
		o.hash.Write(written[:fileHeaderLen])
		o.header = true
		written = written[fileHeaderLen:]
	}
	if o.header {
		kept = wholeRecords(written)
		o.hash.Write(written[:kept.bytes])
		o.holds.add(kept)
		w.account(kept)
	}
	w.counts.Lost += w.waiting.packets - kept.packets
	w.unsealed.Add(kept.bytes - w.waiting.bytes)
	w.empty()
	o.cut = true
	w.refuse(fmt.Errorf("write segment %d: %w", o.seq, err))
	w.put()
}

// Counts is what became of all frames so far. Frames that wait in the buffer are not in it: call Flush first.
func (w *Writer) Counts() Counts { return w.counts }

// Unsealed is how many bytes were given to files that are not sealed yet. Any goroutine may ask.
func (w *Writer) Unsealed() int64 { return w.unsealed.Load() }

// Close closes the open segment and lets Run end when all are sealed. Nothing may be written afterwards.
func (w *Writer) Close() {
	w.Rotate()
	close(w.closed)
}

func (w *Writer) openSize() int64     { return w.open.size() + int64(len(w.buf)) }
func (w *Writer) openPackets() uint64 { return w.open.holds.packets + w.waiting.packets }

// begin opens the next segment. A disk that has just refused something is not asked for every frame.
func (w *Writer) begin() bool {
	now := time.Now()
	if now.Before(w.retry) {
		return false
	}
	if w.next > maxSeq {
		w.refuse(fmt.Errorf("open segment %d: a series has at most %d", w.next, maxSeq))
		return false
	}
	path := filepath.Join(w.cfg.Dir, OpenName(w.next))
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		w.refuse(fmt.Errorf("open segment %d: %w", w.next, err))
		return false
	}
	w.open = &openFile{seq: w.next, path: path, file: file, hash: sha256.New(), opened: now}
	w.next++
	w.buf = append(w.buf[:0], fileHeader...)
	w.unsealed.Add(fileHeaderLen)
	return true
}

// put hands the open segment to Run. One without a frame is removed instead: empty segments are never made.
func (w *Writer) put() {
	o := w.open
	w.open = nil
	if o.holds.packets > 0 {
		w.closed <- o
		return
	}
	w.unsealed.Add(-fileHeaderLen)
	if err := errors.Join(o.file.Close(), os.Remove(o.path)); err != nil {
		w.refuse(fmt.Errorf("remove empty segment %d: %w", o.seq, err))
		return
	}
	w.next--
}

func (w *Writer) account(c contents) {
	w.counts.Written += c.packets
	w.counts.WrittenBytes += c.frameBytes
	w.counts.Truncated += c.truncated
}

func (w *Writer) empty() {
	w.buf = w.buf[:0]
	w.waiting = contents{}
}

// refuse tells that the disk said no, and leaves it alone for a while.
func (w *Writer) refuse(err error) {
	w.retry = time.Now().Add(retryAfter)
	w.cfg.Trouble(err)
}

// sealed is what a sealed segment holds.
func (o *openFile) sealed() File {
	digest := hex.EncodeToString(o.hash.Sum(nil))
	return newFile(o.seq, filepath.Join(filepath.Dir(o.path), SealedName(o.seq, digest)), digest, o.holds)
}

func newFile(seq int, path, digest string, holds contents) File {
	return File{
		Seq: seq, Path: path, SHA256: digest, Bytes: fileHeaderLen + holds.bytes,
		Packets: holds.packets, Truncated: holds.truncated,
		First: time.Unix(0, holds.first).UTC(), Last: time.Unix(0, holds.last).UTC(),
	}
}
