package evidence

import (
	"bytes"
	"cmp"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"flashtap/events"
)

// keyID is the signing key's name in KMS.
const keyID = "arn:aws:kms:eu-central-1:111122223333:key/11111111-2222-4333-8444-555555555555"

// Seal closes the evidence as it stands, with whatever key; nil: unsigned. What an earlier seal made is made again.
func (e *Evidence) Seal(key *ecdsa.PrivateKey) error {
	for name := range e.Files {
		switch name {
		case "custody.jsonl", "key.pem", "tree.json", "tree.sig", "manifest.json", "manifest.sig":
			delete(e.Files, name)
		}
	}
	if err := e.custody(); err != nil {
		return err
	}
	var signer *events.Signer
	if key != nil {
		text, fingerprint, err := PublicKey(key)
		if err != nil {
			return err
		}
		e.put("key.pem", text)
		signer = &events.Signer{KeyID: keyID, Algorithm: "ECDSA_SHA_256", PublicKeySHA256: fingerprint}
	}
	collectors, err := e.collectors()
	if err != nil {
		return err
	}
	segments := e.segments(collectors)
	tree := events.Tree{Version: events.RecordVersion, Format: events.EvidenceFormat, Capture: e.Capture, Segments: len(segments)}
	var hashes [][]byte
	for _, r := range segments {
		leaf, err := leafOf(r)
		if err != nil {
			return err
		}
		hashes = append(hashes, hash(0, leaf))
	}
	tree.Root = hex.EncodeToString(merkle(hashes))
	e.cfg.Changes.Tree(&tree)
	if err := e.signed("tree", tree, key); err != nil {
		return err
	}
	m, err := e.manifest(collectors, segments, signer)
	if err != nil {
		return err
	}
	e.cfg.Changes.Manifest(&m)
	return e.signed("manifest", m, key)
}

// signed stores a record and its signature.
func (e *Evidence) signed(name string, v any, key *ecdsa.PrivateKey) error {
	if _, err := e.putRecord(name+".json", v); err != nil {
		return err
	}
	if key == nil {
		return nil
	}
	sig, err := Sign(key, e.Files[name+".json"])
	if err != nil {
		return err
	}
	e.put(name+".sig", sig)
	return nil
}

// custody makes custody.jsonl (section 7).
func (e *Evidence) custody() error {
	var names []string
	for name := range e.Files {
		if strings.HasPrefix(name, "custody/") || strings.HasPrefix(name, "certificates/") {
			names = append(names, name)
		}
	}
	sort.Slice(names, func(i, j int) bool {
		a, b := e.Stored[names[i]], e.Stored[names[j]]
		return a.Before(b) || a.Equal(b) && names[i] < names[j]
	})
	var log bytes.Buffer
	previous := ""
	for _, name := range names {
		line := events.CustodyLine{Key: e.key(name), Stored: e.Stored[name].UTC(), SHA256: Digest(e.Files[name]), Previous: previous, Entry: e.Files[name]}
		e.cfg.Changes.Line(&line)
		text, err := Canonical(line)
		if err != nil {
			return fmt.Errorf("line of %s: %w", name, err)
		}
		previous = Digest(text)
		log.Write(text)
		log.WriteByte('\n')
	}
	e.put("custody.jsonl", log.Bytes())
	return nil
}

// collectors are the collectors' manifests, or what their last checkpoints say.
func (e *Evidence) collectors() ([]events.CollectorManifest, error) {
	var all []events.CollectorManifest
	for _, user := range e.users() {
		if body, there := e.Files[e.name(events.CollectorManifestKey(e.Capture, user))]; there {
			var said events.CollectorManifest
			if err := json.Unmarshal(body, &said); err != nil {
				return nil, fmt.Errorf("read the manifest of %s: %w", user, err)
			}
			all = append(all, said)
			continue
		}
		points, err := e.points(user)
		if err != nil {
			return nil, err
		}
		c := events.CollectorManifest{Version: events.RecordVersion, Capture: e.Capture, UserID: user, InstanceID: user[strings.Index(user, ":")+1:], Config: e.config(), Segments: []events.Segment{}, Derived: true}
		var chain []events.Segment
		for _, p := range points {
			chain = append(chain, p.Records...)
		}
		c.Segments, c.Superseded = (&machine{records: chain}).parted()
		if c.Segments == nil {
			c.Segments = []events.Segment{}
		}
		if len(points) > 0 {
			last := points[len(points)-1]
			body := e.Files[e.lastOf("collectors/"+user+"/checkpoints/")]
			c.Started, c.Ended, c.Tally, c.Host, c.Chain = points[0].At, last.At, last.Tally, last.Host, last.Chain
			c.Checkpoints, c.LastCheckpoint, c.Clock = last.Seq, Digest(body), &events.Clocks{Start: points[0].Clock}
		}
		all = append(all, c)
	}
	return all, nil
}

