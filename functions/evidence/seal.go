package evidence

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"slices"
	"strings"
	"time"

	"flashtap/events"
)

// Sealer closes captures. It makes custody.jsonl, key.pem, tree.json, tree.sig, manifest.json and manifest.sig, in this
// order and each only once. It may be interrupted between any two of them, and several may be at it at once: whoever comes
// next goes on from what the bucket holds, and signs what the bucket holds.
type Sealer struct {
	Store
	Signer  Signer  // nil: captures are sealed without a signature
	Witness Witness // nil: nobody is told
	Tool    string
}

// Witness is told the digest of a manifest, so that somebody else has it.
type Witness interface {
	Tell(ctx context.Context, text []byte) error
}

// Seal closes a capture that has nothing running any more. It checks every object against the digest that S3 itself
// computed. Sealing again changes nothing, completes what is not complete, and tells the same.
func (s Sealer) Seal(ctx context.Context, c events.CaptureID, failure *events.Failure) (events.SealResult, error) {
	if err := c.Validate(); err != nil {
		return events.SealResult{}, err
	}
	body, err := s.Read(ctx, events.ManifestKey(c))
	if errors.Is(err, fs.ErrNotExist) {
		body, err = s.close(ctx, c, failure)
	}
	if err != nil {
		return events.SealResult{}, fmt.Errorf("seal %s: %w", c, err)
	}
	var m events.Manifest
	if err := json.Unmarshal(body, &m); err != nil {
		return events.SealResult{}, fmt.Errorf("seal %s: read its manifest: %w", c, err)
	}
	result := summarize(m, body)
	signed, err := s.signManifest(ctx, m, body)
	if err != nil {
		return events.SealResult{}, fmt.Errorf("seal %s: %w", c, err)
	}
	if signed {
		result.Signature, result.KeyID = events.ManifestSignatureKey(c), m.Signer.KeyID
	}
	return result, nil
}

// close writes everything up to the manifest, and returns the manifest that the bucket then holds.
func (s Sealer) close(ctx context.Context, c events.CaptureID, failure *events.Failure) ([]byte, error) {
	plan, err := s.Plan(ctx, c)
	if err != nil {
		return nil, err
	}
	if s.Hold, err = s.holdAll(ctx, plan); err != nil { // first, so that a hold that can't be placed is known before anything is closed
		return nil, err
	}
	acts, err := s.chainCustody(ctx, c)
	if err != nil {
		return nil, err
	}
	key, err := s.publishKey(ctx, c)
	if err != nil {
		return nil, err
	}
	list, err := s.List(ctx, events.CapturePrefix(c))
	if err != nil {
		return nil, err
	}
	d := draft{store: s.Store, plan: plan, acts: acts, heads: map[string]events.Object{}, read: map[string]*reading{}}
	m, err := s.fitTree(ctx, d, list)
	if err != nil {
		return nil, err
	}
	if key != nil {
		if err := s.signTree(ctx, c, key); err != nil {
			return nil, err
		}
		m.Signer = &key.Signer
	}
	m.Tool, m.SealedAt = s.Tool, time.Now().UTC()
	if failure != nil && failure.Error != "" {
		m.Error = failure.Error + ": " + failure.Cause
	}
	for _, own := range []string{events.CustodyLogKey(c), events.PublicKeyKey(c), events.TreeKey(c), events.TreeSignatureKey(c)} {
		if err := d.addOwn(ctx, m, own); err != nil {
			return nil, err
		}
	}
	if _, err := s.holdAll(ctx, plan); err != nil { // now also what came in the meantime
		return nil, err
	}
	switch err := s.CreateJSON(ctx, events.ManifestKey(c), m); {
	case err == nil:
		logSealed(plan, m.Manifest, list)
	case !errors.Is(err, ErrExists):
		return nil, err
	}
	// Another seal may have been faster; what the bucket holds is what counts.
	return s.Read(ctx, events.ManifestKey(c))
}

// fitTree drafts the manifest and makes the tree over its segments. A tree that is there already was made by a seal that
// was interrupted or is at work right now, perhaps before the last segments came: then what came after it is left out, so
// that manifest and tree are of the same segments.
func (s Sealer) fitTree(ctx context.Context, d draft, list []Entry) (*drafted, error) {
	m, err := d.make(ctx, list)
	if err != nil {
		return nil, err
	}
	tree, err := treeOf(d.plan.Capture, m.Segments)
	if err != nil {
		return nil, err
	}
	err = s.CreateJSON(ctx, events.TreeKey(d.plan.Capture), tree)
	if !errors.Is(err, ErrExists) {
		return m, err
	}
	var there events.Tree
	if err := s.ReadJSON(ctx, events.TreeKey(d.plan.Capture), &there); err != nil {
		return nil, err
	}
	for _, earlier := range withoutTheLatest(list) {
		m, err := d.make(ctx, earlier)
		if err != nil {
			return nil, err
		}
		if tree, err = treeOf(d.plan.Capture, m.Segments); err != nil {
			return nil, err
		}
		if tree == there {
			return m, nil
		}
	}
	return nil, fmt.Errorf("%s is of other segments than the bucket holds, or ever held", events.TreeKey(d.plan.Capture))
}

// mostLate is how many of a collector's objects may come while a capture is being sealed.
const mostLate = 64

// withoutTheLatest are the lists that remain of a list when the collectors' objects that came last are left out one after the
// other. S3 tells when each came by the second; within one, collectors write in the order of their numbers, and their manifest
// last.
func withoutTheLatest(list []Entry) [][]Entry {
	var reports []Entry
	for _, e := range list {
		if events.UserIDOfKey(e.Key) != "" {
			reports = append(reports, e)
		}
	}
	number := func(e Entry) int {
		if ref, err := events.ParseObjectKey(e.Key); err == nil {
			return ref.Seq
		}
		return math.MaxInt
	}
	slices.SortStableFunc(reports, func(a, b Entry) int { // the latest first
		return cmp.Or(b.Stored.Compare(a.Stored), cmp.Compare(number(b), number(a)), strings.Compare(b.Key, a.Key))
	})
	var lists [][]Entry
	for n := range min(len(reports), mostLate) {
		late := reports[:n+1]
		lists = append(lists, slices.DeleteFunc(slices.Clone(list), func(e Entry) bool { return slices.Contains(late, e) }))
	}
	return lists
}

func summarize(m events.Manifest, body []byte) events.SealResult {
	r := events.SealResult{Verdict: m.Verdict, Reasons: m.Reasons, Segments: len(m.Segments), Manifest: events.ManifestKey(m.Capture), SHA256: Digest(body)}
	for _, seg := range m.Segments {
		if seg.Confirmed {
			r.Packets += seg.Packets
		}
		r.Bytes += seg.Bytes
	}
	r.Reasons = excerpt(m.Reasons)
	return r
}

// What a result says of the reasons: it travels in the state of the execution, which is limited (Step Functions Developer Guide,
// "Quotas"). The manifest has them all.
const (
	mostReasons   = 20
	longestReason = 300
)

func excerpt(reasons []string) []string {
	short := []string{}
	for i, reason := range reasons {
		if i == mostReasons {
			return append(short, fmt.Sprintf("and %d more, which the manifest names", len(reasons)-i))
		}
		if len(reason) > longestReason {
			reason = strings.ToValidUTF8(reason[:longestReason], "") + "..."
		}
		short = append(short, reason)
	}
	return short
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
			continue // it is empty
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
