package evidence

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"flashtap/events"
	"flashtap/functions/internal/awserr"
)

// draft makes a manifest of what the bucket holds of a capture.
type draft struct {
	store Store
	plan  events.Plan
	acts  map[string]bool // keys of the acts and certificates that custody.jsonl has
	heads map[string]events.Object
	read  map[string]*reading // checkpoints, by key
}

// atOnce is how many requests to S3 are on their way at the same time.
const atOnce = 32

// drafted is a manifest that has its collectors' own manifests as these lie in the bucket, also what a later version wrote
// there.
type drafted struct {
	events.Manifest
	Collectors []json.RawMessage `json:"collectors"`
}

// make fills the manifest with everything that is in list, but for what seal itself makes.
func (d draft) make(ctx context.Context, list []Entry) (*drafted, error) {
	c, p := d.plan.Capture, d.plan
	made := &drafted{Collectors: []json.RawMessage{}}
	m := &made.Manifest
	*m = events.Manifest{
		Version: events.RecordVersion, Format: events.EvidenceFormat, Capture: c, Deployment: p.Deployment, Account: p.Account, Region: p.Region,
		Source: p.Source, Mirror: events.AppliedMirror{MirrorPlan: p.Mirror},
		Collectors: []events.CollectorManifest{}, Segments: []events.Segment{}, Reasons: []string{}, Objects: []events.Object{},
	}
	var err error
	if list, m.Reasons, err = d.timely(ctx, list); err != nil {
		return nil, err
	}
	slices.SortFunc(list, func(a, b Entry) int { return strings.Compare(a.Key, b.Key) })
	if err := d.lookAt(ctx, list); err != nil {
		return nil, err
	}
	folders := map[string][]Entry{}
	var owners []string
	for _, e := range list {
		object := d.heads[e.Key]
		m.Objects = append(m.Objects, object)
		switch e.Key {
		case events.FindingKey(c):
			m.Finding = &object
		case events.PlanKey(c):
			m.Plan = &object
		}
		if user := events.UserIDOfKey(e.Key); user != "" {
			folders[user] = append(folders[user], e)
		}
		act, err := d.act(ctx, e.Key)
		if err != nil {
			return nil, err
		}
		if act == nil {
			continue
		}
		if act.Act == events.ActMirrored {
			m.Mirror.SessionID = act.Resource
		} else {
			owners = append(owners, act.Detail["userId"])
		}
	}
	var reports []report
	for _, user := range sorted(folders) {
		if !slices.Contains(owners, user) {
			m.Reasons = append(m.Reasons, fmt.Sprintf("folder %s was written by no collector of this capture; it is listed but not counted", user))
			continue
		}
		r, err := d.report(ctx, user, folders[user])
		if err != nil {
			return nil, err
		}
		d.count(m, r, folders[user])
		reports = append(reports, r)
		text := r.raw
		if text == nil {
			if text, err = Canonical(r.said); err != nil {
				return nil, err
			}
		}
		made.Collectors = append(made.Collectors, text)
	}
	if len(owners) > 0 && len(reports) == 0 {
		m.Reasons = append(m.Reasons, "the collector wrote nothing")
	}
	if len(owners) == 0 {
		m.Reasons = append(m.Reasons, "no collector was launched")
	}
	slices.SortStableFunc(m.Segments, func(a, b events.Segment) int { return strings.Compare(a.Key, b.Key) })
	account(m, reports)
	return made, nil
}

// timely is the list without what closes a capture or comes afterwards, also acts that came too late for custody.jsonl. What
// lies among the acts and is no record has no line there at any time, but a reason.
func (d draft) timely(ctx context.Context, list []Entry) (kept []Entry, reasons []string, err error) {
	reasons = []string{}
	for _, e := range list {
		switch {
		case madeBySeal(d.plan.Capture, e.Key):
			continue
		case isAct(d.plan.Capture, e.Key) && !d.acts[e.Key]:
			_, unreadable, err := d.store.readAct(ctx, d.plan.Capture, e.Key)
			if err != nil {
				return nil, nil, err
			}
			if unreadable == "" {
				continue
			}
			reasons = append(reasons, fmt.Sprintf("%s is no record: %s", e.Key, unreadable))
		}
		kept = append(kept, e)
	}
	return kept, reasons, nil
}

// madeBySeal says that an object is one of those that close a capture or come afterwards.
func madeBySeal(c events.CaptureID, key string) bool {
	return slices.Contains([]string{
		events.CustodyLogKey(c), events.PublicKeyKey(c), events.TreeKey(c), events.TreeSignatureKey(c), events.ManifestKey(c), events.ManifestSignatureKey(c),
	}, key) || strings.HasPrefix(key, events.AddendaPrefix(c))
}

func sorted(folders map[string][]Entry) []string {
	users := make([]string, 0, len(folders))
	for user := range folders {
		users = append(users, user)
	}
	slices.Sort(users)
	return users
}