// users are the collectors that left a folder.
func (e *Evidence) users() []string {
	var users []string
	for _, name := range e.Names() {
		if rest, ok := strings.CutPrefix(name, "collectors/"); ok {
			if user, _, _ := strings.Cut(rest, "/"); !slices.Contains(users, user) {
				users = append(users, user)
			}
		}
	}
	return users
}

// lastOf is the last name with a prefix.
func (e *Evidence) lastOf(prefix string) string {
	last := ""
	for _, name := range e.Names() {
		if strings.HasPrefix(name, prefix) {
			last = name
		}
	}
	return last
}

// points are a collector's checkpoints, in order.
func (e *Evidence) points(user string) ([]events.Checkpoint, error) {
	var all []events.Checkpoint
	for _, name := range e.Names() {
		if !strings.HasPrefix(name, "collectors/"+user+"/checkpoints/") {
			continue
		}
		var c events.Checkpoint
		if err := json.Unmarshal(e.Files[name], &c); err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		all = append(all, c)
	}
	return all, nil
}

// segments are the records of all segments that are there, ordered by key.
func (e *Evidence) segments(collectors []events.CollectorManifest) []events.Segment {
	all := []events.Segment{}
	for _, c := range collectors {
		for _, r := range c.Segments {
			if _, there := e.Files[e.name(r.Key)]; there {
				all = append(all, r)
			}
		}
	}
	sort.SliceStable(all, func(i, j int) bool { return all[i].Key < all[j].Key })
	return all
}

func (e *Evidence) manifest(collectors []events.CollectorManifest, segments []events.Segment, signer *events.Signer) (events.Manifest, error) {
	m := events.Manifest{
		Version: events.RecordVersion, Format: events.EvidenceFormat, Capture: e.Capture, Deployment: e.Plan.Deployment, Account: e.Plan.Account, Region: e.Plan.Region,
		Tool: "flashtap seal test", SealedAt: e.clock.UTC(), Source: e.Plan.Source, Mirror: events.AppliedMirror{MirrorPlan: e.Plan.Mirror, SessionID: sessionID},
		Signer: signer, Collectors: collectors, Segments: segments, Reasons: []string{}, Objects: []events.Object{},
	}
	for _, name := range e.Names() {
		if name == "manifest.json" || name == "manifest.sig" || strings.HasPrefix(name, "addenda/") {
			continue
		}
		o := e.object(name)
		m.Objects = append(m.Objects, o)
		switch name {
		case "finding.json":
			m.Finding = &o
		case "plan.json":
			m.Plan = &o
		}
	}
	for _, c := range collectors {
		m.Tally = m.Tally.Add(c.Tally)
	}
	return m, e.account(&m)
}

func (e *Evidence) object(name string) events.Object {
	return events.Object{Key: e.key(name), Bytes: int64(len(e.Files[name])), SHA256: Digest(e.Files[name])}
}

