package verifier_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	cryptorand "crypto/rand"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	shipped "flashtap/collector/evidence"
	"flashtap/events"
	"flashtap/testutil/evidence"
)

var (
	seed  = flag.Uint64("seed", 20261122, "of the random cases")
	cases = flag.Int("cases", 160, "how many captures are verified")
)

// scene is evidence and what was done to it; nothing: it is intact.
type scene struct {
	made, done string
	evidence   *evidence.Evidence
}

// outcome is what a verifier prints: the discrepancies are only for people.
type outcome struct {
	outcome, verdict string
	discrepancies    []string
}

// code is the exit code of both verifiers.
func (o outcome) code() int {
	code, ok := map[string]int{shipped.Authentic: 0, shipped.Consistent: 6, shipped.Broken: 7, shipped.Unsealed: 8}[o.outcome]
	switch {
	case !ok:
		return -1
	case code == 0 && o.verdict != events.VerdictComplete && o.verdict != events.VerdictTruncated:
		return 5
	}
	return code
}

func TestTwoVerifiersAgree(t *testing.T) {
	for _, program := range []string{"python3", "openssl"} {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("CI must run this test, with python3 and openssl installed: %v", err)
			}
			t.Skip("the verifier in Python needs python3 and openssl: ", err)
		}
	}
	t.Logf("seed %d: repeat with -seed=%d", *seed, *seed)
	random := rand.New(rand.NewPCG(*seed, 0))
	key, forger := newKey(t), newKey(t)
	pem, _, err := evidence.PublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	pinned := filepath.Join(dir, "pub.pem")
	if err := os.WriteFile(pinned, pem, 0o600); err != nil {
		t.Fatal(err)
	}

	scenes := map[string]scene{}
	for i := range *cases {
		s := randomScene(t, random, i, key, forger)
		folder := filepath.Join(dir, fmt.Sprintf("%03d", i), string(s.evidence.Capture))
		if err := s.evidence.Write(folder); err != nil {
			t.Fatal(err)
		}
		scenes[folder] = s
	}
	all := slices.Sorted(maps.Keys(scenes))
	intact, broken := 0, 0
	for keyFile, folders := range map[string][]string{pinned: all, "": all[:len(all)/4]} { // a key from outside, or none
		page := verifyByPage(t, folders, keyFile)
		for i, folder := range folders {
			s, ours, theirs := scenes[folder], page[folder], verifyAsShipped(t, folder, keyFile)
			if s.done == "" && ours.outcome != "authentic" && keyFile != "" && s.evidence.Key != nil && ours.outcome != "unsealed" {
				t.Errorf("case %d (%s): intact evidence is %s: %q", i, s.made, ours.outcome, ours.discrepancies)
			}
			if ours.outcome != theirs.outcome || ours.verdict != theirs.verdict && ours.outcome != "broken" {
				t.Errorf("case %d (%s; %s; key %q):\nby the page %q\nas shipped  %q", i, s.made, s.done, keyFile, ours, theirs)
			}
			switch {
			case keyFile == "":
			case ours.outcome == "broken":
				broken++
			case s.done == "":
				intact++
			}
		}
	}
	t.Logf("%d cases: %d intact, %d broken", *cases, intact, broken)
	if *cases >= 160 && (intact < 30 || broken < 50) {
		t.Errorf("%d cases are intact and %d broken, want at least 30 and 50", intact, broken)
	}
}

// TestShort keeps verify.py what somebody reads before trusting it.
func TestShort(t *testing.T) {
	text, err := os.ReadFile("verify.py")
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(text, []byte("\n")); n > 200 {
		t.Errorf("verify.py has %d lines, want at most 200", n)
	}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), cryptorand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// verifyByPage runs verify.py once for all folders.
