package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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

// load reads the journal and, when there was one, brings the spool in order.
func (s *Spool) load() error {
	journal, entries, err := openJournal(filepath.Join(s.dir, journalFile))
	if err != nil {
		return err
	}
	s.journal = journal
	if len(entries) == 0 {
		if err := s.refuseStrays(); err != nil {
			return err
		}
		s.begun = now()
		return s.record(entry{Begin: &beginning{Version: events.RecordVersion, Capture: s.capture, UserID: s.userID}})
	}
	b := entries[0].Begin
	if b == nil || b.Version != events.RecordVersion {
		return errors.New("its journal is none that this version has written")
	}
	if b.Capture != s.capture || b.UserID != s.userID {
		return fmt.Errorf("it belongs to collector %s of capture %s, not to %s of %s", b.UserID, b.Capture, s.userID, s.capture)
	}
	s.begun = entries[0].At
	tally, reported := s.replay(entries)
	s.resumed = &Resumed{Last: entries[len(entries)-1].At, Stop: s.stop}
	if err := s.record(entry{Resume: true}); err != nil {
		return err
	}
	if s.manifest == "" {
		if err := s.Remark(s.crash(reported)); err != nil {
			return err
		}
	}
	if err := errors.Join(s.reconcileReports(), s.reconcileSegments()); err != nil {
		return err
	}
	s.resumed.Tally = s.reckon(tally)
	return s.noteLosses(tally)
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

// refuseStrays keeps a new journal from being begun over segments that another one had listed.
func (s *Spool) refuseStrays() error {
	files, err := os.ReadDir(s.SegmentDir())
	if err != nil {
		return err
	}
	if len(files) > 0 {
		return fmt.Errorf("it holds %s but no journal that says to which capture that belongs", files[0].Name())
	}
	return nil
}

// replay brings back the state that the entries describe, and the tally of the last checkpoint with its time.
func (s *Spool) replay(entries []entry) (last events.Tally, reported time.Time) {
	for _, e := range entries {
		switch {
		case e.Sealed != nil:
			s.hold(*e.Sealed, true)
		case e.Checkpoint != nil:
			o := s.checkpointObject(e.Checkpoint.Seq, e.Checkpoint.SHA256, nil)
			o.Tried = true
			s.waiting[o.Key] = o
			s.checkpoints, s.lastDigest = e.Checkpoint.Seq, e.Checkpoint.SHA256
			last, reported = e.Checkpoint.Tally, e.At
		case e.Confirmed != "":
			if o, ok := s.waiting[e.Confirmed]; ok {
				s.confirm(o)
			}
		case e.Manifest != "":
			s.manifest = e.Manifest
			o := s.manifestObject(e.Manifest, nil)
			o.Tried = true
			s.waiting[o.Key] = o
		case e.Remark != "":
			s.remarks = append(s.remarks, e.Remark)
		case e.Stop != "":
			s.stop = e.Stop
		}
	}
	return last, reported
}

// reconcileReports reads the checkpoints and the manifest that still wait, and removes what no entry names: a crash
// between writing a file and noting it leaves one that was never sent.
func (s *Spool) reconcileReports() error {
	for key, o := range s.waiting {
		if o.Kind == Segment {
			continue
		}
		data, err := os.ReadFile(o.Path)
		if err != nil || digestOf(data) != o.SHA256 {
			delete(s.waiting, key)
			if err := s.Remark(fmt.Sprintf("%s %d was not on disk after a restart, and is not known to be in the store", o.Kind, o.Seq)); err != nil {
				return err
			}
			continue
		}
		o.Data, o.Bytes = data, int64(len(data))
		s.waiting[key] = o
	}
	dir := filepath.Join(s.dir, checkpointsDir)
	files, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		path := filepath.Join(dir, f.Name())
		if !s.holdsPath(path) {
			if err := os.Remove(path); err != nil {
				return err
			}
		}
	}
	return nil
}

// reconcileSegments compares the segments on disk with those of the journal.
func (s *Spool) reconcileSegments() error {
	for key, o := range s.waiting {
		if _, err := os.Stat(o.Path); o.Kind == Segment && errors.Is(err, fs.ErrNotExist) {
			delete(s.waiting, key)
			if err := s.Remark(fmt.Sprintf("segment %d was not on disk after a restart, and is not known to be in the store", o.Seq)); err != nil {
				return err
			}
		}
	}
	files, err := os.ReadDir(s.SegmentDir())
	if err != nil {
		return err
	}
	for _, f := range files { // by name: open segments first, and each kind by number
		path := filepath.Join(s.SegmentDir(), f.Name())
		if s.holdsPath(path) {
			continue
		}
		if err := s.takeIn(path); err != nil {
			return err
		}
	}
	return nil
}

// takeIn decides about a file of which the journal says nothing, or that it is confirmed.
func (s *Spool) takeIn(path string) error {
	seq, digest, ok := segment.ParseName(path)
	switch {
	case !ok:
		return s.setAside(path, "is no segment by its name")
	case digest != "" && s.confirmed(seq, digest):
		return os.Remove(path) // the crash came between the confirmation and this
	case digest != "":
		file, err := segment.Inspect(path)
		if err != nil {
			return s.setAside(path, err.Error())
		}
		_, err = s.Add(file)
		return err
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

// setAside moves a file out of the way that cannot be shipped. It is not removed: somebody may still read it.
func (s *Spool) setAside(path, reason string) error {
	dir := filepath.Join(s.dir, damagedDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	name := strings.TrimPrefix(filepath.Base(path), ".")
	if err := os.Rename(path, filepath.Join(dir, name)); err != nil {
		return err
	}
	return s.Remark(fmt.Sprintf("%s could not be read after a restart and was not shipped: %s", name, reason))
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
// segments hold. Datagrams that were received after that checkpoint and rejected are not known to anybody any more.
func (s *Spool) reckon(t events.Tally) events.Tally {
	t.Written, t.WrittenBytes, t.Truncated = 0, 0, 0
	for _, seg := range s.segments {
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
	return s.Remark(fmt.Sprintf("%d frames that a checkpoint had counted as written were not on disk after a restart", lost))
}
