package evidence

import (
	"cmp"
	"slices"

	"flashtap/events"
)

// checkSegments holds every segment file against its record, and the numbers of each collector against each other.
func (v *verifier) checkSegments(m *manifest) {
	known := map[string]bool{}
	excused := len(m.Reasons) > 0
	for _, c := range m.collectors {
		for i, r := range c.segments {
			before := 0
			if i > 0 {
				before = c.segments[i-1].Seq
			}
			switch {
			case r.Seq <= before:
				v.bad(Segments, c.folder(), "segment %d comes after segment %d", r.Seq, before)
			case r.Seq > before+1 && !excused:
				v.bad(Segments, c.folder(), "segments %d to %d are missing, and no reason says so", before+1, r.Seq-1)
			}
		}
		for i, r := range c.records() {
			v.checkKey(r)
			if ref, err := events.ParseObjectKey(r.Key); err == nil && ref.UserID != c.UserID {
				v.bad(Segments, r.Key, "is listed by collector %s", c.UserID)
			}
			name, _ := v.name(r.Key)
			known[name] = true
			switch {
			case v.seen[name].walk != nil:
				v.checkSegment(name, r)
			case i < len(c.segments) && !excused:
				v.bad(Segments, name, "is missing, and no reason says so")
			}
		}
	}
	for _, r := range m.segments {
		name, _ := v.name(r.Key)
		if s := v.seen[name]; s.walk != nil {
			v.Segments, v.Packets = v.Segments+1, v.Packets+s.walk.packets
		}
	}
	for name, s := range v.seen {
		if s.walk == nil || known[name] {
			continue
		}
		if what := s.walk.end(); what != "" && slices.ContainsFunc(m.collectors, func(c collector) bool { return c.UserID == userOf(name) }) {
			v.bad(Segments, name, "%s", what)
		}
	}
}

// checkKey checks that a segment record's key is the one that its number and digest make.
func (v *verifier) checkKey(r record) {
	ref, err := events.ParseObjectKey(r.Key)
	if err != nil || ref.Kind != "segments" || ref.Capture != v.capture || ref.Seq != r.Seq || ref.SHA256 != r.SHA256 {
		v.bad(Segments, r.Key, "is not the key of segment %d with digest %s of this capture", r.Seq, r.SHA256)
	}
}

// checkSegment holds what a segment file shows against its record.
func (v *verifier) checkSegment(name string, r record) {
	s := v.seen[name]
	if s.digest != r.SHA256 {
		v.bad(Segments, name, "has the digest %s, its record says %s", s.digest, r.SHA256)
	}
	if s.bytes != r.Bytes {
		v.bad(Segments, name, "has %d bytes, its record says %d", s.bytes, r.Bytes)
	}
	if what := s.walk.end(); what != "" {
		v.bad(Segments, name, "%s", what)
		return
	}
	if s.walk.packets != r.Packets || s.walk.truncated != r.Truncated {
		v.bad(Segments, name, "has %d packets, %d of them truncated; its record says %d and %d", s.walk.packets, s.walk.truncated, r.Packets, r.Truncated)
	}
	if first, last := moment(s.walk.first), moment(s.walk.last); s.walk.packets > 0 && (!first.Equal(r.First) || !last.Equal(r.Last)) {
		v.bad(Segments, name, "is from %s to %s, its record says %s to %s", stamp(first), stamp(last), stamp(r.First), stamp(r.Last))
	}
	if back := s.walk.declared(); back != r.BackwardsNs {
		v.bad(Segments, name, "its timestamps run backwards by %d ns, its record says %d", s.walk.backwards, r.BackwardsNs)
	}
}

// faulty says that a collector names a fault, or that whether it had any was never said.
func (c *collector) faulty() bool { return c.Error != "" || c.Derived }

