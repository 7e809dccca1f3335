package evidence

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"sort"
	"strings"
	"time"

	"flashtap/events"
)

// Seal writes the closing manifest of a capture that has nothing running any more, and before it the custody log. It
// checks every segment against the digest that S3 itself computed. Sealing again changes nothing and tells the same.
func (s Store) Seal(ctx context.Context, c events.CaptureID, tool string, failure *events.Failure) (events.SealResult, error) {
	if err := c.Validate(); err != nil {
		return events.SealResult{}, err
	}
	done, err := s.Read(ctx, events.ManifestKey(c))
	if err == nil {
		return summarize(c, done)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return events.SealResult{}, err
	}
	plan, err := s.Plan(ctx, c)
	if err != nil {
		return events.SealResult{}, fmt.Errorf("seal %s: %w", c, err)
	}
	if err := s.chainCustody(ctx, c); err != nil {
		return events.SealResult{}, fmt.Errorf("seal %s: %w", c, err)
	}
	list, err := s.List(ctx, events.CapturePrefix(c))
	if err != nil {
		return events.SealResult{}, fmt.Errorf("seal %s: %w", c, err)
	}
	m := events.Manifest{
		Version: events.RecordVersion, Capture: c, Deployment: plan.Deployment, Account: plan.Account, Region: plan.Region, Tool: tool,
		Collectors: []events.CollectorManifest{}, Segments: []events.Segment{}, Reasons: []string{}, Objects: []events.Object{},
	}
	if failure != nil && failure.Error != "" {
		m.Error = failure.Error + ": " + failure.Cause
	}
	if err := s.collect(ctx, &m, plan, list); err != nil {
		return events.SealResult{}, fmt.Errorf("seal %s: %w", c, err)
	}
	m.Verdict = verdict(&m)
	switch err := s.CreateJSON(ctx, events.ManifestKey(c), m); {
	case err == nil:
		logSealed(plan, m, list)
	case !errors.Is(err, ErrExists):
		return events.SealResult{}, fmt.Errorf("seal %s: %w", c, err)
	}
	// Another seal may have been faster; what the bucket holds is what counts.
	done, err = s.Read(ctx, events.ManifestKey(c))
	if err != nil {
		return events.SealResult{}, err
	}
	return summarize(c, done)
}

func summarize(c events.CaptureID, body []byte) (events.SealResult, error) {
	var m events.Manifest
	if err := json.Unmarshal(body, &m); err != nil {
		return events.SealResult{}, fmt.Errorf("read manifest of %s: %w", c, err)
	}
	r := events.SealResult{Verdict: m.Verdict, Reasons: m.Reasons, Segments: len(m.Segments), Manifest: events.ManifestKey(c), SHA256: Digest(body)}
	for _, seg := range m.Segments {
		if seg.Confirmed {
			r.Packets += seg.Packets
		}
		r.Bytes += seg.Bytes
	}
	if r.Reasons == nil {
		r.Reasons = []string{}
	}
	return r, nil
}

// logSealed tells what the capture came to. Whoever made the manifest tells it, so once, however often the capture is sealed:
// metrics are counted from this line.
func logSealed(plan events.Plan, m events.Manifest, list []Entry) {
	var first, last time.Time
	var packets uint64
	var size int64
	for _, seg := range m.Segments {
		size += seg.Bytes
		if seg.Confirmed {
			packets += seg.Packets
		}
		if seg.First.IsZero() || seg.Last.IsZero() {
			continue // it is in no closing manifest
		}
		if first.IsZero() || seg.First.Before(first) {
			first = seg.First
		}
		if seg.Last.After(last) {
			last = seg.Last
		}
	}
	slog.Info("sealed", "capture", m.Capture, "eni", m.Capture.NetworkInterfaceID(), "verdict", m.Verdict, "reasons", len(m.Reasons), "segments", len(m.Segments),
		"packets", packets, "bytes", size, "lost", m.Tally.Lost(), "rejected", m.Tally.Rejected.Total(),
		"seconds", last.Sub(first).Seconds(), "billed", billed(plan, list, time.Now()).Seconds())
}

