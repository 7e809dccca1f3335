package evidence

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"flashtap/events"
	"flashtap/functions/internal/awserr"
)

// report is what one collector says of itself: its closing manifest, or what its checkpoints come to, and the checkpoints.
// The collector reads what an attacker shaped, so whatever it left may be anything: what can't be read is a reason, and
// never keeps the rest from being sealed.
type report struct {
	said    events.CollectorManifest
	raw     json.RawMessage // what it said, as it lies in the bucket; nil when it was derived
	points  []point         // by ascending number
	reasons []string
}

// point is what the ledger needs of a checkpoint.
type point struct {
	seq     int
	digest  string
	at      time.Time
	tally   events.Tally
	host    map[string]uint64
	clock   *events.Clock
	chain   string
	records []events.Segment
}

func (d draft) report(ctx context.Context, user string, folder []Entry) (report, error) {
	var r report
	var err error
	if r.points, r.reasons, err = d.checkpoints(ctx, user, folder); err != nil {
		return r, err
	}
	because := func(format string, args ...any) { r.reasons = append(r.reasons, fmt.Sprintf(format, args...)) }
	unreadable := ""
	if holds(folder, events.CollectorManifestKey(d.plan.Capture, user)) {
		if r.said, r.raw, unreadable, err = d.closingManifest(ctx, user); err != nil {
			return r, err
		}
		if unreadable == "" {
			switch {
			case r.said.Error != "":
				because("the collector ended by an error: %s", r.said.Error)
			case r.said.StopReason == events.StopFailed, r.said.StopReason == events.StopRecovered:
				because("the collector did not end in order: it %s", r.said.StopReason)
			}
			r.checkSeries()
			r.checkChain()
			return r, nil
		}
		because("the collector's closing manifest can't be read: %s", unreadable)
	}
	r.said, r.raw = derive(d.plan.Capture, user, r.points), nil
	if len(r.points) == 0 {
		because("the collector left neither a closing manifest nor a checkpoint")
		return r, nil
	}
	last := r.points[len(r.points)-1]
	r.reasons = slices.Insert(r.reasons, 0, fmt.Sprintf("incomplete from %s: the collector left no closing manifest; what came after its checkpoint %d is unknown",
		last.at.UTC().Format(time.RFC3339Nano), last.seq))
	r.checkSeries()
	r.checkChain()
	return r, nil
}

// derive is the manifest of a collector that left none, made of its checkpoints.
func derive(c events.CaptureID, user string, points []point) events.CollectorManifest {
	said := events.CollectorManifest{Version: events.RecordVersion, Capture: c, UserID: user, Segments: []events.Segment{}, Derived: true}
	if _, instance, found := strings.Cut(user, ":"); found {
		said.InstanceID = instance
	}
	if len(points) == 0 {
		return said
	}
	last := points[len(points)-1]
	said.Started, said.Ended = points[0].at, last.at
	said.Tally, said.Host, said.Chain = last.tally, last.host, last.chain
	said.Checkpoints, said.LastCheckpoint = last.seq, last.digest
	if points[0].clock != nil {
		said.Clock = &events.Clocks{Start: points[0].clock}
	}
	for _, p := range points {
		for _, seg := range p.records {
			at, there := slices.BinarySearchFunc(said.Segments, seg.Seq, func(s events.Segment, seq int) int { return s.Seq - seq })
			if !there {
				said.Segments = slices.Insert(said.Segments, at, seg)
				continue
			}
			said.Superseded = append(said.Superseded, said.Segments[at])
			said.Segments[at] = seg
		}
	}
	return said
}

