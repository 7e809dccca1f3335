package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"flashtap/collector/segment"
	"flashtap/events"
)

// Relief begins when what waits has reached 7/8 of the limit, before frames find no room, and ends below 3/4, where a
// gap would end as well.
func (s *Spool) highWater() int64 { return s.limit - s.limit/8 }
func (s *Spool) lowWater() int64  { return s.limit - s.limit/4 }

const (
	// reliefTime is how long Relieve works before it leaves the rest to the next call, up to one segment more.
	reliefTime = 200 * time.Millisecond

	// reliefRetry is how long a disk is left alone that has refused something.
	reliefRetry = time.Second
)

// relief is how far the spool is with making room.
type relief struct {
	mu    sync.Mutex // held while a segment is cut
	on    bool
	retry time.Time       // not before this is a disk that has refused something asked again
	whole map[string]bool // segments, by key, that cannot be cut, or not now: true for those that never can

	acted func(what string) // told about every act on the disk; a test looks at what each leaves
}

// Relieve makes room on a spool that is nearly full, as events.SpoolHeaders says: the oldest segments of which no
// attempt to send has begun are cut to the headers of their packets, each under the same number. done says in words
// what was cut, for the next checkpoint; Remarks and the manifest say it as well.
//
// It is to be called a few times a second, and costs nothing when there is nothing to do. When there is, it takes a
// fifth of a second and one segment more. When nothing is left that may be cut, the spool fills up, and genuine frames
// are not written, as without it.
func (s *Spool) Relieve() (done []string, err error) {
	if !s.relief.mu.TryLock() {
		return nil, nil // somebody is at it
	}
	defer s.relief.mu.Unlock()
	began := time.Now()
	if s.used.Load() >= s.highWater() {
		s.relief.on = true
	}
	if !s.relief.on || began.Before(s.relief.retry) {
		return nil, nil
	}
	for s.used.Load() >= s.lowWater() {
		o, ok := s.oldestUntried()
		if !ok {
			break
		}
		text, err := s.reduce(o)
		if text != "" {
			done = append(done, text)
		}
		if err != nil {
			s.relief.retry = time.Now().Add(reliefRetry)
			return done, err
		}
		if time.Since(began) >= reliefTime {
			return done, nil
		}
	}
	s.relief.on = false
	return done, nil
}

// oldestUntried is the next segment to be cut.
func (s *Spool) oldestUntried() (oldest Object, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.manifest != "" {
		return Object{}, false // which states what each segment is
	}
	for key, o := range s.waiting {
		_, passed := s.relief.whole[key]
		if o.Kind != Segment || o.Tried || passed || s.segments[s.index[key]].Reduced > 0 {
			continue
		}
		if !ok || o.Seq < oldest.Seq {
			oldest, ok = o, true
		}
	}
	if !ok { // those that the disk has refused have their next turn
		maps.DeleteFunc(s.relief.whole, func(_ string, never bool) bool { return !never })
	}
	return oldest, ok
}

// reduce cuts one segment to its headers, and says so in words when that was worth something.
//
// A copy is made first, under a hidden name. The line in the journal decides: before it, the copy is nothing, and a
// restart removes it; after it, the copy is the segment, and a restart finishes what is left to do. So a crash leaves
// either the one or the other.
func (s *Spool) reduce(o Object) (string, error) {
	f, cut, err := segment.Reduce(o.Path)
	if err != nil || cut == 0 {
		s.pass(o.Key, err == nil || changed(err)) // Claim sets aside what is damaged
		return "", err
	}
	s.acted("copied")
	s.mu.Lock()
	defer s.mu.Unlock()
	copied := filepath.Join(s.SegmentDir(), segment.ReducingName(o.Seq))
	if now, ok := s.waiting[o.Key]; !ok || now.Tried || s.manifest != "" {
		return "", os.Remove(copied) // it was claimed meanwhile
	}
	before := s.segments[s.index[o.Key]].Segment
	after := before
	after.Key, after.SHA256 = events.SegmentKey(s.capture, s.userID, f.Seq, f.SHA256), f.SHA256
	after.Bytes, after.Truncated, after.Reduced = f.Bytes, f.Truncated, cut
	after.Replaces = before.SHA256
	after, err = s.chain.next(after)
	if err != nil {
		s.relief.pass(o.Key, false)
		return "", errors.Join(err, os.Remove(copied))
	}
	at := now()
	if err := s.journal.addNow(entry{At: at, Reduced: &replacement{Was: before, Is: after}}); err != nil {
		s.relief.pass(o.Key, false)
		return "", errors.Join(fmt.Errorf("note that segment %d is reduced: %w", o.Seq, err), os.Remove(copied))
	}
	s.acted("noted")
	s.replace(before.Key, after, at)
	if err := s.takePlace(copied, f.Path, o.Path); err != nil {
		return "", fmt.Errorf("reduce segment %d: %w", o.Seq, errors.Join(err, s.putBack(after, before)))
	}
	return fmt.Sprintf("spool nearly full: segment %d was cut to its packets' headers, from %d to %d bytes; %d of %d packets became shorter",
		o.Seq, before.Bytes, after.Bytes, cut, after.Packets), nil
}