// billed is how long a collector and a session can have been there at most: from the start of the capture until now, or
// until the guard removed them. Without a collector there was nothing that AWS bills by time.
func billed(plan events.Plan, list []Entry, now time.Time) time.Duration {
	launched := slices.ContainsFunc(list, func(e Entry) bool { return strings.HasPrefix(e.Key, launchedPrefix(plan.Capture)) })
	if !launched {
		return 0
	}
	if end := plan.GuardAt(); now.After(end) {
		now = end
	}
	return max(0, now.Sub(plan.Start)).Round(time.Second)
}

// chainCustody orders the recorded acts by the time at which S3 stored them and chains each to the one before. It
// writes custody.jsonl once; a seal that was interrupted after it finds it there.
func (s Store) chainCustody(ctx context.Context, c events.CaptureID) error {
	if there, err := s.Exists(ctx, events.CustodyLogKey(c)); err != nil || there {
		return err
	}
	list, err := s.List(ctx, events.CustodyPrefix(c))
	if err != nil {
		return err
	}
	sort.SliceStable(list, func(i, j int) bool { return list[i].Stored.Before(list[j].Stored) })
	var log bytes.Buffer
	previous := ""
	for _, e := range list {
		body, err := s.Read(ctx, e.Key)
		if err != nil {
			return err
		}
		line := events.CustodyLine{Key: e.Key, Stored: e.Stored.UTC(), SHA256: Digest(body), Previous: previous}
		if err := json.Unmarshal(body, &line.Entry); err != nil {
			return fmt.Errorf("read custody entry %s: %w", e.Key, err)
		}
		text, err := json.Marshal(line)
		if err != nil {
			return err
		}
		previous = Digest(text)
		log.Write(text)
		log.WriteByte('\n')
	}
	err = s.Create(ctx, events.CustodyLogKey(c), log.Bytes())
	if errors.Is(err, ErrExists) {
		return nil
	}
	return err
}

// collect fills the manifest with what the bucket holds of the capture.
func (s Store) collect(ctx context.Context, m *events.Manifest, plan events.Plan, list []Entry) error {
	owners, err := s.owners(ctx, m.Capture, list)
	if err != nil {
		return err
	}
	folders := map[string][]Entry{}
	for _, e := range list {
		object, err := s.object(ctx, e)
		if err != nil {
			return err
		}
		m.Objects = append(m.Objects, object)
		switch e.Key {
		case events.FindingKey(m.Capture):
			m.Finding = &object
		case events.PlanKey(m.Capture):
			m.Plan = &object
		}
		if user := events.UserIDOfKey(e.Key); user != "" {
			folders[user] = append(folders[user], e)
		}
	}
	users := make([]string, 0, len(folders))
	for user := range folders {
		users = append(users, user)
	}
	sort.Strings(users)
	for _, user := range users {
		if !slices.Contains(owners, user) {
			m.Reasons = append(m.Reasons, fmt.Sprintf("folder %s was written by no collector of this capture; it is listed but not counted", user))
			continue
		}
		if err := s.collector(ctx, m, user, folders[user]); err != nil {
			return err
		}
	}
	if len(owners) > 0 && len(m.Collectors) == 0 {
		m.Reasons = append(m.Reasons, "the collector wrote nothing")
	}
	if len(owners) == 0 {
		m.Reasons = append(m.Reasons, "no collector was launched")
	}
	return nil
}

// launchedPrefix begins the records of collectors that launch has launched.
func launchedPrefix(c events.CaptureID) string { return events.CustodyPrefix(c) + "launch-launched-" }

// owners are the aws:userids of the instances that launch recorded: only their folders are evidence.
func (s Store) owners(ctx context.Context, c events.CaptureID, list []Entry) ([]string, error) {
	var owners []string
	for _, e := range list {
		if !strings.HasPrefix(e.Key, launchedPrefix(c)) {
			continue
		}
		var entry events.CustodyEntry
		if err := s.ReadJSON(ctx, e.Key, &entry); err != nil {
			return nil, err
		}
		owners = append(owners, entry.Detail["userId"])
	}
	return owners, nil
}

// object is what the manifest says of one object: its digest is S3's own where S3 has one, else of what we read.
func (s Store) object(ctx context.Context, e Entry) (events.Object, error) {
	digest, size, err := s.StoredDigest(ctx, e.Key)
	if err != nil {
		return events.Object{}, err
	}
	if digest == "" {
		if digest, size, err = s.readDigest(ctx, e.Key); err != nil {
			return events.Object{}, err
		}
	}
	return events.Object{Key: e.Key, Bytes: size, SHA256: digest}, nil
}

