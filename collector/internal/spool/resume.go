package spool

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"flashtap/collector/segment"
	"flashtap/events"
)

// Resumed is what a restart has found.
type Resumed struct {
	Last  time.Time    // of the last thing noted before the end of the process before
	Tally events.Tally // as far as it is known
	Stop  string       // why capturing had ended; empty: it had not
}

// Resumed says what was found when the spool was opened; nil when it was new.
func (s *Spool) Resumed() *Resumed { return s.resumed }

// report is what the last checkpoint before a restart said.
type report struct {
	seq   int
	at    time.Time
	tally events.Tally
}

// load reads the journal and, when there was one, brings the spool in order.
func (s *Spool) load() error {
	if err := segment.RemoveSpares(s.SegmentDir()); err != nil {
		return err
	}
	path := filepath.Join(s.dir, journalFile)
	data, err := os.ReadFile(path)
	there := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read journal: %w", err)
	}
	found, err := readJournal(data, s.check)
	if err != nil {
		return err
	}
	strays, err := os.ReadDir(s.SegmentDir())
	if err != nil {
		return err
	}
	switch {
	case len(found.entries) == 0 && len(strays) > 0 && !there:
		return fmt.Errorf("it holds %s but no journal that says to which capture that belongs", strays[0].Name())
	case len(found.entries) == 0 && len(strays) == 0 && !found.damaged():
		return s.begin(path)
	case len(found.entries) == 0 || found.damaged():
		if err := s.mend(path, &found); err != nil {
			return fmt.Errorf("put a damaged journal aside: %w", err)
		}
	}
	if s.journal, err = openJournal(path, len(found.lines)); err != nil {
		return err
	}
	return s.resume(found.entries)
}

// begin makes a new journal.
func (s *Spool) begin(path string) (err error) {
	if s.journal, err = openJournal(path, 0); err != nil {
		return err
	}
	s.begun = now()
	return errors.Join(s.record(entry{At: s.begun, Begin: s.beginning()}), syncDir(s.dir))
}

func (s *Spool) beginning() *beginning {
	return &beginning{Version: events.RecordVersion, Capture: s.capture, UserID: s.userID}
}

// mend makes a journal of those lines of a damaged one that can be read, and keeps the damaged one. What no line says
// any more, resume looks for on the disk.
func (s *Spool) mend(path string, found *reading) error {
	kept, err := s.asideName(journalFile)
	if err != nil {
		return err
	}
	if err := os.Link(path, kept); err != nil { // a name more, so that there is a journal at any time
		return err
	}
	if err := syncDir(filepath.Dir(kept)); err != nil {
		return err
	}
	found.damage.Kept = filepath.Join(damagedDir, filepath.Base(kept))
	at := now()
	begin := entry{At: at, Begin: s.beginning()}
	var lines []byte
	if len(found.entries) > 0 {
		begin.At = found.entries[0].At
	}
	if len(found.entries) == 0 || found.entries[0].Begin == nil {
		if lines, err = appendLine(nil, begin); err != nil {
			return err
		}
		found.entries = append([]entry{begin}, found.entries...)
	}
	last := entry{At: at, Damaged: &found.damage}
	if lines, err = appendLine(append(lines, found.lines...), last); err != nil {
		return err
	}
	found.entries, found.lines = append(found.entries, last), lines
	if err := writeFile(path, lines); err != nil {
		return err
	}
	return syncDir(s.dir)
}

// resume goes on where the process before has stopped.
func (s *Spool) resume(entries []entry) error {
	s.begun = entries[0].At
	last := s.replay(entries)
	s.resumed = &Resumed{Last: entries[len(entries)-1].At, Stop: s.stop}
	if err := s.record(entry{Resume: true}); err != nil {
		return err
	}
	if s.manifest == "" {
		if err := s.Remark(s.crash(last.at)); err != nil {
			return err
		}
	}
	if err := errors.Join(s.finishReductions(), s.reconcileReports(&last), s.reconcileSegments()); err != nil {
		return err
	}
	s.resumed.Tally = s.reckon(last.tally)
	if err := s.noteLosses(last.tally); err != nil {
		return err
	}
	if s.doubt == nil {
		return nil
	}
	if s.manifest == "" { // which says what the chain is
		if err := s.beginAnew(); err != nil {
			return err
		}
	}
	s.mended()
	return s.record(entry{Mended: true})
}

