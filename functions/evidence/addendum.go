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

// Amend adds to a sealed capture what has become known since (docs/evidence.md, section 10): objects that came late, at once,
// and what CloudWatch counted at the source, as soon as it has its numbers. It says whether it wrote an addendum, and whether
// the capture is settled: then there is nothing to add until the bucket holds another object of it.
func (s Sealer) Amend(ctx context.Context, c events.CaptureID, by string, metrics Metrics, now time.Time) (wrote, settled bool, err error) {
	if wrote, settled, err = s.amend(ctx, c, by, metrics, now); err != nil {
		return wrote, false, fmt.Errorf("amend %s: %w", c, err)
	}
	return wrote, settled, nil
}

func (s Sealer) amend(ctx context.Context, c events.CaptureID, by string, metrics Metrics, now time.Time) (wrote, settled bool, err error) {
	body, err := s.Read(ctx, events.ManifestKey(c))
	if err != nil {
		return false, false, err
	}
	var m events.Manifest
	if err := json.Unmarshal(body, &m); err != nil {
		return false, false, fmt.Errorf("read its manifest: %w", err)
	}
	list, err := s.List(ctx, events.CapturePrefix(c))
	if err != nil {
		return false, false, err
	}
	before, err := s.addenda(ctx, c)
	if err != nil {
		return false, false, err
	}
	came, unsigned := late(m, before, list), unsigned(m, before, list)
	unmeasured := metrics != nil && !slices.ContainsFunc(before, func(a addendum) bool { return a.Metrics != nil })
	if len(came) == 0 && len(unsigned) == 0 && !unmeasured {
		return false, true, nil
	}
	plan, err := s.Plan(ctx, c)
	if err != nil {
		return false, false, err
	}
	next := events.Addendum{Version: events.RecordVersion, Capture: c, Seq: len(before) + 1, At: now.UTC(), By: by, ManifestSHA256: Digest(body)}
	if len(before) > 0 {
		next.Previous = Digest(before[len(before)-1].body)
	}
	var unknown error // does not keep the rest from being added
	if unmeasured {
		unknown = s.measure(ctx, m, plan, metrics, &next)
	}
	if len(came) == 0 && len(unsigned) == 0 && next.Metrics == nil {
		return false, false, unknown
	}
	if s.Hold, err = s.holdAll(ctx, plan); err != nil {
		return false, false, err
	}
	for _, a := range unsigned {
		signature, err := s.signatureOf(ctx, m, a.body)
		if err != nil {
			return false, false, err
		}
		if err := s.keepSignature(ctx, events.AddendumSignatureKey(c, a.Seq), signature); err != nil {
			return false, false, err
		}
	}
	if len(came) > 0 || next.Metrics != nil {
		if next.Objects, err = s.objects(ctx, came); err == nil {
			wrote, err = s.add(ctx, m, next)
		}
	}
	return wrote, false, errors.Join(err, unknown)
}

// add writes an addendum. It is signed before it is written, so that it does not lie unsigned while KMS is waited for.
func (s Sealer) add(ctx context.Context, m events.Manifest, a events.Addendum) (bool, error) {
	text, err := Canonical(a)
	if err != nil {
		return false, err
	}
	var signature []byte
	if m.Signer != nil {
		if signature, err = s.signatureOf(ctx, m, text); err != nil {
			return false, err
		}
	}
	err = s.Create(ctx, events.AddendumKey(m.Capture, a.Seq), text)
	if errors.Is(err, ErrExists) {
		return false, nil // somebody else was faster; the next look is at what it wrote
	}
	if err != nil {
		return false, err
	}
	slog.Info("amended", "capture", m.Capture, "eni", m.Capture.NetworkInterfaceID(), "addendum", a.Seq, "objects", len(a.Objects), "verdict", a.Verdict)
	if m.Signer == nil {
		return true, nil
	}
	return true, s.keepSignature(ctx, events.AddendumSignatureKey(m.Capture, a.Seq), signature)
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

// unsigned are those addenda of a signed manifest whose signature was interrupted.
func unsigned(m events.Manifest, before []addendum, list []Entry) []addendum {
	if m.Signer == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(before), func(a addendum) bool {
		return slices.ContainsFunc(list, func(e Entry) bool { return e.Key == events.AddendumSignatureKey(m.Capture, a.Seq) })
	})
}

// signatureOf is the signature of an addendum by the manifest's key.
func (s Sealer) signatureOf(ctx context.Context, m events.Manifest, body []byte) ([]byte, error) {
	key, err := s.keyOf(ctx, m)
	if err != nil {
		return nil, err
	}
	made, err := s.sign(ctx, key, body)
	if err != nil {
		return nil, fmt.Errorf("sign an addendum: %w", err)
	}
	return made, nil
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