// collector adds one collector: what it said of itself, checked against what the bucket holds of it.
func (s Store) collector(ctx context.Context, m *events.Manifest, user string, folder []Entry) error {
	said, err := s.closingWord(ctx, m, user, folder)
	if err != nil {
		return err
	}
	stored := map[string]events.Object{}
	for _, o := range m.Objects {
		stored[o.Key] = o
	}
	inManifest := map[string]bool{}
	for _, seg := range said.Segments {
		ref, err := events.ParseObjectKey(seg.Key)
		if err != nil || ref != (events.ObjectRef{Capture: m.Capture, UserID: user, Kind: "segments", Seq: seg.Seq, SHA256: seg.SHA256}) {
			m.Reasons = append(m.Reasons, fmt.Sprintf("segment %d: key %q is not one that this collector can have written", seg.Seq, seg.Key))
			continue
		}
		if inManifest[seg.Key] {
			m.Reasons = append(m.Reasons, fmt.Sprintf("segment %d is listed twice", seg.Seq))
			continue
		}
		inManifest[seg.Key] = true
		o, there := stored[seg.Key]
		if !there {
			m.Reasons = append(m.Reasons, fmt.Sprintf("segment %d with %d packets was sealed but is not in the bucket", seg.Seq, seg.Packets))
			continue
		}
		seg.Confirmed = o.SHA256 == seg.SHA256 && o.Bytes == seg.Bytes
		if !seg.Confirmed {
			m.Reasons = append(m.Reasons, fmt.Sprintf("segment %d: the bucket holds other bytes than were sealed", seg.Seq))
		}
		m.Segments = append(m.Segments, seg)
	}
	for _, e := range folder {
		ref, err := events.ParseObjectKey(e.Key)
		if err != nil || ref.Kind != "segments" || inManifest[e.Key] {
			continue
		}
		o := stored[e.Key]
		if o.SHA256 != ref.SHA256 {
			m.Reasons = append(m.Reasons, fmt.Sprintf("segment %d: its bytes do not have the digest of its name", ref.Seq))
		}
		m.Segments = append(m.Segments, events.Segment{Seq: ref.Seq, Key: e.Key, SHA256: o.SHA256, Bytes: o.Bytes, Confirmed: true})
		m.Reasons = append(m.Reasons, fmt.Sprintf("segment %d is in no closing manifest; its packets are not counted", ref.Seq))
	}
	sort.SliceStable(m.Segments, func(i, j int) bool { return m.Segments[i].Key < m.Segments[j].Key })
	m.Collectors = append(m.Collectors, said)
	m.Tally = m.Tally.Add(said.Tally)
	return nil
}

// closingWord is the collector's own manifest or, when it left none, what its last checkpoint says. The collector reads
// what an attacker shaped, so whatever it left may be anything: what can't be read is a reason, and never keeps the
// rest from being sealed.
func (s Store) closingWord(ctx context.Context, m *events.Manifest, user string, folder []Entry) (events.CollectorManifest, error) {
	said, unreadable, err := s.closingManifest(ctx, m.Capture, user)
	if err == nil && unreadable == "" {
		switch {
		case said.Error != "":
			m.Reasons = append(m.Reasons, "the collector ended by an error: "+said.Error)
		case said.StopReason == events.StopFailed, said.StopReason == events.StopRecovered:
			m.Reasons = append(m.Reasons, "the collector did not end in order: it "+said.StopReason)
		}
		return said, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return said, err
	}
	if unreadable != "" {
		m.Reasons = append(m.Reasons, "the collector's closing manifest can't be read: "+unreadable)
	}
	said = events.CollectorManifest{Version: events.RecordVersion, Capture: m.Capture, UserID: user, Segments: []events.Segment{}}
	for _, e := range slices.Backward(folder) { // the last key is the latest
		ref, err := events.ParseObjectKey(e.Key)
		if err != nil || ref.Kind != "checkpoints" {
			continue
		}
		said.Checkpoints = max(said.Checkpoints, ref.Seq)
		checkpoint, unreadable, err := s.checkpoint(ctx, m.Capture, user, e.Key)
		if err != nil {
			return said, err
		}
		if unreadable != "" {
			m.Reasons = append(m.Reasons, fmt.Sprintf("checkpoint %d can't be read: %s", ref.Seq, unreadable))
			continue
		}
		said.Tally, said.LastCheckpoint = checkpoint.Tally, ref.SHA256
		m.Reasons = append(m.Reasons, fmt.Sprintf("the collector left no closing manifest; what came after its checkpoint %d at %s is unknown",
			checkpoint.Seq, checkpoint.At.UTC().Format("2006-01-02T15:04:05Z")))
		return said, nil
	}
	m.Reasons = append(m.Reasons, "the collector left neither a closing manifest nor a checkpoint")
	return said, nil
}