// crash says what is not known about a capture whose process ended without its closing manifest.
func (s *Spool) crash(reported time.Time) string {
	text := fmt.Sprintf("crash: the collector ended without a word after %s and began again at %s; not accounted are datagrams received but not yet on disk",
		s.resumed.Last.Format(time.RFC3339), now().Format(time.RFC3339))
	if s.stop == "" {
		text += ", datagrams that arrived in between"
	}
	if reported.IsZero() {
		return text + ", and datagrams rejected"
	}
	return text + ", and datagrams rejected since " + reported.Format(time.RFC3339)
}

// check says whether an entry is one that this spool may have written. A line with the right checksum that is about
// another collector was not damaged: it is another collector's (errForeign).
func (s *Spool) check(e entry) error {
	if b := e.Begin; b != nil {
		if b.Version != events.RecordVersion {
			return fmt.Errorf("%w: it has version %d, this program writes version %d", errForeign, b.Version, events.RecordVersion)
		}
		if b.Capture != s.capture || b.UserID != s.userID {
			return fmt.Errorf("%w: it belongs to collector %s of capture %s, not to %s of %s", errForeign, b.UserID, b.Capture, s.userID, s.capture)
		}
	}
	var errs []error
	key := func(key string) events.ObjectRef {
		ref, err := events.ParseObjectKey(key)
		if err == nil && (ref.Capture != s.capture || ref.UserID != s.userID) {
			err = fmt.Errorf("%w: it names %s", errForeign, key)
		}
		errs = append(errs, err)
		return ref
	}
	seg := func(seg events.Segment) {
		ref := key(seg.Key)
		if ref.Kind != "segments" || ref.Seq != seg.Seq || ref.SHA256 != seg.SHA256 || !plausible(seg) {
			errs = append(errs, fmt.Errorf("segment %d can't be what it is said to be", seg.Seq))
		}
	}
	if e.Sealed != nil {
		seg(*e.Sealed)
	}
	if e.Tried != "" {
		key(e.Tried)
	}
	if r := e.Reduced; r != nil {
		seg(r.Was)
		seg(r.Is)
		if r.Was.Seq != r.Is.Seq {
			errs = append(errs, errors.New("a segment takes the place of another number"))
		}
	}
	for _, record := range e.Anew {
		seg(record)
	}
	if c := e.Checkpoint; c != nil {
		key(events.CheckpointKey(s.capture, s.userID, c.Seq, c.SHA256))
	}
	if c := e.Confirmed; c != nil {
		if c.Key != events.CollectorManifestKey(s.capture, s.userID) {
			key(c.Key)
		}
		if c.Segment != nil {
			seg(*c.Segment)
		}
	}
	return errors.Join(errs...)
}

// plausible says whether a segment may have the numbers that an entry gives it. A segment that a single frame fills may
// be larger than any is to be.
func plausible(seg events.Segment) bool {
	return seg.Bytes > 0 && seg.Bytes <= 2*events.MaxSegmentBytes && seg.Packets <= uint64(seg.Bytes) &&
		segment.FrameBytes(seg.Bytes, seg.Packets) <= uint64(seg.Bytes) && // no wrap below zero
		seg.Truncated <= seg.Packets && seg.Reduced <= seg.Packets
}

