// Package spool keeps on disk what a collector has captured until the store has confirmed it.
//
//	journal.jsonl                      what has become true, one line each; a restart reads it
//	segments/.000002.pcap.open         being written
//	segments/000001-<sha256>.pcap      sealed, not yet confirmed
//	segments/.000001.pcap.reducing     being cut to its headers, beside the whole segment
//	checkpoints/000001-<sha256>.json   not yet confirmed
//	manifest.json                      not yet confirmed
//	damaged/                           what could not be read, for somebody to look at
package spool

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"flashtap/collector/segment"
	"flashtap/events"
)

// Spool is the directory of one collector of one capture. Its methods may be called from any goroutine.
type Spool struct {
	dir     string
	capture events.CaptureID
	userID  string
	limit   int64
	lock    *os.File
	used    atomic.Int64 // bytes of segments that wait; apart from mu, which is held while a disk syncs

	mu          sync.Mutex
	journal     *journal
	begun       time.Time
	resumed     *Resumed
	segments    []held
	chain       chain
	clock       *events.Clock     // how it stood when capturing began
	index       map[string]int    // of segments, by key
	waiting     map[string]Object // not confirmed, by key
	replaced    map[string]string // keys of segments by the key of the one whose place they took
	unread      map[string]bool   // segments, by key, that a process before has sealed and nobody has read since
	totals      Totals
	checkpoints int
	lastDigest  string    // of the last checkpoint
	confirmedAt time.Time // when the store last confirmed a segment
	remarks     []string
	stop        string
	manifest    string // digest of the closing manifest, once there is one
	taken       int    // segments may have had numbers up to this one, although none of them is known
	doubt       *damage

	relief relief
}

// held is a segment as the spool knows it.
type held struct {
	events.Segment
	whole   *events.Segment // what it was before it was cut to its headers; nil: it still is
	reduced time.Time       // when that was
}

// captured is the segment as it was captured.
func (h held) captured() events.Segment {
	if h.whole != nil {
		return *h.whole
	}
	return h.Segment
}

// Totals is the part of a tally that the spool knows.
type Totals struct{ sealed, sealedBytes, uploaded, uploadedBytes, reduced uint64 }

// Fill puts the totals into a tally. The rest of the tally has to be newer than they are, lest more frames are sealed
// than were written.
func (t Totals) Fill(tally events.Tally) events.Tally {
	tally.Sealed, tally.SealedBytes = t.sealed, t.sealedBytes
	tally.Uploaded, tally.UploadedBytes = t.uploaded, t.uploadedBytes
	tally.Reduced = t.reduced
	return tally
}

// Object is one thing that the store is to hold.
type Object struct {
	Kind        Kind
	Seq         int // of a segment or checkpoint
	Key         string
	ContentType string
	SHA256      string // hexadecimal
	Bytes       int64
	Path        string // where it lies in the spool
	Data        []byte // its bytes, when they are few; nil: read the file at Path

	// Tried says that it may have been sent already, by this process or one before.
	Tried bool
}

// Kind says what an object is.
type Kind string

// The kinds of objects. The keys of segments and checkpoints carry their digests; the manifest's does not.
const (
	Segment    Kind = "segment"
	Checkpoint Kind = "checkpoint"
	Manifest   Kind = "manifest"
)

const (
	segmentsDir    = "segments"
	checkpointsDir = "checkpoints"
	damagedDir     = "damaged"
	journalFile    = "journal.jsonl"
	manifestFile   = "manifest.json"
	lockFile       = "lock"

	pcapType = "application/vnd.tcpdump.pcap" // IANA media types
	jsonType = "application/json"
)

// Open opens the spool of a collector in dir, and makes it when there is none. What a crash has left behind is
// brought in order first; Resumed says what that was. limit is how many bytes of segments may wait for the store.
func Open(dir string, capture events.CaptureID, userID string, limit int64) (*Spool, error) {
	s := &Spool{
		dir: dir, capture: capture, userID: userID, limit: limit,
		index: map[string]int{}, waiting: map[string]Object{}, replaced: map[string]string{}, unread: map[string]bool{},
	}
	for _, d := range []string{dir, s.SegmentDir(), filepath.Join(dir, checkpointsDir)} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, fmt.Errorf("open spool %s: %w", dir, err)
		}
	}
	lock, err := lockDir(filepath.Join(dir, lockFile))
	if err != nil {
		return nil, fmt.Errorf("open spool %s: %w", dir, err)
	}
	s.lock = lock
	if err := s.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("open spool %s: %w", dir, err), s.Close())
	}
	return s, nil
}