// checkSeries says which checkpoints are missing, and which segments' numbers.
func (r *report) checkSeries() {
	next := 1
	for _, p := range r.points {
		for ; next < p.seq; next++ {
			r.reasons = append(r.reasons, fmt.Sprintf("checkpoint %d is not in the bucket", next))
			if p.seq-next > maxNamed {
				r.reasons = append(r.reasons, fmt.Sprintf("nor are those up to %d", p.seq-1))
				next = p.seq - 1
			}
		}
		next = p.seq + 1
	}
	switch n := len(r.points); {
	case r.said.Checkpoints >= next:
		r.reasons = append(r.reasons, fmt.Sprintf("of %d checkpoints the bucket has no readable one after %d", r.said.Checkpoints, next-1))
	case n > 0 && r.points[n-1].digest != r.said.LastCheckpoint:
		r.reasons = append(r.reasons, "the collector's manifest names another last checkpoint than the bucket holds")
	}
	number := 1
	for _, seg := range r.said.Segments {
		if seg.Seq > number {
			r.reasons = append(r.reasons, fmt.Sprintf("segments %d to %d are in no record", number, seg.Seq-1))
		}
		if seg.Seq < number {
			r.reasons = append(r.reasons, fmt.Sprintf("segment %d is out of order", seg.Seq))
		}
		number = seg.Seq + 1
	}
}

// maxNamed is how many things of a kind reasons name one by one.
const maxNamed = 10

// checkChain follows the chain of segment records from its last to its first, which leaves none out (docs/evidence.md, section
// 3). More than one beginning there is only where the collector had to begin anew, and says so as an error.
func (r *report) checkChain() {
	records := map[string]events.Segment{}
	beginnings, named := 0, map[string]bool{}
	for _, seg := range slices.Concat(r.said.Segments, r.said.Superseded) {
		id, err := link(seg)
		if err != nil {
			r.reasons = append(r.reasons, fmt.Sprintf("segment %d: its record can't be linked: %v", seg.Seq, err))
			return
		}
		records[id] = seg
		if seg.Previous == "" {
			beginnings++
		}
		named[seg.Previous] = true
	}
	broken := ""
	ends := 0
	for id, seg := range records {
		if _, there := records[seg.Previous]; !there && seg.Previous != "" {
			broken = fmt.Sprintf("segment %d follows a record that is not there", seg.Seq)
		}
		if !named[id] {
			ends++
		}
	}
	_, there := records[r.said.Chain]
	switch {
	case broken != "":
	case there != (len(records) > 0) || there && named[r.said.Chain]:
		broken = "it does not end where the collector says"
	case ends != beginnings:
		broken = "a record has two followers, or none"
	case beginnings > 1 && r.said.Error == "":
		broken = "it begins more than once"
	}
	if broken != "" {
		r.reasons = append(r.reasons, "the chain of segment records is broken: "+broken)
	}
}

// closingManifest reads what a collector said when it ended; unreadable says why it is nothing that ours would write.
func (d draft) closingManifest(ctx context.Context, user string) (said events.CollectorManifest, raw []byte, unreadable string, err error) {
	raw, unreadable, err = d.store.readReport(ctx, events.CollectorManifestKey(d.plan.Capture, user), maxClosing, &said)
	if err == nil && unreadable == "" {
		unreadable = cmp.Or(stranger(said.Version, said.Capture, said.UserID, d.plan.Capture, user), negative(slices.Concat(said.Segments, said.Superseded)))
	}
	if err == nil && unreadable == "" && said.Derived {
		unreadable = "it says that it was derived"
	}
	return said, raw, unreadable, err
}

// What a collector's records may have (docs/evidence.md, sections 4 and 5): more than the records of 30,000 segments take, and of a thousand.
const (
	maxClosing    = 16 << 20
	maxCheckpoint = 1 << 20
)

