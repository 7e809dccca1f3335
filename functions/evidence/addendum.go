package evidence

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"time"

	"flashtap/events"
)

// Metrics are CloudWatch's counts of what an instance mirrored and skipped, which come minutes after the packets.
type Metrics interface {
	// Mirrored sums them up from one time to another. It is late as long as some may still come.
	Mirrored(ctx context.Context, instance string, from, to time.Time) (m events.SourceMetrics, late bool, err error)
}

// When CloudWatch is asked about a sealed capture: not before its numbers can be there, and not for ever, since a source that
// mirrored nothing has none.
const (
	metricsLag      = 20 * time.Minute
	metricsAtLatest = 3 * time.Hour
)

// Due says that a capture that began at a time may have an addendum by now.
func Due(start, now time.Time) bool { return now.Sub(start) > metricsLag }

// Amended says that a capture has its addendum, and that it is signed if the manifest is.
func (s Sealer) Amended(ctx context.Context, c events.CaptureID) (bool, error) {
	there, err := s.Exists(ctx, events.AddendumSignatureKey(c, 1))
	if err != nil || there {
		return there, err
	}
	if there, err = s.Exists(ctx, events.AddendumKey(c, 1)); err != nil || !there {
		return false, err
	}
	toSign, err := s.Exists(ctx, events.PublicKeyKey(c))
	return err == nil && !toSign, err
}

// Amend adds to a sealed capture what has become known since (docs/evidence.md, section 10): what CloudWatch counted at the
// source, and objects that came late. It says whether it wrote an addendum; without anything to add, or before CloudWatch has
// its numbers, it writes none.
func (s Sealer) Amend(ctx context.Context, c events.CaptureID, by string, metrics Metrics, now time.Time) (bool, error) {
	body, err := s.Read(ctx, events.ManifestKey(c))
	if err != nil {
		return false, fmt.Errorf("amend %s: %w", c, err)
	}
	var m events.Manifest
	if err := json.Unmarshal(body, &m); err != nil {
		return false, fmt.Errorf("amend %s: read its manifest: %w", c, err)
	}
	wrote, err := s.amend(ctx, m, body, by, metrics, now)
	if err != nil {
		return wrote, fmt.Errorf("amend %s: %w", c, err)
	}
	return wrote, nil
}

func (s Sealer) amend(ctx context.Context, m events.Manifest, body []byte, by string, metrics Metrics, now time.Time) (bool, error) {
	c := m.Capture
	plan, err := s.Plan(ctx, c)
	if err != nil {
		return false, err
	}
	list, err := s.List(ctx, events.CapturePrefix(c))
	if err != nil {
		return false, err
	}
	before, err := s.addenda(ctx, c)
	if err != nil {
		return false, err
	}
	if s.Hold, err = s.holdAll(ctx, plan); err != nil {
		return false, err
	}
	for n, a := range before { // one whose signature was interrupted
		if err := s.signAddendum(ctx, m, n+1, a.body); err != nil {
			return false, err
		}
	}
	next := events.Addendum{Version: events.RecordVersion, Capture: c, Seq: len(before) + 1, At: now.UTC(), By: by, ManifestSHA256: Digest(body)}
	if len(before) > 0 {
		next.Previous = Digest(before[len(before)-1].body)
	}
	if next.Objects, err = s.objects(ctx, late(m, before, list)); err != nil {
		return false, err
	}
	if !slices.ContainsFunc(before, func(a addendum) bool { return a.Metrics != nil }) && metrics != nil {
		if err := s.measure(ctx, m, plan, metrics, &next); err != nil {
			return false, err
		}
	}
	if next.Metrics == nil && len(next.Objects) == 0 {
		return false, nil
	}
	text, err := Canonical(next)
	if err != nil {
		return false, err
	}
	err = s.Create(ctx, events.AddendumKey(c, next.Seq), text)
	if errors.Is(err, ErrExists) {
		return false, nil // somebody else was faster; the next look is at what it wrote
	}
	if err != nil {
		return false, err
	}
	slog.Info("amended", "capture", c, "eni", c.NetworkInterfaceID(), "addendum", next.Seq, "objects", len(next.Objects), "verdict", next.Verdict)
	return true, s.signAddendum(ctx, m, next.Seq, text)
}

// addendum is one that lies in the bucket.
type addendum struct {
	events.Addendum
	body []byte
}