// lockDir keeps a second collector from writing into the same spool. The lock ends with the process.
func lockDir(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("another collector works with it: %w", err), file.Close())
	}
	return file, nil
}

// Close releases the spool. What it holds stays for a restart.
func (s *Spool) Close() error {
	var errs []error
	if s.journal != nil {
		errs = append(errs, s.journal.close())
	}
	return errors.Join(append(errs, s.lock.Close())...)
}

// SegmentDir is where a segment.Writer puts its files.
func (s *Spool) SegmentDir() string { return filepath.Join(s.dir, segmentsDir) }

// NextSegment is the number of the first segment that is not taken yet.
func (s *Spool) NextSegment() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.taken + 1
	for _, seg := range s.segments {
		next = max(next, seg.Seq+1)
	}
	return next
}

// Add takes in a sealed segment. The object counts as held also when the journal refuses the entry: a restart finds
// the file without it.
func (s *Spool) Add(f segment.File) (Object, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	seg, err := s.chain.next(s.describe(f))
	s.hold(seg, s.doubt != nil)
	if err := errors.Join(err, s.record(entry{Sealed: &seg})); err != nil {
		return s.waiting[seg.Key], fmt.Errorf("note that segment %d is sealed: %w", seg.Seq, err)
	}
	return s.waiting[seg.Key], nil
}

// describe is a sealed segment as records name it.
func (s *Spool) describe(f segment.File) events.Segment {
	return events.Segment{
		Seq: f.Seq, Key: events.SegmentKey(s.capture, s.userID, f.Seq, f.SHA256), SHA256: f.SHA256,
		Bytes: f.Bytes, Packets: f.Packets, Truncated: f.Truncated, First: f.First, Last: f.Last, Recovered: f.Recovered,
		BackwardsNs: f.BackwardsNs,
	}
}

// hold remembers a sealed segment that the store has not confirmed, and whose record joins the chain.
func (s *Spool) hold(seg events.Segment, tried bool) {
	s.chain.join(seg)
	s.index[seg.Key] = len(s.segments)
	s.segments = append(s.segments, held{Segment: seg})
	s.used.Add(seg.Bytes)
	s.totals.sealed += seg.Packets
	s.totals.sealedBytes += uint64(seg.Bytes)
	s.totals.reduced += seg.Reduced
	s.waiting[seg.Key] = s.segmentObject(seg, tried)
}

func (s *Spool) segmentObject(seg events.Segment, tried bool) Object {
	return Object{
		Kind: Segment, Seq: seg.Seq, Key: seg.Key, ContentType: pcapType, SHA256: seg.SHA256, Bytes: seg.Bytes,
		Path: filepath.Join(s.SegmentDir(), segment.SealedName(seg.Seq, seg.SHA256)), Tried: tried,
	}
}

// ErrNotHeld means that an object does not wait for the store, or does no longer.
var ErrNotHeld = errors.New("the spool does not hold it")

// Claim is called before an object is sent. It returns the object as it is now: a segment may have been cut to its
// headers since it was queued. From here on that can no longer happen to it. ErrNotHeld means that there is nothing to
// send; with any other error there is, and only the disk has not taken the note.
//
// A segment that a process before has sealed is read first, since files change when a machine goes down. One whose
// bytes are others is set aside and not held any more.
func (s *Spool) Claim(o Object) (Object, error) {
	s.mu.Lock()
	current, ok := s.waiting[o.Key]
	if replacement, replaced := s.replaced[o.Key]; !ok && replaced {
		current, ok = s.waiting[replacement]
	}
	if !ok {
		s.mu.Unlock()
		return Object{}, fmt.Errorf("claim %s: %w", o.Key, ErrNotHeld)
	}
	var refused error
	if current.Kind == Segment && !current.Tried {
		current.Tried = true
		s.waiting[current.Key] = current
		refused = s.record(entry{Tried: current.Key})
	}
	unread := s.unread[current.Key]
	s.mu.Unlock()
	if unread {
		if err := s.readAgain(current); err != nil {
			return Object{}, err
		}
	}
	if refused != nil {
		return current, fmt.Errorf("note that segment %d is sent: %w", current.Seq, refused)
	}
	return current, nil
}