func verifyByPage(t *testing.T, folders []string, keyFile string) map[string]outcome {
	t.Helper()
	args := []string{"-B", "verify.py"}
	if keyFile != "" {
		args = append(args, "--key", keyFile)
	}
	args = append(args, folders...)
	var stderr bytes.Buffer
	cmd := exec.Command("python3", args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if stderr.Len() > 0 || cmd.ProcessState == nil {
		t.Fatalf("python3 verify.py: %v: %s", err, &stderr)
	}
	all := map[string]outcome{}
	var folder string
	for line := range strings.Lines(string(out)) {
		label, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		o := all[folder]
		switch label {
		case "folder":
			folder = text
			continue
		case "outcome":
			o.outcome = text
		case "verdict":
			o.verdict = text
		default:
			o.discrepancies = append(o.discrepancies, label+": "+text)
		}
		all[folder] = o
	}
	want := 0
	for _, o := range all {
		want = max(want, o.code())
	}
	if code := cmd.ProcessState.ExitCode(); code != want {
		t.Errorf("verify.py exits with %d, want %d", code, want)
	}
	return all
}

func verifyAsShipped(t *testing.T, folder, keyFile string) outcome {
	t.Helper()
	var options shipped.Options
	if keyFile != "" {
		text, err := os.ReadFile(keyFile)
		if err != nil {
			t.Fatal(err)
		}
		if options.Key, err = shipped.ParseKey(text); err != nil {
			t.Fatal(err)
		}
	}
	src, err := shipped.OpenFolder(folder)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	report, err := shipped.Verify(t.Context(), src, options)
	if err != nil {
		return outcome{outcome: "error: " + err.Error()}
	}
	o := outcome{outcome: report.Outcome, verdict: report.Verdict}
	for _, d := range report.Discrepancies {
		o.discrepancies = append(o.discrepancies, d.String())
	}
	return o
}

// randomScene makes one case: of eight, three tell a lie, the next one after another, two are tampered with after they were sealed, and
// three are left intact.
func randomScene(t *testing.T, random *rand.Rand, i int, key, forger *ecdsa.PrivateKey) scene {
	t.Helper()
	often := func(percent int) bool { return random.IntN(100) < percent }
	cfg := evidence.Config{
		Key: key, Collectors: 1 + random.IntN(2), Segments: 1 + random.IntN(4), Packets: 1 + random.IntN(60),
		Cut: often(15), Killed: often(20), Missing: often(10), Backwards: often(15), ByHand: often(20),
		Joined: random.IntN(3), Addenda: random.IntN(3), Unsigned: often(5),
	}
	if often(15) {
		cfg.Lost = 1 + random.Uint64N(50)
	}
	if often(15) {
		cfg.HostLost = 1 + random.Uint64N(50)
	}
	if often(20) {
		cfg.PacketLength = 64 + random.Int32N(200)
	}
	if often(5) {
		cfg.Segments = -1
	}
	if often(5) {
		cfg.Planned = func(p *events.Plan) { p.Mirror.Filter = narrow[random.IntN(len(narrow))] }
	}
	unsealed := often(10)

	var s scene
	if i%8 < 3 {
		lie := lies[(i/8*3+i%8)%len(lies)]
		s.done = lie.name
		lie.tell(&cfg.Changes, random)
		cfg.Addenda++
	}
	build := evidence.New
	if unsealed {
		build = evidence.Unsealed
	}
	made := cfg
	made.Key, made.Planned, made.Changes = nil, nil, evidence.Changes{}
	s.made = fmt.Sprintf("unsealed %v, %+v", unsealed, made)
	var err error
	if s.evidence, err = build(cfg); err != nil {
		t.Fatalf("case %d: make evidence (%s; %s): %v", i, s.made, s.done, err)
	}
	if i%8 == 3 || i%8 == 4 {
		s.done = tamper(t, random, s.evidence, key, forger)
	}
	return s
}

// narrow are filters that ask for less than everything.
var narrow = []events.Filter{
	{Rules: events.EverythingFilter().Rules},
	{DNS: true, Rules: events.EverythingFilter().Rules[:3]},
	{DNS: true, Rules: slices.Concat([]events.FilterRule{{
		Number: 10, Direction: events.Egress, Action: events.Reject, SourceCIDR: "0.0.0.0/0", DestinationCIDR: "10.0.0.0/8",
	}}, events.EverythingFilter().Rules)},
}

// lies are told before what they are about is hashed and signed, so that only what follows from other records finds them.
var lies = []struct {
	name string
	tell func(*evidence.Changes, *rand.Rand)
}{
	{"a record has a packet more", func(c *evidence.Changes, _ *rand.Rand) { c.Record = func(r *events.Segment) { r.Packets++ } }},
	{"a record has a byte more", func(c *evidence.Changes, _ *rand.Rand) { c.Record = func(r *events.Segment) { r.Bytes++ } }},
	{"a record has a truncated packet more", func(c *evidence.Changes, _ *rand.Rand) { c.Record = func(r *events.Segment) { r.Truncated++ } }},
	{"a record begins earlier", func(c *evidence.Changes, _ *rand.Rand) {
		c.Record = func(r *events.Segment) { r.First = r.First.Add(-1) }
	}},
	{"a record runs backwards", func(c *evidence.Changes, _ *rand.Rand) {
		c.Record = func(r *events.Segment) { r.BackwardsNs = 200_000_000 }
	}},
	{"a record has another number", func(c *evidence.Changes, _ *rand.Rand) { c.Record = func(r *events.Segment) { r.Seq++ } }},
	{"a record follows another", func(c *evidence.Changes, _ *rand.Rand) {
		c.Record = func(r *events.Segment) { r.Previous = evidence.Digest([]byte("x")) }
	}},
	{"a checkpoint counts more than is left", func(c *evidence.Changes, random *rand.Rand) {
		n := 1 + random.IntN(4)
		c.Checkpoint = func(p *events.Checkpoint) {
			if p.Seq == n {
				p.Tally.Received += 1000
				p.Tally.RingDropped += 7
			}
		}
	}},
	{"a checkpoint lies in the past", func(c *evidence.Changes, random *rand.Rand) {
		n := 2 + random.IntN(2)
		c.Checkpoint = func(p *events.Checkpoint) {
			if p.Seq == n {
				p.At = p.At.AddDate(-1, 0, 0)
			}
		}
	}},
	{"a checkpoint follows another", func(c *evidence.Changes, random *rand.Rand) {
		n := 1 + random.IntN(4)
		c.Checkpoint = func(p *events.Checkpoint) {
			if p.Seq == n {
				p.Previous = evidence.Digest([]byte("x"))
			}
		}
	}},
	{"a checkpoint keeps its records", func(c *evidence.Changes, random *rand.Rand) {
		c.Checkpoint = func(p *events.Checkpoint) { p.Records = nil }
	}},
	{"a checkpoint is of version 2", func(c *evidence.Changes, _ *rand.Rand) {
		c.Checkpoint = func(p *events.Checkpoint) { p.Version = 2 }
	}},
	{"a checkpoint has another link", func(c *evidence.Changes, _ *rand.Rand) {
		c.Checkpoint = func(p *events.Checkpoint) { p.Chain = evidence.Digest([]byte("x")) }
	}},
	{"the closing manifest received more", func(c *evidence.Changes, _ *rand.Rand) {
		c.Closing = func(m *events.CollectorManifest) { m.Tally.Received++ }
	}},
	{"the closing manifest lost something", func(c *evidence.Changes, _ *rand.Rand) {
		c.Closing = func(m *events.CollectorManifest) { m.Tally.SocketDropped++ }
	}},
	{"the closing manifest knows fewer checkpoints", func(c *evidence.Changes, _ *rand.Rand) {
		c.Closing = func(m *events.CollectorManifest) { m.Checkpoints-- }
	}},
	{"the closing manifest has another last checkpoint", func(c *evidence.Changes, _ *rand.Rand) {
		c.Closing = func(m *events.CollectorManifest) { m.LastCheckpoint = evidence.Digest([]byte("x")) }
	}},
	{"the closing manifest drops a segment", func(c *evidence.Changes, _ *rand.Rand) {
		c.Closing = func(m *events.CollectorManifest) { m.Segments = m.Segments[:max(0, len(m.Segments)-1)] }
	}},
	{"the closing manifest has a fault", func(c *evidence.Changes, _ *rand.Rand) {
		c.Closing = func(m *events.CollectorManifest) { m.Error = "the disk was full" }
	}},
	{"the closing manifest is of another capture", func(c *evidence.Changes, _ *rand.Rand) {
		c.Closing = func(m *events.CollectorManifest) { m.Capture = "20261122T030405Z-eni-0fffffffffffffff0" }
	}},
	{"a custody line was stored earlier", func(c *evidence.Changes, _ *rand.Rand) {
		first := true
		c.Line = func(l *events.CustodyLine) {
			if !first {
				l.Stored = l.Stored.AddDate(-1, 0, 0)
			}
			first = false
		}
	}},
	{"a custody line has another entry", func(c *evidence.Changes, _ *rand.Rand) {
		c.Line = func(l *events.CustodyLine) { l.Entry = []byte(`{"version":1}`) }
	}},
	{"a custody line follows another", func(c *evidence.Changes, _ *rand.Rand) {
		c.Line = func(l *events.CustodyLine) { l.Previous = evidence.Digest([]byte("x")) }
	}},
	{"the tree has another root", func(c *evidence.Changes, _ *rand.Rand) {
		c.Tree = func(tree *events.Tree) { tree.Root = evidence.Digest([]byte("x")) }
	}},
	{"the tree has a segment more", func(c *evidence.Changes, _ *rand.Rand) {
		c.Tree = func(tree *events.Tree) { tree.Segments++ }
	}},
	{"the verdict is complete", manifestLie(func(m *events.Manifest) { m.Verdict, m.Reasons = events.VerdictComplete, nil })},
	{"the verdict is incomplete", manifestLie(func(m *events.Manifest) { m.Verdict = events.VerdictIncomplete })},
	{"a reason was made up", manifestLie(func(m *events.Manifest) { m.Reasons = append(m.Reasons, "it rained") })},
	{"the tally received more", manifestLie(func(m *events.Manifest) { m.Tally.Received++ })},
	{"the tally rejected more", manifestLie(func(m *events.Manifest) { m.Tally.Rejected.Fragment++ })},
	{"less was lost", manifestLie(func(m *events.Manifest) { m.Ledger.Lost, m.Ledger.AtMostLost = 0, 0 })},
	{"there are no gaps", manifestLie(func(m *events.Manifest) { m.Ledger.Gaps = nil })},
	{"a balance is missing", manifestLie(func(m *events.Manifest) { m.Ledger.Balances = m.Ledger.Balances[1:] })},
	{"a balance does not hold", manifestLie(func(m *events.Manifest) { m.Ledger.Balances[0].Holds = !m.Ledger.Balances[0].Holds })},
	{"a segment is not confirmed", manifestLie(func(m *events.Manifest) {
		if len(m.Segments) > 0 {
			m.Segments[0].Confirmed = !m.Segments[0].Confirmed
		}
	})},
	{"a stage has a packet more", manifestLie(func(m *events.Manifest) { m.Ledger.Stages[2].Packets++ })},
	{"a collector is missing", manifestLie(func(m *events.Manifest) { m.Collectors = m.Collectors[1:] })},
	{"a segment is missing", manifestLie(func(m *events.Manifest) { m.Segments = m.Segments[:max(0, len(m.Segments)-1)] })},
	{"a collector was derived", manifestLie(func(m *events.Manifest) { m.Collectors[0].Derived = !m.Collectors[0].Derived })},
	{"a collector says something else", manifestLie(func(m *events.Manifest) { m.Collectors[0].StopReason = "asked" })},
	{"objects are not in order", manifestLie(func(m *events.Manifest) { slices.Reverse(m.Objects) })},
	{"an object is listed twice", manifestLie(func(m *events.Manifest) { m.Objects = slices.Insert(m.Objects, 0, m.Objects[0]) })},
	{"an object is not listed", manifestLie(func(m *events.Manifest) { m.Objects = m.Objects[1:] })},
	{"an object that is not there", manifestLie(func(m *events.Manifest) {
		m.Objects = append(m.Objects, events.Object{Key: "captures/" + string(m.Capture) + "/zebra", SHA256: evidence.Digest(nil)})
	})},
	{"the source is another", manifestLie(func(m *events.Manifest) { m.Source.PrimaryIPv4 = "10.9.9.9" })},
	{"the mirror was wider", manifestLie(func(m *events.Manifest) { m.Mirror.PacketLength += 100 })},
	{"the session has another number", manifestLie(func(m *events.Manifest) { m.Mirror.SessionNumber++ })},
	{"the session has another id", manifestLie(func(m *events.Manifest) { m.Mirror.SessionID = "tms-0ffffffffffffffff" })},
	{"the format is another", manifestLie(func(m *events.Manifest) { m.Format = "flashtap-evidence/2" })},
	{"the version is another", manifestLie(func(m *events.Manifest) { m.Version = 2 })},
	{"the signer is another", manifestLie(func(m *events.Manifest) {
		if m.Signer != nil {
			m.Signer.PublicKeySHA256 = evidence.Digest(nil)
		}
	})},
	{"the plan is not an object", manifestLie(func(m *events.Manifest) { m.Plan.SHA256 = evidence.Digest(nil) })},
	{"something ended the capture", manifestLie(func(m *events.Manifest) { m.Error = "the instance was gone" })},
	{"an addendum is of another manifest", addendumLie(func(a *events.Addendum) { a.ManifestSHA256 = evidence.Digest(nil) })},
	{"an addendum follows another", addendumLie(func(a *events.Addendum) { a.Previous = evidence.Digest(nil) })},
	{"an addendum has another number", addendumLie(func(a *events.Addendum) { a.Seq += 7 })},
	{"an addendum lists nothing", addendumLie(func(a *events.Addendum) { a.Objects = nil })},
	{"an addendum has a verdict", addendumLie(func(a *events.Addendum) { a.Verdict, a.Reasons = events.VerdictIncomplete, []string{"it rained"} })},
}

func manifestLie(lie func(*events.Manifest)) func(*evidence.Changes, *rand.Rand) {
	return func(c *evidence.Changes, _ *rand.Rand) { c.Manifest = lie }
}

func addendumLie(lie func(*events.Addendum)) func(*evidence.Changes, *rand.Rand) {
	return func(c *evidence.Changes, _ *rand.Rand) { c.Addendum = lie }
}

// tamper does one thing to evidence that was sealed, and says what.
func tamper(t *testing.T, random *rand.Rand, e *evidence.Evidence, key, forger *ecdsa.PrivateKey) string {
	t.Helper()
	names := slices.Sorted(maps.Keys(e.Files))
	name, other := names[random.IntN(len(names))], names[random.IntN(len(names))]
	_, sealed := e.Files["manifest.json"]
	seal := func(key *ecdsa.PrivateKey) string { // what can't be read can't be sealed
		if err := e.Seal(key); err != nil {
			return ""
		}
		return "sealed anew "
	}
	kinds := 8
	if sealed {
		kinds = 11
	}
	switch random.IntN(kinds) {
	case 0, 1:
		body := bytes.Clone(e.Files[name])
		if len(body) > 0 {
			body[random.IntN(len(body))] ^= 1 << random.IntN(8)
		}
		e.Files[name] = body
		return "flipped a bit of " + name
	case 2:
		delete(e.Files, name)
		return "deleted " + name
	case 3:
		e.Files[name], e.Files[other] = e.Files[other], e.Files[name]
		return "swapped " + name + " and " + other
	case 4:
		e.Files[name+".old"] = e.Files[name]
		delete(e.Files, name)
		return "renamed " + name
	case 5:
		e.Files[name] = e.Files[name][:random.IntN(max(1, len(e.Files[name])))]
		return "truncated " + name
	case 6:
		extra := filepath.Dir(name) + "/" + evidence.Digest([]byte(name))[:12]
		e.Files[filepath.Clean(extra)] = []byte("{}")
		return "added " + extra
	case 7:
		e.Files[name] = append(bytes.Clone(e.Files[name]), '\n')
		return "lengthened " + name
	case 8:
		return seal(forger) + "with another key"
	case 9:
		delete(e.Files, name)
		return seal(key) + "without " + name
	default:
		body := bytes.Clone(e.Files[name])
		body[random.IntN(len(body))] ^= 1 << random.IntN(8)
		e.Files[name] = body
		return seal(key) + "with a bit flipped in " + name
	}
}