// account fills ledger, reasons and verdict (sections 6.3 to 6.5).
func (e *Evidence) account(m *events.Manifest) error {
	t := m.Tally
	l := events.Ledger{Lost: t.Unwritten + t.RingDropped + t.SocketDropped, AtMostLost: t.HostDropped, Balances: []events.Balance{}, Gaps: []events.Gap{}}
	because := func(format string, args ...any) { m.Reasons = append(m.Reasons, fmt.Sprintf(format, args...)) }
	if l.Lost > 0 {
		because("%d packets were dropped or could not be written", l.Lost)
	}
	if l.AtMostLost > 0 {
		because("at most %d packets were dropped before they were received", l.AtMostLost)
	}
	if t.Reduced > 0 {
		because("%d packets were cut to their headers", t.Reduced)
	}
	var held uint64
	truncated := t.Truncated > 0
	for _, r := range m.Segments {
		held += r.Packets
		truncated = truncated || r.Truncated > 0
	}
	var every []events.Segment
	for _, c := range m.Collectors {
		if c.Error != "" {
			because("collector %s: %s", c.UserID, c.Error)
		}
		points, err := e.points(c.UserID)
		if err != nil {
			return err
		}
		for _, r := range c.Segments {
			if _, there := e.Files[e.name(r.Key)]; !there {
				l.Lost += r.Packets
				because("segment %d of %s with %d packets is not in the bucket", r.Seq, c.UserID, r.Packets)
			}
		}
		l.Gaps = append(l.Gaps, gaps(c, points)...)
		if c.Derived {
			l.Balances = append(l.Balances, balancesOf(c.UserID, c.Tally, nil)[0])
			if len(points) > 0 {
				because("incomplete from %s: collector %s left no manifest", points[len(points)-1].At.Format(time.RFC3339Nano), c.UserID)
			}
		} else {
			l.Balances = append(l.Balances, balancesOf(c.UserID, c.Tally, c.Segments)...)
		}
		every = append(every, c.Segments...)
	}
	slices.SortStableFunc(l.Gaps, func(a, b events.Gap) int {
		return cmp.Or(a.From.Compare(b.From), strings.Compare(a.Collector, b.Collector), strings.Compare(a.Cause, b.Cause))
	})
	l.Balances = append(l.Balances, balancesOf("all", t, every)...)
	l.Balances = append(l.Balances, balance("packets of segments in the bucket = uploaded", held, t.Uploaded))
	if slices.ContainsFunc(l.Balances, func(b events.Balance) bool { return !b.Holds }) {
		because("the ledger does not add up")
	}
	l.Stages = stages(t, held)
	m.Ledger = l
	switch {
	case len(m.Reasons) > 0:
		m.Verdict = events.VerdictIncomplete
	case held == 0:
		m.Verdict = events.VerdictNothing
	case truncated || m.Mirror.PacketLength > 0 || !everything(m.Mirror.Filter):
		m.Verdict = events.VerdictTruncated
	default:
		m.Verdict = events.VerdictComplete
	}
	return nil
}

// everything says whether a filter takes all packets (section 6.4).
func everything(f events.Filter) bool {
	wanted := map[string]bool{"ingress 0.0.0.0/0": true, "ingress ::/0": true, "egress 0.0.0.0/0": true, "egress ::/0": true}
	for _, r := range f.Rules {
		if r.Action == events.Reject {
			return false
		}
		if r.SourceCIDR == r.DestinationCIDR && r.Protocol == 0 && r.SourcePorts == nil && r.DestinationPorts == nil {
			delete(wanted, r.Direction+" "+r.SourceCIDR)
		}
	}
	return f.DNS && len(wanted) == 0
}

func stages(t events.Tally, held uint64) []events.Stage {
	return []events.Stage{
		{Place: events.PlaceSource, Name: "mirrored", Fate: events.FateUnknown}, {Place: events.PlaceSource, Name: "skipped", Fate: events.FateUnknown},
		{Place: events.PlaceHost, Name: "hostDropped", Packets: t.HostDropped, Fate: events.FateAtMost},
		{Place: events.PlaceReceiver, Name: "ringDropped", Packets: t.RingDropped, Fate: events.FateLost},
		{Place: events.PlaceReceiver, Name: "socketDropped", Packets: t.SocketDropped, Fate: events.FateLost},
		{Place: events.PlaceAdmission, Name: "foreignVni", Packets: t.Rejected.ForeignVNI, Fate: events.FateRejected},
		{Place: events.PlaceDisk, Name: "unwritten", Packets: t.Unwritten, Fate: events.FateLost},
		{Place: events.PlaceDisk, Name: "reduced", Packets: t.Reduced, Fate: events.FateCut},
		{Place: events.PlaceBucket, Name: "held", Packets: held, Fate: events.FateKept},
	}
}

func balance(says string, left, right uint64) events.Balance {
	return events.Balance{Says: says, Left: left, Right: right, Holds: left == right}
}

// balancesOf are the equations 1 to 5 of one collector or of all.
func balancesOf(who string, t events.Tally, segments []events.Segment) []events.Balance {
	var packets, size, up, upSize, reduced uint64
	for _, r := range segments {
		packets, size, reduced = packets+r.Packets, size+uint64(r.Bytes), reduced+r.Reduced
		if r.Confirmed {
			up, upSize = up+r.Packets, upSize+uint64(r.Bytes)
		}
	}
	return []events.Balance{
		balance(who+": received = written + rejected + unwritten", t.Received, t.Written+t.Rejected.Total()+t.Unwritten),
		balance(who+": written = sealed", t.Written, t.Sealed),
		balance(who+": sealed = packets of segments", t.Sealed, packets), balance(who+": sealed bytes = bytes of segments", t.SealedBytes, size),
		balance(who+": uploaded = packets of confirmed segments", t.Uploaded, up), balance(who+": uploaded bytes = their bytes", t.UploadedBytes, upSize),
		balance(who+": reduced = reduced of segments", t.Reduced, reduced),
	}
}