// readAgain compares a segment with its digest, and sets it aside when its bytes are others.
func (s *Spool) readAgain(o Object) error {
	_, err := segment.Inspect(o.Path)
	if err != nil && !changed(err) {
		return nil // not to be read just now; whoever sends it will see
	}
	s.mu.Lock()
	delete(s.unread, o.Key)
	if err != nil {
		s.drop(o)
	}
	s.mu.Unlock()
	if err == nil {
		return nil
	}
	return errors.Join(fmt.Errorf("claim segment %d: %w: %w", o.Seq, ErrNotHeld, err), s.setAside(o.Path, err.Error()))
}

// changed says whether an error tells of a file's bytes, and not of the disk's or the process's trouble to read them.
func changed(err error) bool {
	var trouble *fs.PathError
	return !errors.As(err, &trouble)
}

// drop forgets an object that will not be sent.
func (s *Spool) drop(o Object) {
	delete(s.waiting, o.Key)
	delete(s.unread, o.Key)
	if o.Kind == Segment {
		s.used.Add(-o.Bytes)
	}
}

// Confirm notes that the store holds an object, and then removes it from the disk.
func (s *Spool) Confirm(o Object) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.waiting[o.Key]
	if !ok {
		return fmt.Errorf("confirm %s: %w", o.Key, ErrNotHeld)
	}
	e := entry{At: now(), Confirmed: &confirmation{Key: o.Key, SHA256: o.SHA256}}
	if i, ok := s.index[o.Key]; ok {
		seg := s.segments[i].Segment
		e.Confirmed.Segment = &seg
	}
	s.confirm(o, e.At)
	// The file goes even when the journal does not take the entry: on a full disk, that makes room for both.
	err := s.record(e)
	if gone := os.Remove(o.Path); !errors.Is(gone, fs.ErrNotExist) {
		err = errors.Join(err, gone)
	}
	if err != nil {
		return fmt.Errorf("confirm %s: %w", o.Key, err)
	}
	return nil
}

func (s *Spool) confirm(o Object, at time.Time) {
	s.drop(o)
	if i, ok := s.index[o.Key]; ok {
		s.segments[i].Confirmed = true
		s.confirmedAt = at
		s.totals.uploaded += s.segments[i].Packets
		s.totals.uploadedBytes += uint64(s.segments[i].Bytes)
	}
}

// Waiting is every object that the store has not confirmed: segments by number, then checkpoints by number, then the
// manifest.
func (s *Spool) Waiting() []Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.inOrder()
}

func (s *Spool) inOrder() []Object {
	rank := map[Kind]int{Segment: 0, Checkpoint: 1, Manifest: 2}
	var all []Object
	for _, o := range s.waiting {
		all = append(all, o)
	}
	slices.SortFunc(all, func(a, b Object) int {
		if a.Kind != b.Kind {
			return rank[a.Kind] - rank[b.Kind]
		}
		return a.Seq - b.Seq
	})
	return all
}

// Room is how many more bytes of segments the spool may take, less those that the writer has not sealed yet. It never
// waits for the disk.
func (s *Spool) Room() int64 { return s.limit - s.used.Load() }

// Segments is everything that was sealed, by number.
func (s *Spool) Segments() []events.Segment {
	s.mu.Lock()
	defer s.mu.Unlock()
	sorted := make([]events.Segment, 0, len(s.segments))
	for _, h := range s.segments {
		sorted = append(sorted, h.Segment)
	}
	slices.SortFunc(sorted, func(a, b events.Segment) int { return a.Seq - b.Seq })
	return sorted
}

// Totals is what is sealed and what is uploaded at this moment.
func (s *Spool) Totals() Totals {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.totals
}

// Begin notes how the clock stood when capturing began. After a restart, what was noted first holds.
func (s *Spool) Begin(clock events.Clock) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.clock != nil {
		return nil
	}
	s.clock = &clock
	return s.record(entry{Clock: &clock})
}

// Progress is what a checkpoint says besides what the spool knows itself.
type Progress struct {
	State string
	Tally events.Tally
	Host  map[string]uint64 // as in events.Checkpoint
	Note  string
	Clock *events.Clock // how it stands at the end; the first checkpoint has what Begin has noted
}