// checkpoints reads all that a collector has left, and says which can't be read.
func (d draft) checkpoints(ctx context.Context, user string, folder []Entry) (points []point, reasons []string, err error) {
	if err := d.readCheckpoints(ctx, user, folder); err != nil {
		return nil, nil, err
	}
	unread := map[int]string{}
	for _, e := range folder {
		ref, err := events.ParseObjectKey(e.Key)
		if err != nil || ref.Kind != "checkpoints" {
			continue
		}
		if made := d.read[e.Key]; made.unreadable != "" {
			unread[ref.Seq] = made.unreadable
		} else {
			points = append(points, made.point)
		}
	}
	slices.SortFunc(points, func(a, b point) int {
		if a.seq != b.seq {
			return a.seq - b.seq
		}
		return strings.Compare(a.digest, b.digest)
	})
	for i := 1; i < len(points); i++ {
		if points[i].seq == points[i-1].seq {
			unread[points[i].seq] = "there are two of this number"
		}
	}
	points = slices.CompactFunc(points, func(a, b point) bool { return a.seq == b.seq })
	numbers := make([]int, 0, len(unread))
	for seq := range unread {
		numbers = append(numbers, seq)
	}
	slices.Sort(numbers)
	for i, seq := range numbers {
		if i == maxNamed {
			reasons = append(reasons, fmt.Sprintf("%d more checkpoints can't be read", len(numbers)-i))
			break
		}
		reasons = append(reasons, fmt.Sprintf("checkpoint %d can't be read: %s", seq, unread[seq]))
	}
	return points, reasons, nil
}

// reading is a checkpoint as it was read: a point, or why it is none.
type reading struct {
	point
	unreadable string
}

// readCheckpoints reads those that were not read before.
func (d draft) readCheckpoints(ctx context.Context, user string, folder []Entry) error {
	refs := map[string]events.ObjectRef{}
	for _, e := range folder {
		if ref, err := events.ParseObjectKey(e.Key); err == nil && ref.Kind == "checkpoints" && d.read[e.Key] == nil {
			refs[e.Key] = ref
		}
	}
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for key, ref := range refs {
		group.Go(func() error {
			made, err := d.checkpoint(ctx, user, key, ref)
			mu.Lock()
			defer mu.Unlock()
			d.read[key] = made
			return err
		})
	}
	return group.Wait()
}

func (d draft) checkpoint(ctx context.Context, user, key string, ref events.ObjectRef) (*reading, error) {
	var said events.Checkpoint
	_, unreadable, err := d.store.readReport(ctx, key, maxCheckpoint, &said)
	switch {
	case err != nil || unreadable != "":
		return &reading{unreadable: unreadable}, err
	case said.Seq != ref.Seq:
		unreadable = fmt.Sprintf("it says that it is number %d", said.Seq)
	case d.heads[key].SHA256 != ref.SHA256:
		unreadable = "its bytes do not have the digest of its name"
	default:
		unreadable = cmp.Or(stranger(said.Version, said.Capture, said.UserID, d.plan.Capture, user), negative(said.Records))
	}
	return &reading{point{ref.Seq, ref.SHA256, said.At, said.Tally, said.Host, said.Clock, said.Chain, said.Records}, unreadable}, nil
}

// readReport reads a record of others. Not reaching it is an error; finding something else there is not, nor that it was put
// where S3 does not read it back at once.
func (s Store) readReport(ctx context.Context, key string, limit int, v any) (body []byte, unreadable string, err error) {
	body, err = s.readUpTo(ctx, key, limit)
	if errors.Is(err, errTooLarge) || awserr.Code(err) == "InvalidObjectState" {
		return nil, err.Error(), nil
	}
	if err != nil {
		return nil, "", err
	}
	if err := decode(body, v); err != nil {
		return nil, err.Error(), nil
	}
	return body, "", nil
}

// stranger says why a report is not this collector's about this capture; "" when it is.
func stranger(version int, about events.CaptureID, by string, c events.CaptureID, user string) string {
	if why := otherCapture(version, about, c); why != "" || by == user {
		return why
	}
	return fmt.Sprintf("it is by %q", by)
}

// otherCapture says why a record is none of ours about this capture; "" when it is.
func otherCapture(version int, about, c events.CaptureID) string {
	switch {
	case version != events.RecordVersion:
		return fmt.Sprintf("it has version %d", version)
	case about != c:
		return fmt.Sprintf("it is about capture %q", about)
	}
	return ""
}

// negative says that a segment has less than nothing; "" when none has.
func negative(segments []events.Segment) string {
	for _, seg := range segments {
		if seg.Bytes < 0 {
			return fmt.Sprintf("its segment %d has %d bytes", seg.Seq, seg.Bytes)
		}
	}
	return ""
}