// gaps says when packets were lost.
func gaps(c events.CollectorManifest, points []events.Checkpoint) []events.Gap {
	points = append([]events.Checkpoint{{At: c.Started}}, points...)
	if !c.Derived {
		points = append(points, events.Checkpoint{At: c.Ended, Tally: c.Tally})
	}
	var all []events.Gap
	counters := []struct {
		name string
		of   func(events.Tally) uint64
	}{
		{"unwritten", func(t events.Tally) uint64 { return t.Unwritten }}, {"ringDropped", func(t events.Tally) uint64 { return t.RingDropped }},
		{"socketDropped", func(t events.Tally) uint64 { return t.SocketDropped }}, {"hostDropped", func(t events.Tally) uint64 { return t.HostDropped }},
	}
	for _, counter := range counters {
		for i := 1; i < len(points); i++ {
			grown := counter.of(points[i].Tally) - counter.of(points[i-1].Tally)
			if grown == 0 {
				continue
			}
			g := events.Gap{From: points[i-1].At, To: points[i].At, Cause: counter.name, Packets: grown, Collector: c.UserID}
			if n := len(all); n > 0 && all[n-1].Cause == g.Cause && all[n-1].To.Equal(g.From) {
				all[n-1].To, all[n-1].Packets = g.To, all[n-1].Packets+grown
				continue
			}
			all = append(all, g)
		}
	}
	if c.Derived && len(points) > 1 {
		all = append(all, events.Gap{From: points[len(points)-1].At, Cause: "unknown", Collector: c.UserID})
	}
	return all
}

// Amend adds an addendum: what CloudWatch says, and every object that came after the manifest.
func (e *Evidence) Amend(key *ecdsa.PrivateKey) error {
	manifest, there := e.Files["manifest.json"]
	if !there {
		return errors.New("amend: it is not sealed")
	}
	n, previous := 1, ""
	for ; ; n++ {
		before, there := e.Files[fmt.Sprintf("addenda/%06d.json", n)]
		if !there {
			break
		}
		previous = Digest(before)
	}
	late := e.name(events.CertificateKey(e.Capture, 100+n))
	cert := events.Certificate{Version: events.RecordVersion, Capture: e.Capture, Seq: 100 + n, By: "sweep", At: e.clock.UTC(),
		Found: []events.Resource{}, Gone: []events.Resource{}, Remaining: []events.Resource{}, Refused: []events.Resource{}}
	if _, err := e.putRecord(late, cert); err != nil {
		return err
	}
	a := events.Addendum{
		Version: events.RecordVersion, Capture: e.Capture, Seq: n, At: e.clock.UTC(), By: "sweep", ManifestSHA256: Digest(manifest), Previous: previous,
		Metrics: &events.SourceMetrics{From: e.clock.Add(-time.Hour), To: e.clock, PeriodSeconds: 300, Mirrored: 4321, MirroredBytes: 987654, Missing: []string{"NetworkPacketsSkipMirrorIn"}},
		Stages:  []events.Stage{{Place: events.PlaceSource, Name: "mirrored", Packets: 4321, Fate: events.FateKept}},
		Objects: []events.Object{e.object(late)},
	}
	e.cfg.Changes.Addendum(&a)
	return e.signed(fmt.Sprintf("addenda/%06d", n), a, key)
}

// hash is a node of the tree (RFC 9162, section 2.1.1).
func hash(prefix byte, parts ...[]byte) []byte {
	h := sha256.New()
	h.Write([]byte{prefix})
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

func merkle(hashes [][]byte) []byte {
	switch len(hashes) {
	case 0:
		sum := sha256.Sum256(nil)
		return sum[:]
	case 1:
		return hashes[0]
	}
	k := half(len(hashes))
	return hash(1, merkle(hashes[:k]), merkle(hashes[k:]))
}

// half is the largest power of two below n.
func half(n int) int {
	k := 1
	for k*2 < n {
		k *= 2
	}
	return k
}

// inclusion is the inclusion proof of RFC 9162, section 2.1.3.1.
func inclusion(index int, hashes [][]byte) [][]byte {
	if len(hashes) < 2 {
		return nil
	}
	k := half(len(hashes))
	if index < k {
		return append(inclusion(index, hashes[:k]), merkle(hashes[k:]))
	}
	return append(inclusion(index-k, hashes[k:]), merkle(hashes[:k]))
}