// replay brings back the state that the entries describe, and the last checkpoint.
func (s *Spool) replay(entries []entry) (last report) {
	for _, e := range entries {
		switch {
		case e.Sealed != nil:
			if _, known := s.index[e.Sealed.Key]; !known {
				s.hold(*e.Sealed, s.doubt != nil)
				s.unread[e.Sealed.Key] = true
			}
		case e.Tried != "":
			if o, ok := s.waiting[e.Tried]; ok {
				o.Tried = true
				s.waiting[e.Tried] = o
			}
		case e.Reduced != nil:
			s.replayReduced(*e.Reduced, e.At)
		case e.Checkpoint != nil:
			o := s.checkpointObject(e.Checkpoint.Seq, e.Checkpoint.SHA256, nil)
			o.Tried = true
			s.waiting[o.Key] = o
			s.follow(o.Seq, o.SHA256)
			s.chain.unreported = nil
			last.update(report{e.Checkpoint.Seq, e.At, e.Checkpoint.Tally})
		case e.Confirmed != nil:
			s.replayConfirmed(*e.Confirmed, e.At)
		case e.Manifest != "":
			s.manifest = e.Manifest
			o := s.manifestObject(e.Manifest, nil)
			o.Tried = true
			s.waiting[o.Key] = o
		case e.Remark != "":
			s.remarks = append(s.remarks, e.Remark)
		case e.Stop != "":
			s.stop = e.Stop
		case e.Damaged != nil:
			s.distrust(e.Damaged)
		case e.Mended && s.doubt != nil:
			s.mended()
		case e.Anew != nil:
			s.chained(e.Anew)
		case e.Clock != nil && s.clock == nil:
			s.clock = e.Clock
		}
	}
	return last
}

// replayReduced puts a segment in the place of another, also of one that no readable line has named before.
func (s *Spool) replayReduced(r replacement, at time.Time) {
	if _, known := s.index[r.Is.Key]; known {
		return
	}
	if _, known := s.index[r.Was.Key]; !known {
		s.hold(r.Was, true)
		s.unread[r.Was.Key] = true
	}
	if _, waits := s.waiting[r.Was.Key]; waits {
		s.replace(r.Was.Key, r.Is, at)
	}
}

func (r *report) update(other report) {
	if other.seq >= r.seq {
		*r = other
	}
}

// follow remembers the last checkpoint, which the next one names.
func (s *Spool) follow(seq int, digest string) {
	if seq >= s.checkpoints {
		s.checkpoints, s.lastDigest = seq, digest
	}
}

// replayConfirmed takes an object for confirmed, also one that no readable line has named before.
func (s *Spool) replayConfirmed(c confirmation, at time.Time) {
	o, ok := s.waiting[c.Key]
	if ok {
		s.confirm(o, at)
		return
	}
	if _, known := s.index[c.Key]; known || s.replaced[c.Key] != "" {
		return
	}
	switch ref, err := events.ParseObjectKey(c.Key); {
	case c.Segment != nil:
		if twin, waits := s.twin(*c.Segment); waits { // the line is lost that says it was cut
			s.replace(twin.Key, *c.Segment, at)
		} else {
			s.hold(*c.Segment, true)
		}
		s.confirm(s.waiting[c.Segment.Key], at)
	case err != nil:
		s.manifest = c.SHA256
	case ref.Kind == "checkpoints":
		s.follow(ref.Seq, ref.SHA256)
	}
}

// twin is the segment that waits with the same packets: the one is the other, cut to its headers.
func (s *Spool) twin(seg events.Segment) (events.Segment, bool) {
	for _, h := range s.segments {
		_, waits := s.waiting[h.Key]
		if waits && h.Seq == seg.Seq && h.Packets == seg.Packets && h.First.Equal(seg.First) && h.Last.Equal(seg.Last) {
			return h.Segment, true
		}
	}
	return events.Segment{}, false
}

// distrust takes note that entries are missing: what is known may have been sent, and numbers may be taken that no
// entry names.
func (s *Spool) distrust(d *damage) {
	s.doubt = d
	for key, o := range s.waiting {
		o.Tried = true
		s.waiting[key] = o
	}
	s.taken = max(s.taken, d.Segments)
	s.remarks = append(s.remarks, fmt.Sprintf("the spool's journal was damaged: %d stretches of altogether %d bytes could not be read; it is kept as %s, and the state was made anew from the rest and from the files on disk; numbers of segments and checkpoints up to %d and %d may be missing",
		d.Stretches, d.Bytes, d.Kept, d.Segments, d.Checkpoints))
}