// takePlace gives a copy its name, and removes the file whose place it takes when nothing can bring that back.
func (s *Spool) takePlace(copied, path, old string) error {
	if err := os.Rename(copied, path); err != nil {
		return err
	}
	s.acted("named")
	if err := syncDir(s.SegmentDir()); err != nil {
		return err
	}
	if err := os.Remove(old); err != nil {
		return err
	}
	s.acted("removed")
	return nil
}

// putBack makes a segment whole again whose copy could not take its place. Its file is there: it is the last to go. The
// chain only grows, so the segment has a third record from then on.
func (s *Spool) putBack(after, before events.Segment) error {
	at := now()
	path := s.waiting[after.Key].Path
	before.Replaces = after.SHA256
	before, err := s.chain.next(before)
	s.replace(after.Key, before, at)
	s.relief.pass(before.Key, false)
	err = errors.Join(err, s.record(entry{At: at, Reduced: &replacement{Was: after, Is: before}}))
	for _, copied := range []string{filepath.Join(s.SegmentDir(), segment.ReducingName(after.Seq)), path} {
		if gone := os.Remove(copied); !errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, gone)
		}
	}
	return err
}

// replace puts a segment in the place of another that waits, or puts that one back.
func (s *Spool) replace(key string, seg events.Segment, at time.Time) {
	i := s.index[key]
	h, old := &s.segments[i], s.waiting[key]
	before, whole := h.Segment, h.captured()
	s.chain.supersede(before)
	s.chain.join(seg)
	if whole.Key == seg.Key {
		*h = held{Segment: seg}
	} else {
		*h = held{Segment: seg, whole: &whole, reduced: at}
	}
	s.used.Add(seg.Bytes - before.Bytes)
	s.totals.sealedBytes += uint64(seg.Bytes) - uint64(before.Bytes)
	s.totals.reduced += seg.Reduced - before.Reduced
	delete(s.waiting, key)
	delete(s.index, key)
	delete(s.replaced, seg.Key)
	s.waiting[seg.Key], s.index[seg.Key], s.replaced[key] = s.segmentObject(seg, old.Tried), i, seg.Key
	if s.unread[key] {
		delete(s.unread, key)
		s.unread[seg.Key] = true
	}
}

func (s *Spool) pass(key string, never bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.relief.pass(key, never)
}

// pass leaves a segment whole, for good or until all others had their turn. The caller holds the spool's mu.
func (r *relief) pass(key string, never bool) {
	if r.whole == nil {
		r.whole = map[string]bool{}
	}
	r.whole[key] = never
}

// acted tells a test what was done.
func (s *Spool) acted(what string) {
	if s.relief.acted != nil {
		s.relief.acted(what)
	}
}

// reductions says what was cut to make room; empty: nothing. The manifest's segments say how much of each.
func (s *Spool) reductions() string {
	var numbers []int
	var packets uint64
	var first, last time.Time
	for _, h := range s.segments {
		if h.whole == nil {
			continue
		}
		numbers = append(numbers, h.Seq)
		packets += h.Reduced
		if first.IsZero() || h.reduced.Before(first) {
			first = h.reduced
		}
		if h.reduced.After(last) {
			last = h.reduced
		}
	}
	if len(numbers) == 0 {
		return ""
	}
	return fmt.Sprintf("spool nearly full, and the store does not take what waits: between %s and %s, segments %s were cut to their packets' headers before they were sent; %d packets became shorter",
		first.Format(time.RFC3339), last.Format(time.RFC3339), ranges(numbers), packets)
}

// ranges writes numbers as people do: 1-3, 7.
func ranges(numbers []int) string {
	slices.Sort(numbers)
	var parts []string
	for i := 0; i < len(numbers); {
		j := i
		for j+1 < len(numbers) && numbers[j+1] == numbers[j]+1 {
			j++
		}
		if i == j {
			parts = append(parts, fmt.Sprint(numbers[i]))
		} else {
			parts = append(parts, fmt.Sprintf("%d-%d", numbers[i], numbers[j]))
		}
		i = j + 1
	}
	return strings.Join(parts, ", ")
}