// Checkpoint makes the next checkpoint. It is to be shipped also when an error says that the disk did not take it.
func (s *Spool) Checkpoint(p Progress) (Object, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	pending := 0
	for _, seg := range s.segments {
		if !seg.Confirmed {
			pending++
		}
	}
	link, err := s.chain.link()
	if err != nil {
		return Object{}, fmt.Errorf("make checkpoint %d: %w", s.checkpoints+1, err)
	}
	c := events.Checkpoint{
		Version: events.RecordVersion, Capture: s.capture, UserID: s.userID, Seq: s.checkpoints + 1, At: now(),
		State: p.State, Tally: p.Tally, Segments: len(s.segments), Pending: pending, Previous: s.lastDigest, Note: p.Note,
		Records: s.chain.unreported, Chain: link, Clock: p.Clock, Confirmed: s.confirmedAt, Host: p.Host,
	}
	if c.Clock == nil && c.Seq == 1 {
		c.Clock = s.clock
	}
	data, err := canonical(c)
	if err != nil {
		return Object{}, fmt.Errorf("make checkpoint %d: %w", c.Seq, err)
	}
	digest := digestOf(data)
	o := s.checkpointObject(c.Seq, digest, data)
	s.checkpoints, s.lastDigest, s.chain.unreported = c.Seq, digest, nil
	s.waiting[o.Key] = o
	err = errors.Join(
		writeFile(o.Path, data),
		s.record(entry{Checkpoint: &checkpointRecord{Seq: c.Seq, SHA256: digest, Tally: p.Tally}}))
	if err != nil {
		return o, fmt.Errorf("keep checkpoint %d: %w", c.Seq, err)
	}
	return o, nil
}

func (s *Spool) checkpointObject(seq int, digest string, data []byte) Object {
	key := events.CheckpointKey(s.capture, s.userID, seq, digest)
	return Object{
		Kind: Checkpoint, Seq: seq, Key: key, ContentType: jsonType, SHA256: digest, Bytes: int64(len(data)),
		Path: filepath.Join(s.dir, checkpointsDir, filepath.Base(key)), Data: data,
	}
}

// Conclude says the last word: it completes the manifest with what the spool knows and keeps it. It is to be shipped
// also when an error says that the disk did not take it.
func (s *Spool) Conclude(m events.CollectorManifest) (Object, error) {
	segments := s.Segments()
	s.mu.Lock()
	defer s.mu.Unlock()
	m.Version, m.Capture, m.UserID = events.RecordVersion, s.capture, s.userID
	m.Started, m.Ended = s.begun, now()
	m.Segments = append([]events.Segment{}, segments...) // an empty list, not null
	m.Checkpoints, m.LastCheckpoint = s.checkpoints, s.lastDigest
	m.Superseded = s.chain.superseded
	clocks := events.Clocks{Start: s.clock}
	if m.Clock != nil {
		clocks.End = m.Clock.End
	}
	if m.Clock = nil; clocks != (events.Clocks{}) {
		m.Clock = &clocks
	}
	var err error
	if m.Chain, err = s.chain.link(); err != nil {
		return Object{}, fmt.Errorf("make manifest: %w", err)
	}
	data, err := canonical(m)
	if err != nil {
		return Object{}, fmt.Errorf("make manifest: %w", err)
	}
	s.manifest = digestOf(data)
	o := s.manifestObject(s.manifest, data)
	s.waiting[o.Key] = o
	if err := errors.Join(writeFile(o.Path, data), s.record(entry{Manifest: s.manifest})); err != nil {
		return o, fmt.Errorf("keep manifest: %w", err)
	}
	return o, nil
}

func (s *Spool) manifestObject(digest string, data []byte) Object {
	return Object{
		Kind: Manifest, Key: events.CollectorManifestKey(s.capture, s.userID), ContentType: jsonType, SHA256: digest,
		Bytes: int64(len(data)), Path: filepath.Join(s.dir, manifestFile), Data: data,
	}
}

// Concluded is the digest of the closing manifest, or empty when there is none yet.
func (s *Spool) Concluded() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.manifest
}

// Stop notes why capturing ended, so that a restart does not begin again.
func (s *Spool) Stop(reason string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stop = reason
	return s.record(entry{Stop: reason})
}

// Remark notes something that whoever reads the evidence must know. Remarks outlive a crash.
func (s *Spool) Remark(text string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remarks = append(s.remarks, text)
	return s.record(entry{Remark: text})
}

// Remarks is everything noted so far, and what was cut to make room.
func (s *Spool) Remarks() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	remarks := slices.Clone(s.remarks)
	if text := s.reductions(); text != "" {
		remarks = append(remarks, text)
	}
	return remarks
}

func (s *Spool) record(e entry) error {
	if e.At.IsZero() {
		e.At = now()
	}
	return s.journal.add(e)
}

// now is the time as records carry it.
func now() time.Time { return time.Now().UTC() }

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// writeFile writes a whole file or none.
func writeFile(path string, data []byte) error {
	temporary := path + ".new"
	file, err := os.OpenFile(temporary, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	return os.Rename(temporary, path)
}

// syncDir makes the names in a directory durable.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