// mended ends the doubt: everything on the disk has been looked at.
func (s *Spool) mended() {
	s.checkpoints = max(s.checkpoints, s.doubt.Checkpoints)
	s.doubt = nil
}

// finishReductions does what a crash has kept from being done after a segment was cut to its headers.
func (s *Spool) finishReductions() error {
	for _, h := range slices.Clone(s.segments) {
		o, ok := s.waiting[h.Key]
		if h.whole == nil || !ok {
			continue
		}
		old, copied := s.segmentObject(*h.whole, false).Path, filepath.Join(s.SegmentDir(), segment.ReducingName(h.Seq))
		whole, err := exists(old)
		if err != nil {
			return err
		}
		if done, err := exists(o.Path); err != nil || done && !whole {
			if err != nil {
				return err
			}
			continue
		}
		if hasDigest(o.Path, o.SHA256) || hasDigest(copied, o.SHA256) && os.Rename(copied, o.Path) == nil {
			if err := syncDir(s.SegmentDir()); err != nil {
				return err
			}
			if err := os.Remove(old); !errors.Is(err, fs.ErrNotExist) && err != nil {
				return err
			}
			continue
		}
		if whole {
			if err := s.putBack(h.Segment, *h.whole); err != nil {
				return err
			}
		}
	}
	return nil
}

// hasDigest says whether there is a file with these bytes.
func hasDigest(path, sha string) bool {
	file, err := os.Open(path)
	if err != nil {
		return false
	}
	defer file.Close()
	digest := sha256.New()
	_, err = io.Copy(digest, file)
	return err == nil && hex.EncodeToString(digest.Sum(nil)) == sha
}

func exists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// reconcileReports reads the checkpoints and the manifest that still wait, and removes what no entry names: a crash
// between writing a file and noting it leaves one that was never sent. After damage to the journal, it may have been.
func (s *Spool) reconcileReports(last *report) error {
	for _, o := range s.inOrder() {
		if o.Kind == Segment {
			continue
		}
		data, err := os.ReadFile(o.Path)
		if err != nil || digestOf(data) != o.SHA256 {
			s.drop(o)
			if err := s.Remark(fmt.Sprintf("%s %d was not on disk after a restart, and is not known to be in the store", o.Kind, o.Seq)); err != nil {
				return err
			}
			continue
		}
		o.Data, o.Bytes = data, int64(len(data))
		s.waiting[o.Key] = o
	}
	dir := filepath.Join(s.dir, checkpointsDir)
	files, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		path := filepath.Join(dir, f.Name())
		if s.holdsPath(path) {
			continue
		}
		if s.doubt != nil {
			if err := s.adoptCheckpoint(path, last); err != nil {
				return err
			}
			continue
		}
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	if s.doubt != nil && s.manifest == "" {
		return s.adoptManifest()
	}
	return nil
}