// launchedPrefix begins the records of collectors that launch has launched.
func launchedPrefix(c events.CaptureID) string { return events.CustodyPrefix(c) + "launch-launched-" }

// act is the record of a collector's launch, which says whose folder is evidence, or of the session; nil for any other.
func (d draft) act(ctx context.Context, key string) (*events.CustodyEntry, error) {
	if !d.acts[key] || key != events.CustodyKey(d.plan.Capture, "mirror", events.ActMirrored) && !strings.HasPrefix(key, launchedPrefix(d.plan.Capture)) {
		return nil, nil
	}
	var entry events.CustodyEntry
	return &entry, d.store.ReadJSON(ctx, key, &entry)
}

// lookAt learns length and digest of every object from S3.
func (d draft) lookAt(ctx context.Context, list []Entry) error {
	var unknown []string
	for _, e := range list {
		if _, known := d.heads[e.Key]; !known {
			unknown = append(unknown, e.Key)
		}
	}
	objects, err := d.store.objects(ctx, unknown)
	for _, o := range objects {
		d.heads[o.Key] = o
	}
	return err
}

// objects are what the manifest says of these keys, in their order.
func (s Store) objects(ctx context.Context, keys []string) ([]events.Object, error) {
	made := make([]events.Object, len(keys))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for i, key := range keys {
		group.Go(func() (err error) {
			made[i], err = s.object(ctx, key)
			return err
		})
	}
	return made, group.Wait()
}

// addOwn lists an object that seal itself has made; those of the signature are not there when there is no key.
func (d draft) addOwn(ctx context.Context, m *drafted, key string) error {
	o, err := d.store.object(ctx, key)
	if awserr.IsNotFound(err) && (key == events.PublicKeyKey(m.Capture) || key == events.TreeSignatureKey(m.Capture)) {
		return nil
	}
	if err != nil {
		return err
	}
	at, _ := slices.BinarySearchFunc(m.Objects, key, func(o events.Object, key string) int { return strings.Compare(o.Key, key) })
	m.Objects = slices.Insert(m.Objects, at, o)
	return nil
}

// object is what the manifest says of one object: its digest is S3's own where S3 has one, else of what we read.
func (s Store) object(ctx context.Context, key string) (events.Object, error) {
	digest, size, err := s.StoredDigest(ctx, key)
	if err == nil && digest == "" {
		digest, size, err = s.readDigest(ctx, key)
	}
	return events.Object{Key: key, Bytes: size, SHA256: digest}, err
}

// count adds one collector: what it said of itself, checked against what the bucket holds of it.
func (d draft) count(m *events.Manifest, r report, folder []Entry) {
	m.Reasons = append(m.Reasons, r.reasons...)
	because := func(format string, args ...any) { m.Reasons = append(m.Reasons, fmt.Sprintf(format, args...)) }
	known, user := map[string]bool{}, r.said.UserID
	for _, seg := range r.said.Segments {
		ref, err := events.ParseObjectKey(seg.Key)
		if err != nil || ref != (events.ObjectRef{Capture: m.Capture, UserID: user, Kind: "segments", Seq: seg.Seq, SHA256: seg.SHA256}) {
			because("segment %d: key %q is not one that this collector can have written", seg.Seq, seg.Key)
			continue
		}
		if known[seg.Key] {
			because("segment %d is listed twice", seg.Seq)
			continue
		}
		known[seg.Key] = true
		o, there := d.heads[seg.Key]
		if !there || !holds(folder, seg.Key) {
			because("segment %d with %d packets was sealed but is not in the bucket", seg.Seq, seg.Packets)
			continue
		}
		seg.Confirmed = o.SHA256 == seg.SHA256 && o.Bytes == seg.Bytes
		if !seg.Confirmed {
			because("segment %d: the bucket holds other bytes than were sealed", seg.Seq)
		}
		m.Segments = append(m.Segments, seg)
	}
	for _, e := range folder {
		ref, err := events.ParseObjectKey(e.Key)
		if err != nil || ref.Kind != "segments" || known[e.Key] {
			continue
		}
		if d.heads[e.Key].SHA256 != ref.SHA256 {
			because("segment %d: its bytes do not have the digest of its name", ref.Seq)
		}
		if slices.ContainsFunc(r.said.Superseded, func(s events.Segment) bool { return s.Key == e.Key }) {
			because("segment %d is in the bucket also as it was before it was cut", ref.Seq)
			continue
		}
		because("segment %d of %d bytes is in no record of the collector's; its packets are not counted", ref.Seq, e.Bytes)
	}
	m.Collectors = append(m.Collectors, r.said)
	m.Tally = m.Tally.Add(r.said.Tally)
}

func holds(folder []Entry, key string) bool {
	_, found := slices.BinarySearchFunc(folder, key, func(e Entry, key string) int { return strings.Compare(e.Key, key) })
	return found
}