// checkChain checks that a collector's segment records form the chain that it states.
func (v *verifier) checkChain(c *collector) {
	records := c.records()
	if len(records) == 0 {
		if c.Chain != "" && !c.lacking {
			v.bad(Chain, c.folder(), "ends in %s, and there is no record", c.Chain)
		}
		return
	}
	byLink := map[string]int{}
	for i, r := range records {
		if other, twice := byLink[r.link]; twice {
			v.bad(Chain, c.folder(), "has the record of segment %d twice", records[other].Seq)
		}
		byLink[r.link] = i
	}
	beginnings := 0
	next := map[string]int{} // by the link that comes before
	for i, r := range records {
		if r.Previous == "" {
			beginnings++
			continue
		}
		if _, there := byLink[r.Previous]; !there && c.lacking {
			beginnings++
		} else if !there {
			v.bad(Chain, c.folder(), "segment %d follows a record with the link %s, which is none of these", r.Seq, r.Previous)
		}
		if other, twice := next[r.Previous]; twice {
			v.bad(Chain, c.folder(), "segments %d and %d follow the same record", records[other].Seq, r.Seq)
		}
		next[r.Previous] = i
	}
	if beginnings == 0 || beginnings > 1 && !c.faulty() {
		v.bad(Chain, c.folder(), "has %d beginnings, and the collector names no fault", beginnings)
	}
	_, known := byLink[c.Chain]
	_, followed := next[c.Chain]
	if !known && !c.lacking || followed {
		v.bad(Chain, c.folder(), "ends in %q, which is not the link of a last record", c.Chain)
	}
	// A record that took another's place names it.
	digests := map[int][]string{}
	for _, r := range records {
		digests[r.Seq] = append(digests[r.Seq], r.SHA256)
	}
	for _, r := range records {
		if r.Replaces != "" && !slices.Contains(digests[r.Seq], r.Replaces) && !c.lacking {
			v.bad(Chain, c.folder(), "segment %d replaces %s, of which there is no record", r.Seq, r.Replaces)
		}
	}
	for _, r := range c.superseded {
		if beginnings == 1 && !slices.ContainsFunc(records, func(s record) bool { return s.Seq == r.Seq && s.Replaces == r.SHA256 }) {
			v.bad(Chain, c.folder(), "segment %d with digest %s is superseded, and nothing replaces it", r.Seq, r.SHA256)
		}
	}
}

// points are a collector's checkpoints that could be read, by number, of those that count.
func (v *verifier) points(user string, counts func(name string) bool) []point {
	var all []point
	for name, s := range v.seen {
		if kindOf(name) == checkpointKind && userOf(name) == user && s.point != nil && s.fault == nil && counts(name) {
			all = append(all, point{s.point, name, s.digest})
		}
	}
	slices.SortFunc(all, func(a, b point) int {
		return cmp.Or(cmp.Compare(numberIn(a.name), numberIn(b.name)), cmp.Compare(a.name, b.name))
	})
	v.Report.Checkpoints += len(all)
	return all
}

// checkCheckpoints checks a collector's checkpoints. Where the capture is known to be incomplete, some may be missing.
func (v *verifier) checkCheckpoints(c *collector, excused bool) {
	counted := c.points
	whole := true
	for i, p := range c.points {
		n := numberIn(p.name)
		if !c.Derived && n > c.Checkpoints && len(counted) > i {
			counted = c.points[:i] // it follows the manifest
		}
		if p.Seq != n || p.UserID != c.UserID {
			v.bad(Checkpoints, p.name, "says that it is number %d of %q", p.Seq, p.UserID)
		}
		var before point
		if i > 0 {
			before = c.points[i-1]
		}
		if i > 0 && numberIn(before.name) == n {
			v.bad(Checkpoints, p.name, "there are two with this number")
			continue
		}
		if i == 0 && n > 1 || i > 0 && numberIn(before.name) != n-1 {
			whole = false
			if !excused {
				v.bad(Checkpoints, p.name, "the one before it is missing, and no reason says so")
			}
		} else if want := before.digest; p.Previous != want {
			v.bad(Checkpoints, p.name, "follows one with the digest %q, the one before it has %q", p.Previous, want)
		}
		if i == 0 {
			continue
		}
		if p.At.Before(before.At) {
			v.bad(Checkpoints, p.name, "is of %s, before the one before it", stamp(p.At))
		}
		if name := c.fallen(before.Tally, p.Tally); name != "" {
			v.bad(Checkpoints, p.name, "counts fewer %s than the one before it", name)
		}
	}
	last := point{}
	if len(counted) > 0 {
		last = counted[len(counted)-1]
	}
	if !c.Derived {
		v.checkLast(c, last, excused)
	}
	if last.checkpoint == nil || numberIn(last.name) < c.Checkpoints {
		whole = false
	}
	v.checkReported(c, counted, whole)
}