// adoptCheckpoint takes a checkpoint in of which a damaged journal says nothing any more.
func (s *Spool) adoptCheckpoint(path string, last *report) error {
	ref, err := events.ParseObjectKey(events.CheckpointsPrefix(s.capture, s.userID) + filepath.Base(path))
	if err != nil {
		return s.setAside(path, "is no checkpoint by its name")
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var c events.Checkpoint
	if digestOf(data) != ref.SHA256 || json.Unmarshal(data, &c) != nil || c.Capture != s.capture || c.UserID != s.userID || c.Seq != ref.Seq {
		return s.setAside(path, "its bytes are not those of the checkpoint that its name states")
	}
	o := s.checkpointObject(ref.Seq, ref.SHA256, data)
	o.Tried = true
	s.waiting[o.Key] = o
	s.follow(o.Seq, o.SHA256)
	last.update(report{c.Seq, c.At, c.Tally})
	return s.record(entry{At: c.At, Checkpoint: &checkpointRecord{Seq: o.Seq, SHA256: o.SHA256, Tally: c.Tally}})
}

// adoptManifest does the same for the closing manifest.
func (s *Spool) adoptManifest() error {
	path := filepath.Join(s.dir, manifestFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var m events.CollectorManifest
	if json.Unmarshal(data, &m) != nil || m.Capture != s.capture || m.UserID != s.userID {
		return s.setAside(path, "it is no closing manifest of this collector")
	}
	s.manifest = digestOf(data)
	o := s.manifestObject(s.manifest, data)
	o.Tried = true
	s.waiting[o.Key] = o
	return s.record(entry{Manifest: s.manifest})
}

// reconcileSegments compares the segments on disk with those of the journal.
func (s *Spool) reconcileSegments() error {
	missing := map[int]Object{}
	for _, o := range s.inOrder() {
		if o.Kind != Segment {
			continue
		}
		there, err := exists(o.Path)
		if err != nil {
			return err
		}
		if !there {
			missing[o.Seq] = o
		}
	}
	files, err := os.ReadDir(s.SegmentDir())
	if err != nil {
		return err
	}
	for _, path := range s.unknown(files) {
		if err := s.takeIn(path, missing); err != nil {
			return err
		}
	}
	for _, o := range s.inOrder() {
		if m, ok := missing[o.Seq]; !ok || m.Key != o.Key {
			continue
		}
		s.drop(o)
		if err := s.Remark(fmt.Sprintf("segment %d was not on disk after a restart, and is not known to be in the store", o.Seq)); err != nil {
			return err
		}
	}
	return nil
}

// unknown are the files that no entry names: open segments first, then sealed ones, each by number and of one number
// the largest first, then everything else.
func (s *Spool) unknown(files []fs.DirEntry) []string {
	type file struct {
		path      string
		rank, seq int
		bytes     int64
	}
	var list []file
	for _, f := range files {
		u := file{path: filepath.Join(s.SegmentDir(), f.Name()), rank: 2}
		if s.holdsPath(u.path) {
			continue
		}
		if info, err := f.Info(); err == nil {
			u.bytes = info.Size()
		}
		if seq, digest, ok := segment.ParseName(u.path); ok {
			u.seq, u.rank = seq, 0
			if digest != "" {
				u.rank = 1
			}
		}
		list = append(list, u)
	}
	slices.SortStableFunc(list, func(a, b file) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.seq, b.seq), cmp.Compare(b.bytes, a.bytes))
	})
	var paths []string
	for _, f := range list {
		paths = append(paths, f.path)
	}
	return paths
}

// takeIn decides about a file of which the journal says nothing, or that it is confirmed. missing are the segments,
// by number, that the journal names and the disk has not.
func (s *Spool) takeIn(path string, missing map[int]Object) error {
	if seq, ok := segment.ParseReducingName(path); ok {
		if s.onDisk(seq, missing) {
			return os.Remove(path) // the crash came before it was noted
		}
		return s.setAside(path, "is part of a segment that is not there")
	}
	seq, digest, ok := segment.ParseName(path)
	switch {
	case !ok:
		return s.setAside(path, "is no segment by its name")
	case digest != "" && s.confirmed(seq, digest):
		return os.Remove(path) // the crash came between the confirmation and this
	case digest != "":
		file, err := segment.Inspect(path)
		if err != nil {
			if !changed(err) {
				return err
			}
			return s.setAside(path, err.Error())
		}
		return s.addUnknown(file, missing)
	}
	file, cut, err := segment.Recover(path)
	switch {
	case errors.Is(err, segment.ErrEmpty):
		return nil
	case err != nil:
		return s.setAside(path, err.Error())
	}
	if cut > 0 {
		if err := s.Remark(fmt.Sprintf("segment %d: the last %d bytes were no whole record after a crash and are left out", seq, cut)); err != nil {
			return err
		}
	}
	_, err = s.Add(file)
	return err
}