// closingManifest reads what a collector said when it ended; unreadable says why it is nothing that ours would write.
func (s Store) closingManifest(ctx context.Context, c events.CaptureID, user string) (said events.CollectorManifest, unreadable string, err error) {
	unreadable, err = s.readReport(ctx, events.CollectorManifestKey(c, user), &said)
	if err == nil && unreadable == "" {
		unreadable = stranger(said.Version, said.Capture, said.UserID, c, user)
	}
	return said, unreadable, err
}

func (s Store) checkpoint(ctx context.Context, c events.CaptureID, user, key string) (said events.Checkpoint, unreadable string, err error) {
	unreadable, err = s.readReport(ctx, key, &said)
	if err == nil && unreadable == "" {
		unreadable = stranger(said.Version, said.Capture, said.UserID, c, user)
	}
	return said, unreadable, err
}

// readReport reads a record of a collector's. Not reaching it is an error; finding something else there is not.
func (s Store) readReport(ctx context.Context, key string, v any) (unreadable string, err error) {
	body, err := s.Read(ctx, key)
	if errors.Is(err, errTooLarge) {
		return err.Error(), nil
	}
	if err != nil {
		return "", err
	}
	if err := json.Unmarshal(body, v); err != nil {
		return err.Error(), nil
	}
	return "", nil
}

// stranger says why a report is not this collector's about this capture; "" when it is.
func stranger(version int, about events.CaptureID, by string, c events.CaptureID, user string) string {
	switch {
	case version != events.RecordVersion:
		return fmt.Sprintf("it has version %d", version)
	case about != c:
		return fmt.Sprintf("it is about capture %q", about)
	case by != user:
		return fmt.Sprintf("it is by %q", by)
	}
	return ""
}

// verdict says in words whether this is everything, and adds the arithmetic that contradicts it to the reasons.
func verdict(m *events.Manifest) string {
	var held uint64
	for _, seg := range m.Segments {
		if seg.Confirmed {
			held += seg.Packets
		}
	}
	if m.Tally.SocketDropped > 0 {
		m.Reasons = append(m.Reasons, fmt.Sprintf("%d datagrams were dropped because the socket was full", m.Tally.SocketDropped))
	}
	if m.Tally.RingDropped > 0 {
		m.Reasons = append(m.Reasons, fmt.Sprintf("%d datagrams were dropped because the packet ring was full", m.Tally.RingDropped))
	}
	if m.Tally.HostDropped > 0 {
		m.Reasons = append(m.Reasons, fmt.Sprintf("at most %d packets were dropped by the interface or the kernel before they were received", m.Tally.HostDropped))
	}
	if m.Tally.Reduced > 0 {
		m.Reasons = append(m.Reasons, fmt.Sprintf("%d packets were cut to their headers after they were captured, because the disk was full", m.Tally.Reduced))
	}
	if m.Tally.Unwritten > 0 {
		m.Reasons = append(m.Reasons, fmt.Sprintf("%d packets could not be written", m.Tally.Unwritten))
	}
	if !m.Tally.Balanced() {
		m.Reasons = append(m.Reasons, "the tally does not add up: received is not written + rejected + unwritten")
	}
	if m.Tally.Written != held {
		m.Reasons = append(m.Reasons, fmt.Sprintf("%d packets were written, %d are in the bucket", m.Tally.Written, held))
	}
	switch {
	case len(m.Reasons) > 0:
		return events.VerdictIncomplete
	case held == 0:
		return events.VerdictNothing
	case m.Tally.Truncated > 0:
		return events.VerdictTruncated
	}
	return events.VerdictComplete
}
