package evidence

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sort"
	"strings"
	"time"

	"flashtap/events"
)

// manifest is manifest.json with what is hashed of it.
type manifest struct {
	events.Manifest
	body       []byte
	collectors []collector
	segments   []record
}

// collector is one entry of a manifest's collectors.
type collector struct {
	events.CollectorManifest
	raw        json.RawMessage
	segments   []record // the latest of each number
	superseded []record
	points     []point // its checkpoints, by number

	// lacking says that it left no manifest, and that not every checkpoint up to its last is there: what the missing ones reported is
	// known to nobody.
	lacking bool
}

// point is a checkpoint that could be read.
type point struct {
	*checkpoint
	name   string
	digest string
}

// lacking says whether checkpoints are missing before the last.
func lacking(points []point) bool {
	return len(points) > 0 && len(points) < points[len(points)-1].Seq
}

// folder is where a collector's objects are.
func (c *collector) folder() string { return "collectors/" + c.UserID + "/" }

// records are all segment records of a collector.
func (c *collector) records() []record { return slices.Concat(c.segments, c.superseded) }

// readManifest reads manifest.json.
func (v *verifier) readManifest(ctx context.Context) (*manifest, error) {
	body, err := v.body(ctx, manifestName)
	if errors.Is(err, errTooLong) {
		v.bad(Format, manifestName, "%v", err)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	m := &manifest{body: body}
	v.SHA256 = digest(body)
	if err := m.read(v, body); err != nil {
		v.bad(Format, manifestName, "%v", err)
		return nil, nil
	}
	if m.Format != events.EvidenceFormat {
		v.bad(Format, manifestName, "has the format %q, not %s", m.Format, events.EvidenceFormat)
	}
	return m, nil
}

func (m *manifest) read(v *verifier, body []byte) error {
	if err := v.decode(body, &m.Manifest); err != nil {
		return err
	}
	var raw struct {
		Collectors []json.RawMessage `json:"collectors"`
		Segments   []json.RawMessage `json:"segments"`
	}
	if err := json.Unmarshal(body, &raw); err != nil {
		return err
	}
	var err error
	if m.segments, err = newRecords(raw.Segments); err != nil {
		return err
	}
	for i, text := range raw.Collectors {
		c, err := newCollector(m.Manifest.Collectors[i], text)
		if err != nil {
			return fmt.Errorf("collector %s: %w", c.UserID, err)
		}
		m.collectors = append(m.collectors, c)
	}
	m.Manifest.Collectors, m.Manifest.Segments = nil, nil
	return nil
}

func newCollector(said events.CollectorManifest, text json.RawMessage) (collector, error) {
	c := collector{CollectorManifest: said, raw: text}
	var raw struct {
		Segments   []json.RawMessage `json:"segments"`
		Superseded []json.RawMessage `json:"superseded"`
	}
	if err := json.Unmarshal(text, &raw); err != nil {
		return c, err
	}
	var err error
	if c.segments, err = newRecords(raw.Segments); err != nil {
		return c, err
	}
	c.superseded, err = newRecords(raw.Superseded)
	return c, err
}

// sealed checks a capture with a manifest.
func (v *verifier) sealed(ctx context.Context) error {
	v.done = true
	m, err := v.readManifest(ctx)
	if err != nil {
		return err
	}
	if m == nil {
		return v.unsealed(ctx) // as far as the rest holds together
	}
	v.Verdict, v.Reasons, v.Report.Tally = m.Verdict, append(v.Reasons, m.Reasons...), m.Tally
	v.Lost, v.AtMostLost = m.Ledger.Lost, m.Ledger.AtMostLost
	if err := v.checkSignatures(ctx, m); err != nil {
		return err
	}
	if err := v.readAll(ctx, v.names()); err != nil {
		return err
	}
	if v.seen[manifestName].digest != v.SHA256 {
		v.bad(Objects, manifestName, "changed while it was checked")
	}
	addenda, err := v.addenda(ctx)
	if err != nil {
		return err
	}
	v.checkObjects(m, addenda)
	v.checkNames()
	v.checkForms(m)
	v.checkSegments(m)
	known := map[string]bool{}
	for _, o := range m.Objects {
		known[o.Key] = true
	}
	for i := range m.collectors {
		c := &m.collectors[i]
		// What came later proves nothing about what was sealed.
		c.points = v.points(c.UserID, func(name string) bool { return known[v.key(name)] })
		c.lacking = c.Derived && lacking(c.points)
		v.checkChain(c)
		v.checkCheckpoints(c, len(m.Reasons) > 0)
	}
	if err := v.checkManifest(ctx, m); err != nil {
		return err
	}
	if err := v.checkTree(ctx, m); err != nil {
		return err
	}
	if err := v.checkCustody(ctx, m); err != nil {
		return err
	}
	v.checkLedger(m)
	v.checkAddenda(m, addenda)
	return nil
}

// names are those of all objects, large ones first, so that no worker is left with one at the end.
func (v *verifier) names() []string {
	names := make([]string, 0, len(v.listed))
	for name := range v.listed {
		names = append(names, name)
	}
	sort.Slice(names, func(i, j int) bool {
		a, b := v.listed[names[i]], v.listed[names[j]]
		if a.Bytes != b.Bytes {
			return a.Bytes > b.Bytes
		}
		return a.Name < b.Name
	})
	return names
}

// checkObjects holds what is there against what is listed.
func (v *verifier) checkObjects(m *manifest, addenda []addendum) {
	listed := map[string]bool{}
	check := func(by string, o events.Object) {
		name, ok := v.name(o.Key)
		switch {
		case !ok:
			v.bad(Objects, name, "is listed in %s, and is of another capture", by)
			return
		case listed[name]:
			v.bad(Objects, name, "is listed twice")
			return
		case name == manifestName || name == signatureName || strings.HasPrefix(name, "addenda/"):
			v.bad(Objects, name, "is listed in %s, and must not be", by)
		}
		listed[name] = true
		s, there := v.seen[name]
		switch {
		case !there:
			v.bad(Objects, name, "is not there")
		case s.bytes != o.Bytes:
			v.bad(Objects, name, "has %d bytes, %s says %d", s.bytes, by, o.Bytes)
		case s.digest != o.SHA256:
			v.bad(Objects, name, "has the digest %s, %s says %s", s.digest, by, o.SHA256)
		}
	}
	for i, o := range m.Objects {
		if i > 0 && o.Key < m.Objects[i-1].Key {
			v.bad(Objects, o.Key, "is listed after %s, out of order", m.Objects[i-1].Key)
		}
		check(manifestName, o)
	}
	for _, a := range addenda {
		for _, o := range a.Objects {
			check(a.name, o)
		}
	}
	for name := range v.listed {
		kind := kindOf(name)
		switch {
		case listed[name] || kind == manifestKind || name == signatureName || kind == addendumKind:
		case kind == addendumSigKind && v.holds(strings.TrimSuffix(name, ".sig")+".json"):
		default:
			v.bad(Objects, name, "is there, and nothing lists it")
		}
	}
}

// checkNames holds the digests in names against the objects.
func (v *verifier) checkNames() {
	for name, s := range v.seen {
		switch kindOf(name) {
		case segmentKind, checkpointKind, joinedKind:
			if digestIn(name) != s.digest {
				v.bad(Names, name, "has the digest %s", s.digest)
			}
		}
	}
}

// checkForms tells which records are none. What a collector left is one only where its manifest counts: it was written by a machine that
// takes an attacker's packets. What lies among the acts and is none has a reason.
func (v *verifier) checkForms(m *manifest) {
	for name, s := range v.seen {
		if s.fault == nil || m != nil && name == treeName { // told where it is used
			continue
		}
		user := userOf(name)
		counts := m != nil && slices.ContainsFunc(m.collectors, func(c collector) bool { return c.UserID == user && !c.Derived })
		if user != "" && !counts {
			v.Notes = append(v.Notes, fmt.Sprintf("%s %v", name, s.fault))
			continue
		}
		if v.noAct(name) && m != nil && len(m.Reasons) > 0 {
			v.Notes = append(v.Notes, fmt.Sprintf("%s %v", name, s.fault))
			continue
		}
		v.bad(Format, name, "%v", s.fault)
	}
	sort.Strings(v.Notes)
}

// checkManifest holds the manifest against the collectors' own words, the plan, and itself.
func (v *verifier) checkManifest(ctx context.Context, m *manifest) error {
	users := map[string]bool{}
	for i := range m.collectors {
		c := &m.collectors[i]
		if users[c.UserID] {
			v.bad(Manifest, manifestName, "has the collector %s twice", c.UserID)
		}
		users[c.UserID] = true
		if c.Derived {
			v.checkDerived(c)
			continue
		}
		body, err := v.body(ctx, c.folder()+manifestName)
		switch {
		case missing(err):
			v.bad(Manifest, c.folder()+manifestName, "is not there")
		case err != nil && !errors.Is(err, errTooLong):
			return err
		case !bytes.Equal(body, c.raw):
			v.bad(Manifest, c.folder()+manifestName, "is not what the manifest says of this collector")
		}
	}
	v.checkList(m)
	for _, o := range []struct {
		name  string
		entry *events.Object
	}{{findingName, m.Finding}, {planName, m.Plan}} {
		switch {
		case o.entry == nil && v.holds(o.name):
			v.bad(Manifest, o.name, "is there, and the manifest does not name it")
		case o.entry != nil && (o.entry.Key != v.key(o.name) || !slices.Contains(m.Objects, *o.entry)):
			v.bad(Manifest, o.name, "is not among the objects as the manifest names it")
		}
	}
	return v.checkPlan(ctx, m)
}

// checkList checks that the manifest's segments are those of its collectors that the bucket holds, in order.
func (v *verifier) checkList(m *manifest) {
	objects := map[string]bool{}
	for _, o := range m.Objects {
		objects[o.Key] = true
	}
	var want []record
	for _, c := range m.collectors {
		for _, r := range c.segments {
			if objects[r.Key] {
				want = append(want, r)
			}
		}
	}
	sort.SliceStable(want, func(i, j int) bool { return want[i].Key < want[j].Key })
	if !slices.EqualFunc(want, m.segments, func(a, b record) bool { return a.link == b.link }) {
		v.bad(Manifest, manifestName, "its %d segments are not the %d of its collectors that are among the objects, in order", len(m.segments), len(want))
	}
}

// checkDerived checks what seal made of the checkpoints of a collector that left no manifest.
func (v *verifier) checkDerived(c *collector) {
	wrong := func(format string, args ...any) {
		v.bad(Manifest, c.folder(), "what the manifest derives from checkpoints: "+format, args...)
	}
	if len(c.points) == 0 {
		if len(c.records()) > 0 || c.Tally != (events.Tally{}) || c.Checkpoints != 0 {
			wrong("there is none")
		}
		return
	}
	last := c.points[len(c.points)-1]
	if c.Checkpoints != last.Seq || c.LastCheckpoint != last.digest {
		wrong("the last is number %d with digest %s, not %d with %s", last.Seq, last.digest, c.Checkpoints, c.LastCheckpoint)
	}
	if c.Tally != last.Tally || !reflect.DeepEqual(nonzero(c.Host), nonzero(last.Host)) {
		wrong("the tally and the host's counters are not those of checkpoint %d", last.Seq)
	}
	if c.Chain != last.Chain {
		wrong("the chain ends in %s, not %s", c.Chain, last.Chain)
	}
	var want []record
	for _, p := range c.points {
		want = append(want, p.records...)
	}
	if segments, superseded := latest(want); !sameLinks(segments, c.segments) || !sameLinks(superseded, c.superseded) {
		wrong("the segment records are not theirs")
	}
}

func nonzero(counters map[string]uint64) map[string]uint64 {
	left := map[string]uint64{}
	for name, n := range counters {
		if n != 0 {
			left[name] = n
		}
	}
	return left
}

// latest parts a chain into the latest record of each number, by number, and those whose place another took.
func latest(chain []record) (segments, superseded []record) {
	last := map[int]int{}
	for i, r := range chain {
		last[r.Seq] = i
	}
	for i, r := range chain {
		if last[r.Seq] == i {
			segments = append(segments, r)
		} else {
			superseded = append(superseded, r)
		}
	}
	sort.SliceStable(segments, func(i, j int) bool { return segments[i].Seq < segments[j].Seq })
	return segments, superseded
}

// sameLinks says whether two lists have the same records, in any order.
func sameLinks(a, b []record) bool {
	return slices.Equal(links(a), links(b))
}

func links(records []record) []string {
	var all []string
	for _, r := range records {
		all = append(all, r.link)
	}
	slices.Sort(all)
	return all
}

// checkPlan holds source and mirror against the plan.
func (v *verifier) checkPlan(ctx context.Context, m *manifest) error {
	if m.Plan == nil {
		v.bad(Manifest, manifestName, "names no plan")
		return nil
	}
	body, err := v.body(ctx, planName)
	if missing(err) {
		return nil // told already
	}
	if err != nil {
		return err
	}
	var plan events.Plan
	if err := v.decode(body, &plan); err != nil {
		v.bad(Format, planName, "%v", err)
		return nil
	}
	if m.Source != plan.Source {
		v.bad(Manifest, manifestName, "its source is not the plan's")
	}
	if !sameJSON(m.Mirror.MirrorPlan, plan.Mirror) {
		v.bad(Manifest, manifestName, "its mirror is not the plan's")
	}
	for _, same := range [][3]string{{"deployment", m.Deployment, plan.Deployment}, {"account", m.Account, plan.Account}, {"region", m.Region, plan.Region}} {
		if same[1] != same[2] {
			v.bad(Manifest, manifestName, "its %s is %q, the plan's %q", same[0], same[1], same[2])
		}
	}
	return nil
}

// sameJSON compares two values of one type by their JSON, where an empty list is none.
func sameJSON(a, b events.MirrorPlan) bool {
	if len(a.Filter.Rules) == 0 && len(b.Filter.Rules) == 0 {
		a.Filter.Rules, b.Filter.Rules = nil, nil
	}
	return reflect.DeepEqual(a, b)
}

// unsealed checks a capture without a manifest, as far as its collectors' checkpoints go.
func (v *verifier) unsealed(ctx context.Context) error {
	if err := v.findCapture(ctx); err != nil {
		return err
	}
	if err := v.readAll(ctx, v.names()); err != nil {
		return err
	}
	v.checkNames()
	v.checkForms(nil)
	users := map[string]bool{}
	for name := range v.listed {
		if user := userOf(name); user != "" {
			users[user] = true
		}
	}
	ordered := make([]string, 0, len(users))
	for user := range users {
		ordered = append(ordered, user)
	}
	sort.Strings(ordered)
	var until time.Time
	v.Verdict = events.VerdictIncomplete
	for _, user := range ordered {
		c := v.leftBehind(user)
		v.checkChain(c)
		v.checkCheckpoints(c, true)
		for _, r := range c.records() {
			if name, ok := v.name(r.Key); ok && v.seen[name].walk != nil {
				v.checkKey(r)
				v.checkSegment(name, r)
			}
		}
		v.Report.Tally = v.Report.Tally.Add(c.Tally)
		if len(c.points) == 0 {
			v.Reasons = append(v.Reasons, fmt.Sprintf("collector %s left no checkpoint", user))
			continue
		}
		at := c.points[len(c.points)-1].At
		v.Reasons = append(v.Reasons, fmt.Sprintf("incomplete from %s: the capture is not sealed, and collector %s says nothing later", at.Format(time.RFC3339Nano), user))
		if at.After(until) {
			until = at
		}
	}
	if !until.IsZero() {
		v.Verdict = "incomplete from " + until.Format(time.RFC3339Nano)
	}
	for name, s := range v.seen {
		if s.walk == nil {
			continue
		}
		v.Segments, v.Packets = v.Segments+1, v.Packets+s.walk.packets
		if what := s.walk.end(); what != "" {
			v.bad(Segments, name, "%s", what)
		}
	}
	v.Lost, v.AtMostLost = v.Report.Tally.Unwritten+v.Report.Tally.RingDropped+v.Report.Tally.SocketDropped, v.Report.Tally.HostDropped
	return nil
}

// findCapture finds out which capture this is, from the first record that says so.
func (v *verifier) findCapture(ctx context.Context) error {
	names := v.names()
	sort.Slice(names, func(i, j int) bool { return names[i] == planName || names[j] != planName && names[i] < names[j] })
	for _, name := range names {
		if v.capture != "" {
			return nil
		}
		switch kindOf(name) {
		case recordKind, checkpointKind, closingKind, actKind, certificateKind, addendumKind:
		default:
			continue
		}
		body, err := v.body(ctx, name)
		if missing(err) || errors.Is(err, errTooLong) {
			continue
		}
		if err != nil {
			return err
		}
		_ = v.understand(body, &struct{}{}) // what is wrong with it is told when it is read with all others
	}
	return nil
}

// leftBehind is what the checkpoints of a collector of an unsealed capture come to. Its manifest, if there is one, counts when a capture is
// sealed.
func (v *verifier) leftBehind(user string) *collector {
	c := &collector{points: v.points(user, func(string) bool { return true })}
	c.lacking = lacking(c.points)
	c.UserID, c.Derived = user, true
	var chain []record
	for _, p := range c.points {
		chain = append(chain, p.records...)
	}
	c.segments, c.superseded = latest(chain)
	if len(c.points) > 0 {
		last := c.points[len(c.points)-1]
		c.Chain, c.Tally, c.Checkpoints, c.LastCheckpoint = last.Chain, last.Tally, last.Seq, last.digest
	}
	return c
}