// addUnknown takes in a sealed segment that no entry names, unless it holds the same packets as one that is there: then
// it is what is left of cutting one to its headers.
func (s *Spool) addUnknown(file segment.File, missing map[int]Object) error {
	twin, waits := s.twin(s.describe(file))
	switch {
	case !waits:
		_, err := s.Add(file)
		return err
	case missing[file.Seq].Key != twin.Key:
		return s.setAside(file.Path, "it holds the packets of a segment that is there as well")
	}
	delete(missing, file.Seq)
	seg := twin
	seg.Key, seg.SHA256 = events.SegmentKey(s.capture, s.userID, file.Seq, file.SHA256), file.SHA256
	seg.Bytes, seg.Truncated = file.Bytes, file.Truncated
	// At least so many: one that was cut on the way and again here counts as cut before.
	seg.Reduced += seg.Truncated - min(twin.Truncated, seg.Truncated)
	seg.Replaces = twin.SHA256
	seg, err := s.chain.next(seg)
	if err != nil {
		return err
	}
	at := now()
	s.replace(twin.Key, seg, at)
	return s.record(entry{At: at, Reduced: &replacement{Was: twin, Is: seg}})
}

// onDisk says whether a segment of that number is there or in the store.
func (s *Spool) onDisk(seq int, missing map[int]Object) bool {
	for _, h := range s.segments {
		if h.Seq == seq && (h.Confirmed || missing[seq].Key != h.Key) {
			return true
		}
	}
	return false
}

// setAside moves a file out of the way that cannot be shipped. It is not removed: somebody may still read it.
func (s *Spool) setAside(path, reason string) error {
	name := strings.TrimPrefix(filepath.Base(path), ".")
	to, err := s.asideName(name)
	if err != nil {
		return err
	}
	return errors.Join(os.Rename(path, to),
		s.Remark(fmt.Sprintf("%s could not be read after a restart and was not shipped: %s", name, reason)))
}

// asideName is a name under damaged/ that no file has.
func (s *Spool) asideName(name string) (string, error) {
	dir := filepath.Join(s.dir, damagedDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	path := filepath.Join(dir, name)
	for n := 2; ; n++ {
		there, err := exists(path)
		if err != nil || !there {
			return path, err
		}
		path = filepath.Join(dir, fmt.Sprintf("%s.%d", name, n))
	}
}

func (s *Spool) holdsPath(path string) bool {
	for _, o := range s.waiting {
		if o.Path == path {
			return true
		}
	}
	return false
}

func (s *Spool) confirmed(seq int, digest string) bool {
	i, ok := s.index[events.SegmentKey(s.capture, s.userID, seq, digest)]
	return ok && s.segments[i].Confirmed
}

// reckon goes on from the tally of the last checkpoint. What was written is no matter of memory: it is what the
// segments held when they were captured. Datagrams that were received after that checkpoint and rejected are not known
// to anybody any more.
func (s *Spool) reckon(t events.Tally) events.Tally {
	t.Written, t.WrittenBytes, t.Truncated = 0, 0, 0
	for _, h := range s.segments {
		seg := h.captured()
		t.Written += seg.Packets
		t.WrittenBytes += segment.FrameBytes(seg.Bytes, seg.Packets)
		t.Truncated += seg.Truncated
	}
	t.Received = t.Written + t.Rejected.Total() + t.Unwritten
	return s.totals.Fill(t)
}

// noteLosses counts frames as unwritten that a checkpoint had reported as written, and that no segment holds: the
// machine went down before they were on disk.
func (s *Spool) noteLosses(before events.Tally) error {
	if before.Written <= s.resumed.Tally.Written {
		return nil
	}
	lost := before.Written - s.resumed.Tally.Written
	s.resumed.Tally.Unwritten += lost
	s.resumed.Tally.Received += lost
	text := fmt.Sprintf("%d frames that a checkpoint had counted as written were not on disk after a restart", lost)
	if s.doubt != nil {
		text += "; those may be in the store of which the journal says no more that they are"
	}
	return s.Remark(text)
}