func (s Store) addenda(ctx context.Context, c events.CaptureID) ([]addendum, error) {
	var list []addendum
	for {
		a := addendum{}
		var err error
		a.body, err = s.Read(ctx, events.AddendumKey(c, len(list)+1))
		if errors.Is(err, fs.ErrNotExist) {
			return list, nil
		}
		if err == nil {
			err = json.Unmarshal(a.body, &a.Addendum)
		}
		if err != nil {
			return nil, fmt.Errorf("addendum %d: %w", len(list)+1, err)
		}
		list = append(list, a)
	}
}

// late are the keys of objects that neither the manifest nor an addendum lists.
func late(m events.Manifest, before []addendum, list []Entry) []string {
	listed := map[string]bool{events.ManifestKey(m.Capture): true, events.ManifestSignatureKey(m.Capture): true}
	for _, o := range m.Objects {
		listed[o.Key] = true
	}
	for _, a := range before {
		for _, o := range a.Objects {
			listed[o.Key] = true
		}
	}
	var keys []string
	for _, e := range list {
		if !listed[e.Key] && !strings.HasPrefix(e.Key, events.AddendaPrefix(m.Capture)) {
			keys = append(keys, e.Key)
		}
	}
	return keys
}

// signAddendum signs an addendum of a signed manifest, once.
func (s Sealer) signAddendum(ctx context.Context, m events.Manifest, n int, body []byte) error {
	if m.Signer == nil {
		return nil
	}
	if there, err := s.Exists(ctx, events.AddendumSignatureKey(m.Capture, n)); err != nil || there {
		return err
	}
	key, err := s.keyOf(ctx, m)
	if err != nil {
		return err
	}
	return s.signObject(ctx, key, body, events.AddendumSignatureKey(m.Capture, n))
}

// ended is when the last collector had ended. One that did not say so was gone when the guard had passed, or when the capture
// was sealed.
func ended(m events.Manifest, plan events.Plan) time.Time {
	latest := m.SealedAt
	if guard := plan.GuardAt(); guard.After(plan.Start) && guard.Before(latest) {
		latest = guard
	}
	end := plan.Start
	for _, said := range m.Collectors {
		if said.Derived || said.Ended.After(latest) {
			return latest
		}
		if said.Ended.After(end) {
			end = said.Ended
		}
	}
	if len(m.Collectors) == 0 {
		return latest
	}
	return end
}

// measure asks CloudWatch what the source mirrored and skipped while the capture went on. What the source skipped may have been
// another session's, so ours lost that at most.
func (s Sealer) measure(ctx context.Context, m events.Manifest, plan events.Plan, metrics Metrics, a *events.Addendum) error {
	age := a.At.Sub(m.SealedAt)
	if age < metricsLag {
		return nil
	}
	counted, late, err := metrics.Mirrored(ctx, m.Source.InstanceID, plan.Start, ended(m, plan))
	if err != nil {
		return fmt.Errorf("counts of %s: %w", m.Source.InstanceID, err)
	}
	if late && age < metricsAtLatest {
		return nil
	}
	a.Metrics = &counted
	fate := func(names ...string) string {
		if slices.ContainsFunc(names, func(name string) bool { return slices.Contains(counted.Missing, name) }) {
			return events.FateUnknown
		}
		return ""
	}
	mirrored := events.Stage{Place: events.PlaceSource, Name: "mirrored", Packets: counted.Mirrored, Fate: fate("NetworkPacketsMirrorIn", "NetworkPacketsMirrorOut")}
	skipped := events.Stage{Place: events.PlaceSource, Name: "skipped", Packets: counted.Skipped, Fate: fate("NetworkPacketsSkipMirrorIn", "NetworkPacketsSkipMirrorOut")}
	if mirrored.Fate == "" {
		mirrored.Fate = events.FateKept
	}
	if skipped.Fate == "" || skipped.Packets > 0 {
		skipped.Fate = events.FateAtMost
	}
	a.Stages = []events.Stage{mirrored, skipped}
	if counted.Skipped > 0 {
		a.Verdict = events.VerdictIncomplete
		a.Reasons = append(slices.Clone(m.Reasons), fmt.Sprintf("at most %d packets were not mirrored because the source had no bandwidth left for them; "+
			"CloudWatch counts those of all sessions of %s", counted.Skipped, m.Source.InstanceID))
	}
	return nil
}