// checkLast holds the last checkpoint against what the collector said in its closing manifest.
func (v *verifier) checkLast(c *collector, last point, excused bool) {
	switch {
	case last.checkpoint == nil:
		if c.Checkpoints > 0 && !excused {
			v.bad(Checkpoints, c.folder(), "none of %d is there, and no reason says so", c.Checkpoints)
		}
	case numberIn(last.name) < c.Checkpoints:
		if !excused {
			v.bad(Checkpoints, c.folder(), "the last of %d is not there, and no reason says so", c.Checkpoints)
		}
	case last.digest != c.LastCheckpoint:
		v.bad(Checkpoints, last.name, "the collector says that its last has the digest %s", c.LastCheckpoint)
	}
	if last.checkpoint != nil {
		if name := c.fallen(last.Tally, c.Tally); name != "" {
			v.bad(Checkpoints, last.name, "counts more %s than the collector's manifest", name)
		}
	}
}

// checkReported holds the records in checkpoints against the chain. Where that began anew, its last beginning counts; of a collector
// without a manifest all records are known from there.
func (v *verifier) checkReported(c *collector, points []point, whole bool) {
	var all []record
	for _, p := range points {
		all = append(all, p.records...)
	}
	reported := all
	if c.faulty() && !c.Derived {
		for i, r := range all {
			if r.Previous == "" {
				reported = all[i:]
			}
		}
	}
	ofCollector := map[string]bool{}
	for _, r := range c.records() {
		ofCollector[r.link] = true
	}
	for _, r := range reported {
		if !ofCollector[r.link] {
			v.bad(Checkpoints, c.folder(), "segment %d is reported with a record that the collector's manifest does not have", r.Seq)
		}
	}
	if !whole {
		return
	}
	if len(reported) != len(ofCollector) {
		v.bad(Checkpoints, c.folder(), "they report %d segment records, the collector's manifest has %d", len(reported), len(ofCollector))
	}
	for i := 1; i < len(reported); i++ {
		if before := reported[i-1].link; reported[i].Previous != before && reported[i].Previous != "" {
			v.bad(Checkpoints, c.folder(), "the record of segment %d is reported out of the chain's order", reported[i].Seq)
		}
	}
	linked := 0 // records up to the current checkpoint
	for _, p := range points {
		linked += len(p.records)
		want := ""
		if linked > 0 {
			want = all[linked-1].link
		}
		if p.Chain != want {
			v.bad(Checkpoints, p.name, "its chain ends in %q, the records so far in %q", p.Chain, want)
		}
	}
}

// fallen names a counter that is smaller in the later tally. Cut segments have fewer bytes than before, and may be put back whole.
func (c *collector) fallen(before, after events.Tally) string {
	if c.faulty() {
		return ""
	}
	cut := len(c.superseded) > 0
	for _, c := range []struct {
		name          string
		before, after uint64
		may           bool
	}{
		{"received", before.Received, after.Received, false},
		{"written", before.Written, after.Written, false},
		{"writtenBytes", before.WrittenBytes, after.WrittenBytes, false},
		{"truncated", before.Truncated, after.Truncated, false},
		{"rejected.foreignSource", before.Rejected.ForeignSource, after.Rejected.ForeignSource, false},
		{"rejected.foreignVni", before.Rejected.ForeignVNI, after.Rejected.ForeignVNI, false},
		{"rejected.malformed", before.Rejected.Malformed, after.Rejected.Malformed, false},
		{"rejected.oversize", before.Rejected.Oversize, after.Rejected.Oversize, false},
		{"rejected.fragment", before.Rejected.Fragment, after.Rejected.Fragment, false},
		{"rejected.badChecksum", before.Rejected.BadChecksum, after.Rejected.BadChecksum, false},
		{"unwritten", before.Unwritten, after.Unwritten, false},
		{"socketDropped", before.SocketDropped, after.SocketDropped, false},
		{"ringDropped", before.RingDropped, after.RingDropped, false},
		{"hostDropped", before.HostDropped, after.HostDropped, false},
		{"reduced", before.Reduced, after.Reduced, cut},
		{"sealed", before.Sealed, after.Sealed, false},
		{"sealedBytes", before.SealedBytes, after.SealedBytes, cut},
		{"uploaded", before.Uploaded, after.Uploaded, false},
		{"uploadedBytes", before.UploadedBytes, after.UploadedBytes, false},
	} {
		if c.after < c.before && !c.may {
			return c.name
		}
	}
	return ""
}
