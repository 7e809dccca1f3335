package evidence_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"flashtap/collector/evidence"
	"flashtap/events"
	build "flashtap/testutil/evidence"
)

// memory is a source of what package build made.
type memory map[string][]byte

func (m memory) List(context.Context) ([]evidence.Entry, error) {
	var list []evidence.Entry
	for name, body := range m {
		list = append(list, evidence.Entry{Name: name, Bytes: int64(len(body))})
	}
	return list, nil
}

func (m memory) Open(_ context.Context, name string, offset int64) (io.ReadCloser, error) {
	body, there := m[name]
	if !there {
		return nil, fmt.Errorf("open %s: %w", name, fs.ErrNotExist)
	}
	return io.NopCloser(bytes.NewReader(body[offset:])), nil
}

func made(t testing.TB, cfg build.Config) *build.Evidence {
	t.Helper()
	e, err := build.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// pinned are the options of somebody who has the key from elsewhere.
func pinned(t testing.TB, e *build.Evidence) evidence.Options {
	t.Helper()
	text, _, err := build.PublicKey(e.Key)
	if err != nil {
		t.Fatal(err)
	}
	key, err := evidence.ParseKey(text)
	if err != nil {
		t.Fatal(err)
	}
	return evidence.Options{Key: key}
}

func verify(t testing.TB, files map[string][]byte, o evidence.Options) evidence.Report {
	t.Helper()
	r, err := evidence.Verify(context.Background(), memory(files), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// kinds are captures that have everything the format knows, between them.
func kinds() map[string]build.Config {
	return map[string]build.Config{
		"one collector":             {},
		"nothing came":              {Segments: -1},
		"one segment":               {Segments: 1},
		"seven segments":            {Segments: 7, Packets: 5},
		"two collectors":            {Collectors: 2, Joined: 2, Addenda: 2},
		"by hand":                   {ByHand: true},
		"truncated":                 {PacketLength: 100},
		"filtered":                  {Planned: func(p *events.Plan) { p.Mirror.Filter.DNS = false }},
		"cut to headers":            {Cut: true},
		"the ring was full":         {Lost: 14, HostLost: 3},
		"killed":                    {Killed: true},
		"killed before any segment": {Segments: -1, Killed: true},
		"killed after a first":      {Collectors: 2, Killed: true, Cut: true, Lost: 2},
		"a segment did not arrive":  {Missing: true},
		"times run backwards":       {Backwards: true},
	}
}

func TestUntouchedEvidencePasses(t *testing.T) {
	verdicts := map[string]string{
		"nothing came": events.VerdictNothing, "truncated": events.VerdictTruncated, "filtered": events.VerdictTruncated, "cut to headers": events.VerdictIncomplete,
		"the ring was full": events.VerdictIncomplete, "killed": events.VerdictIncomplete, "killed before any segment": events.VerdictIncomplete,
		"killed after a first": events.VerdictIncomplete, "a segment did not arrive": events.VerdictIncomplete,
	}
	for name, cfg := range kinds() {
		t.Run(name, func(t *testing.T) {
			e := made(t, cfg)
			want := verdicts[name]
			if want == "" {
				want = events.VerdictComplete
			}
			r := verify(t, e.Files, pinned(t, e))
			if r.Outcome != evidence.Authentic || r.Verdict != want || len(r.Discrepancies) > 0 {
				t.Errorf("%s, %s: %v", r.Outcome, r.Verdict, r.Discrepancies)
			}
			if r := verify(t, e.Files, evidence.Options{}); r.Outcome != evidence.Consistent || r.Pinned {
				t.Errorf("without a key: %s: %v", r.Outcome, r.Discrepancies)
			}
			if _, fingerprint, err := build.PublicKey(e.Key); err != nil {
				t.Error(err)
			} else if r := verify(t, e.Files, evidence.Options{Fingerprint: fingerprint}); r.Outcome != evidence.Authentic {
				t.Errorf("with a fingerprint: %s: %v", r.Outcome, r.Discrepancies)
			}
			dir := t.TempDir()
			if err := e.Write(dir); err != nil {
				t.Fatal(err)
			}
			folder, err := evidence.OpenFolder(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer folder.Close()
			if r, err := evidence.Verify(t.Context(), folder, pinned(t, e)); err != nil || r.Outcome != evidence.Authentic || r.Objects != len(e.Files) {
				t.Errorf("from a folder: %v, %s with %d objects: %v", err, r.Outcome, r.Objects, r.Discrepancies)
			}
		})
	}
}

func TestCounts(t *testing.T) {
	e := made(t, build.Config{Collectors: 2, Segments: 3, Packets: 40, Addenda: 1})
	r := verify(t, e.Files, pinned(t, e))
	var size int64
	for _, body := range e.Files {
		size += int64(len(body))
	}
	if r.Capture != e.Capture || r.Segments != 6 || r.Packets != 240 || r.Checkpoints != 10 || r.Addenda != 1 || r.Bytes != size || r.Objects != len(e.Files) || r.Acts != 7 {
		t.Errorf("%+v, want %d objects with %d bytes", r, len(e.Files), size)
	}
	if r.SHA256 != build.Digest(e.Files["manifest.json"]) || r.Signer == "" || r.Tally.Written != 240 || r.Tally.Rejected.ForeignVNI != 6 {
		t.Errorf("%+v", r)
	}
}

func TestUnsealed(t *testing.T) {
	for name, cfg := range kinds() {
		t.Run(name, func(t *testing.T) {
			e, err := build.Unsealed(cfg)
			if err != nil {
				t.Fatal(err)
			}
			r := verify(t, e.Files, evidence.Options{})
			if r.Outcome != evidence.Unsealed || !strings.HasPrefix(r.Verdict, "incomplete from 2026-11-22T") || len(r.Discrepancies) > 0 {
				t.Errorf("%s, %s: %v", r.Outcome, r.Verdict, r.Discrepancies)
			}
			// A collector without its last word is one that runs or died.
			for _, name := range e.Names() {
				if strings.HasSuffix(name, "/manifest.json") {
					delete(e.Files, name)
				}
			}
			if r := verify(t, e.Files, evidence.Options{}); r.Outcome != evidence.Unsealed {
				t.Errorf("without closing words: %s: %v", r.Outcome, r.Discrepancies)
			}
			for i := 3; i < len(e.Files); i++ {
				broken := e.Clone()
				name := e.Names()[i]
				if !strings.Contains(name, "/segments/") && !strings.Contains(name, "/checkpoints/") {
					continue
				}
				broken.Files[name] = append(bytes.Clone(e.Files[name]), 0)
				if r := verify(t, broken.Files, evidence.Options{}); r.Outcome != evidence.Broken {
					t.Errorf("with a byte more in %s: %s", name, r.Outcome)
				}
			}
		})
	}
}

func TestUnsigned(t *testing.T) {
	e := made(t, build.Config{Unsigned: true})
	key := pinned(t, made(t, build.Config{}))
	for name, o := range map[string]evidence.Options{"no key": {}, "a key": key} {
		if r := verify(t, e.Files, o); r.Outcome != evidence.Consistent || r.Signed || len(r.Notes) == 0 {
			t.Errorf("%s: %s: %v", name, r.Outcome, r.Discrepancies)
		}
	}
}

func TestAnotherKey(t *testing.T) {
	e, other := made(t, build.Config{Addenda: 1}), made(t, build.Config{})
	r := verify(t, e.Files, pinned(t, other))
	if r.Outcome != evidence.Broken || len(r.Discrepancies) == 0 || slices.ContainsFunc(r.Discrepancies, func(d evidence.Discrepancy) bool { return d.Check != evidence.Signature }) {
		t.Errorf("%s: %v", r.Outcome, r.Discrepancies)
	}
	for _, name := range []string{"key.pem", "manifest.json", "manifest.sig", "tree.sig", "addenda/000001.sig"} {
		if !slices.ContainsFunc(r.Discrepancies, func(d evidence.Discrepancy) bool { return d.Object == name }) {
			t.Errorf("%s is not among %v", name, r.Discrepancies)
		}
	}
}

func TestNoEvidence(t *testing.T) {
	for name, files := range map[string]memory{"empty": {}, "something else": {"notes.txt": []byte("x"), "a/b": nil}} {
		if r, err := evidence.Verify(t.Context(), files, evidence.Options{}); err == nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestOneSegment(t *testing.T) {
	for _, n := range []int{1, 2, 3, 5, 8} {
		e := made(t, build.Config{Segments: n, Packets: 5})
		for i := range n {
			o := pinned(t, e)
			o.Segment = i + 1
			if r := verify(t, e.Files, o); r.Outcome != evidence.Authentic || r.Segments != 1 || r.Packets != 5 {
				t.Errorf("segment %d of %d: %s, %v", i+1, n, r.Outcome, r.Discrepancies)
			}
			out, err := e.Prove(i)
			if err != nil {
				t.Fatal(err)
			}
			if r := verify(t, out.Files, o); r.Outcome != evidence.Authentic || r.Packets != 5 {
				t.Errorf("segment %d of %d, handed out: %s, %v", i+1, n, r.Outcome, r.Discrepancies)
			}
			if r := verify(t, out.Files, evidence.Options{Segment: i + 1}); r.Outcome != evidence.Consistent {
				t.Errorf("without a key: %s, %v", r.Outcome, r.Discrepancies)
			}
			if r := verify(t, out.Files, evidence.Options{Key: o.Key, Segment: i + 2}); r.Outcome != evidence.Broken {
				t.Errorf("segment %d as %d: %s", i+1, i+2, r.Outcome)
			}
			if r, err := evidence.Verify(t.Context(), memory(out.Files), pinned(t, e)); !errors.Is(err, evidence.ErrHandedOut) {
				t.Errorf("segment %d of %d, taken for everything: %s, %v", i+1, n, r.Outcome, err)
			}
			if r := verify(t, out.Files, evidence.Options{Key: o.Key, Capture: e.Capture}); r.Outcome != evidence.Broken {
				t.Errorf("a capture cut down to segment %d of %d: %s", i+1, n, r.Outcome)
			}
			if r, err := evidence.Verify(t.Context(), memory(out.Files), evidence.Options{Key: o.Key, Capture: e.Capture, Segment: i + 1}); err == nil {
				t.Errorf("a capture cut down to segment %d of %d, of which it is asked: %s", i+1, n, r.Outcome)
			}
			for name, body := range out.Files {
				broken := out.Clone()
				broken.Files[name] = flipped(body, len(body)/2)
				if r := verify(t, broken.Files, o); r.Outcome != evidence.Broken {
					t.Errorf("with a bit of %s changed: %s", name, r.Outcome)
				}
				delete(broken.Files, name)
				r, err := evidence.Verify(t.Context(), memory(broken.Files), o)
				if err == nil && r.Outcome == evidence.Authentic {
					t.Errorf("without %s: %s", name, r.Outcome)
				}
			}
		}
	}
}

func flipped(body []byte, at int) []byte {
	changed := bytes.Clone(body)
	if len(changed) == 0 {
		return []byte{1}
	}
	changed[at] ^= 4
	return changed
}

// TestChecksByName has each check find what it is for, in evidence that is right otherwise.
func TestChecksByName(t *testing.T) {
	edit := func(c build.Changes) build.Config { return build.Config{Changes: c} }
	for name, row := range map[string]struct {
		cfg   build.Config
		touch func(*build.Evidence)
		check evidence.Check
		says  string
	}{
		"a record that is not canonical": {touch: func(e *build.Evidence) { reform(e, "plan.json") }, check: evidence.Format, says: "canonical"},
		"another version":                {cfg: edit(build.Changes{Tree: func(t *events.Tree) { t.Version = 2 }}), check: evidence.Format, says: "version"},
		"another capture":                {cfg: edit(build.Changes{Closing: func(c *events.CollectorManifest) { c.Capture = "20261122T030405Z-eni-00000000" }}), check: evidence.Format, says: "is about capture"},
		"another format":                 {cfg: edit(build.Changes{Manifest: func(m *events.Manifest) { m.Format = "flashtap-evidence/2" }}), check: evidence.Format, says: "flashtap-evidence/2"},
		"a signer of another key":        {cfg: edit(build.Changes{Manifest: func(m *events.Manifest) { m.Signer.PublicKeySHA256 = strings.Repeat("0", 64) }}), check: evidence.Signature, says: "names a signer"},
		"another algorithm":              {cfg: edit(build.Changes{Manifest: func(m *events.Manifest) { m.Signer.Algorithm = "NONE" }}), check: evidence.Signature, says: "NONE"},
		"no signer":                      {cfg: edit(build.Changes{Manifest: func(m *events.Manifest) { m.Signer = nil }}), check: evidence.Signature, says: "names no signer"},
		"an object more":                 {touch: func(e *build.Evidence) { e.Files["collectors/x/notes.txt"] = []byte("x") }, check: evidence.Objects, says: "nothing lists it"},
		"an object less":                 {touch: func(e *build.Evidence) { delete(e.Files, "finding.json") }, check: evidence.Objects, says: "is not there"},
		"listed twice": {cfg: edit(build.Changes{Manifest: func(m *events.Manifest) { m.Objects = append(m.Objects, m.Objects[len(m.Objects)-1]) }}),
			check: evidence.Objects, says: "listed twice"},
		"listed out of order": {cfg: edit(build.Changes{Manifest: func(m *events.Manifest) { m.Objects[0], m.Objects[1] = m.Objects[1], m.Objects[0] }}), check: evidence.Objects, says: "out of order"},
		"a length":            {cfg: edit(build.Changes{Manifest: func(m *events.Manifest) { m.Objects[0].Bytes++ }}), check: evidence.Objects, says: "bytes"},
		"a joined event under another name": {touch: func(e *build.Evidence) {
			e.Files["joined/"+strings.Repeat("a", 64)+".json"] = []byte("{}")
			reseal(e)
		}, check: evidence.Names, says: "has the digest"},
		"a count of packets":   {cfg: edit(build.Changes{Record: func(r *events.Segment) { r.Packets++ }}), check: evidence.Segments, says: "packets"},
		"a count of truncated": {cfg: edit(build.Changes{Record: func(r *events.Segment) { r.Truncated = 1 }}), check: evidence.Segments, says: "truncated"},
		"a time":               {cfg: edit(build.Changes{Record: func(r *events.Segment) { r.Last = r.Last.Add(1) }}), check: evidence.Segments, says: "is from"},
		"a number of bytes":    {cfg: edit(build.Changes{Record: func(r *events.Segment) { r.Bytes-- }}), check: evidence.Segments, says: "its record says"},
		"undeclared disorder":  {cfg: build.Config{Backwards: true, Changes: build.Changes{Record: func(r *events.Segment) { r.BackwardsNs = 0 }}}, check: evidence.Segments, says: "backwards by 248765433 ns"},
		"declared disorder":    {cfg: edit(build.Changes{Record: func(r *events.Segment) { r.BackwardsNs = 250000000 }}), check: evidence.Segments, says: "backwards by 0 ns"},
		"a key of another":     {cfg: edit(build.Changes{Record: func(r *events.Segment) { r.Key = strings.Replace(r.Key, "/000001-", "/000009-", 1) }}), check: evidence.Segments, says: "is not the key"},
		"a missing number": {cfg: build.Config{Changes: build.Changes{Record: func(r *events.Segment) {
			if r.Seq == 2 {
				r.Seq = 5
			}
		}}}, check: evidence.Segments, says: ""},
		"a chain that begins twice": {cfg: edit(build.Changes{Record: func(r *events.Segment) {
			if r.Seq == 3 {
				r.Previous = ""
			}
		}}), check: evidence.Chain, says: "2 beginnings"},
		"a chain that ends elsewhere":   {cfg: edit(build.Changes{Closing: func(c *events.CollectorManifest) { c.Chain = strings.Repeat("0", 64) }}), check: evidence.Chain, says: "ends in"},
		"a record that replaces naught": {cfg: build.Config{Cut: true, Changes: build.Changes{Closing: func(c *events.CollectorManifest) { c.Superseded = nil }}}, check: evidence.Chain, says: "of which there is no record"},
		"a checkpoint that follows another": {cfg: edit(build.Changes{Checkpoint: func(c *events.Checkpoint) {
			if c.Seq == 3 {
				c.Previous = strings.Repeat("0", 64)
			}
		}}), check: evidence.Checkpoints, says: "follows one"},
		"a checkpoint that goes back in time": {cfg: edit(build.Changes{Checkpoint: func(c *events.Checkpoint) {
			if c.Seq == 3 {
				c.At = c.At.AddDate(0, 0, -1)
			}
		}}), check: evidence.Checkpoints, says: "before the one before"},
		"a counter that falls": {cfg: edit(build.Changes{Checkpoint: func(c *events.Checkpoint) {
			if c.Seq == 3 {
				c.Tally.Received, c.Tally.Written = 1, 1
			}
		}}), check: evidence.Checkpoints, says: "counts fewer received"},
		"a checkpoint too few":        {cfg: edit(build.Changes{Closing: func(c *events.CollectorManifest) { c.Checkpoints++ }}), check: evidence.Checkpoints, says: "is not there"},
		"a checkpoint too many":       {cfg: edit(build.Changes{Closing: func(c *events.CollectorManifest) { c.Checkpoints-- }}), check: evidence.Checkpoints, says: "its last has the digest"},
		"another last checkpoint":     {cfg: edit(build.Changes{Closing: func(c *events.CollectorManifest) { c.LastCheckpoint = strings.Repeat("0", 64) }}), check: evidence.Checkpoints, says: "its last has the digest"},
		"a record that nobody tells":  {cfg: edit(build.Changes{Checkpoint: func(c *events.Checkpoint) { c.Records = nil }}), check: evidence.Checkpoints, says: "report 0 segment records"},
		"a chain that skips":          {cfg: edit(build.Changes{Checkpoint: func(c *events.Checkpoint) { c.Chain = "" }}), check: evidence.Checkpoints, says: "its chain ends in"},
		"a checkpoint that is gone":   {touch: func(e *build.Evidence) { remove(e, "/checkpoints/000002-"); reseal(e) }, check: evidence.Checkpoints, says: "missing"},
		"other words of a collector":  {cfg: edit(build.Changes{Manifest: func(m *events.Manifest) { m.Collectors[0].StopReason = "asked" }}), check: evidence.Manifest, says: "is not what the manifest says"},
		"a segment that is left out":  {cfg: edit(build.Changes{Manifest: func(m *events.Manifest) { m.Segments = m.Segments[1:] }}), check: evidence.Manifest, says: "in order"},
		"another source":              {cfg: edit(build.Changes{Manifest: func(m *events.Manifest) { m.Source.MAC = "" }}), check: evidence.Manifest, says: "source"},
		"another mirror":              {cfg: edit(build.Changes{Manifest: func(m *events.Manifest) { m.Mirror.VNI++ }}), check: evidence.Manifest, says: "mirror"},
		"another account":             {cfg: edit(build.Changes{Manifest: func(m *events.Manifest) { m.Account = "999999999999" }}), check: evidence.Manifest, says: "account"},
		"a finding that is not named": {cfg: edit(build.Changes{Manifest: func(m *events.Manifest) { m.Finding = nil }}), check: evidence.Manifest, says: "does not name it"},
		"what a dead one did not say": {cfg: build.Config{Killed: true, Changes: build.Changes{Manifest: func(m *events.Manifest) { m.Collectors[0].Checkpoints++ }}}, check: evidence.Manifest, says: "derives from checkpoints"},
		"another root":                {cfg: edit(build.Changes{Tree: func(t *events.Tree) { t.Root = strings.Repeat("0", 64) }}), check: evidence.Tree, says: "has the root"},
		"a tree over fewer":           {cfg: edit(build.Changes{Tree: func(t *events.Tree) { t.Segments-- }}), check: evidence.Tree, says: "is over 2"},
		"an act in other words": {cfg: edit(build.Changes{Line: func(l *events.CustodyLine) {
			l.Entry = json.RawMessage(strings.Replace(string(l.Entry), `"actor":"guard"`, `"actor":"guest"`, 1))
		}}), check: evidence.Custody, says: "its entry is not custody/guard-guarded.json"},
		"an act of another time": {cfg: edit(build.Changes{Line: func(l *events.CustodyLine) {
			if strings.Contains(l.Key, "guard") {
				l.Stored = l.Stored.AddDate(0, 0, -1)
			}
		}}), check: evidence.Custody, says: "out of order"},
		"an act with another digest": {cfg: edit(build.Changes{Line: func(l *events.CustodyLine) { l.SHA256 = strings.Repeat("0", 64) }}), check: evidence.Custody, says: "has the digest"},
		"a broken chain of acts":     {cfg: edit(build.Changes{Line: func(l *events.CustodyLine) { l.Previous = "" }}), check: evidence.Custody, says: "follows one"},
		"an act of nobody":           {cfg: edit(build.Changes{Line: func(l *events.CustodyLine) { l.Key += "x" }}), check: evidence.Custody, says: "has no line for"},
		"a sum":                      {cfg: edit(build.Changes{Manifest: func(m *events.Manifest) { m.Tally.Received++ }}), check: evidence.Ledger, says: "not the sum"},
		"a loss":                     {cfg: edit(build.Changes{Manifest: func(m *events.Manifest) { m.Ledger.Lost++ }}), check: evidence.Ledger, says: "are lost"},
		"a loss that is denied":      {cfg: build.Config{Lost: 4, Changes: build.Changes{Manifest: func(m *events.Manifest) { m.Reasons, m.Verdict = []string{}, events.VerdictComplete }}}, check: evidence.Ledger, says: "4 packets are lost, and no reason"},
		"a fault that is denied":     {cfg: build.Config{Missing: true, Changes: build.Changes{Manifest: func(m *events.Manifest) { m.Reasons, m.Verdict = []string{}, events.VerdictComplete }}}, check: evidence.Ledger, says: "names a fault, and no reason"},
		"a balance that does not hold": {cfg: edit(build.Changes{Manifest: func(m *events.Manifest) { m.Ledger.Balances[0].Left++; m.Ledger.Balances[0].Holds = true }}),
			check: evidence.Ledger, says: "balance 1"},
		"a balance less":   {cfg: edit(build.Changes{Manifest: func(m *events.Manifest) { m.Ledger.Balances = m.Ledger.Balances[1:] }}), check: evidence.Ledger, says: "balances"},
		"a gap less":       {cfg: build.Config{Lost: 4, Changes: build.Changes{Manifest: func(m *events.Manifest) { m.Ledger.Gaps = nil }}}, check: evidence.Ledger, says: "the gap is missing: 4 packets by ringDropped"},
		"a gap more":       {cfg: edit(build.Changes{Manifest: func(m *events.Manifest) { m.Ledger.Gaps = []events.Gap{{Cause: "unwritten", Packets: 3}} }}), check: evidence.Ledger, says: "does not follow"},
		"a better verdict": {cfg: build.Config{PacketLength: 100, Changes: build.Changes{Manifest: func(m *events.Manifest) { m.Verdict = events.VerdictComplete }}}, check: evidence.Ledger, says: "its verdict"},
		"a collector that sums wrongly": {cfg: edit(build.Changes{
			Closing:  func(c *events.CollectorManifest) { c.Tally.Received++ },
			Manifest: func(m *events.Manifest) { m.Reasons, m.Verdict = []string{}, events.VerdictComplete },
		}), check: evidence.Ledger, says: "a balance does not hold, and no reason"},
		"no word of a stray segment": {cfg: build.Config{Changes: build.Changes{Closing: func(c *events.CollectorManifest) { c.Segments = c.Segments[:2] },
			Manifest: func(m *events.Manifest) { m.Reasons, m.Verdict = []string{}, events.VerdictComplete }}}, check: evidence.Ledger, says: "is a segment that no collector has a record of"},
		"no word of a stranger's folder": {touch: func(e *build.Evidence) {
			e.Files["collectors/AROAX:i-1/segments/000001-"+build.Digest([]byte("x"))+".pcap"] = []byte("x")
			reseal(e)
		}, cfg: build.Config{Changes: build.Changes{Manifest: func(m *events.Manifest) {
			m.Collectors, m.Reasons, m.Verdict = m.Collectors[:1], []string{}, events.VerdictComplete
		}}}, check: evidence.Ledger, says: "is in a folder of no collector"},
		"no word of a death":              {cfg: build.Config{Killed: true, Changes: build.Changes{Manifest: func(m *events.Manifest) { m.Reasons = []string{"it died"} }}}, check: evidence.Ledger, says: "no reason begins with"},
		"an addendum to another":          {cfg: build.Config{Addenda: 1, Changes: build.Changes{Addendum: func(a *events.Addendum) { a.ManifestSHA256 = strings.Repeat("0", 64) }}}, check: evidence.Addenda, says: "about a manifest"},
		"an addendum that follows naught": {cfg: build.Config{Addenda: 2, Changes: build.Changes{Addendum: func(a *events.Addendum) { a.Previous = "" }}}, check: evidence.Addenda, says: "follows one"},
		"an addendum that is missing": {cfg: build.Config{Addenda: 2}, touch: func(e *build.Evidence) {
			delete(e.Files, "addenda/000001.json")
			delete(e.Files, "addenda/000001.sig")
		}, check: evidence.Addenda, says: "comes as number 1"},
	} {
		t.Run(name, func(t *testing.T) {
			e := made(t, row.cfg)
			if row.touch != nil {
				row.touch(e)
			}
			r := verify(t, e.Files, pinned(t, e))
			if r.Outcome != evidence.Broken || !slices.ContainsFunc(r.Discrepancies, func(d evidence.Discrepancy) bool {
				return d.Check == row.check && strings.Contains(d.What, row.says)
			}) {
				t.Errorf("%s, and no %s says %q: %v", r.Outcome, row.check, row.says, r.Discrepancies)
			}
		})
	}
}

// reform writes a record with white space, and seals again.
func reform(e *build.Evidence, name string) {
	var b bytes.Buffer
	if err := json.Indent(&b, e.Files[name], "", " "); err != nil {
		panic(err)
	}
	e.Files[name] = b.Bytes()
	reseal(e)
}

func reseal(e *build.Evidence) {
	if err := e.Seal(e.Key); err != nil {
		panic(err)
	}
}

// TestAddendumWithoutSignature: whoever may write to the bucket could add one, or take away what an addendum says of the loss.
func TestAddendumWithoutSignature(t *testing.T) {
	for _, name := range []string{"addenda/000001.sig", "addenda/000002.sig"} {
		e := made(t, build.Config{Addenda: 2})
		delete(e.Files, name)
		if r := verify(t, e.Files, pinned(t, e)); r.Outcome != evidence.Broken || !strings.Contains(fmt.Sprint(r.Discrepancies), "signature: "+name+": is not there") {
			t.Errorf("without %s: %s: %v", name, r.Outcome, r.Discrepancies)
		}
	}
}

// TestMissingCheckpoint takes away one checkpoint that is not the last of a collector without a closing word, or has it be no record.
func TestMissingCheckpoint(t *testing.T) {
	for name, cfg := range kinds() {
		if cfg.Collectors > 1 {
			continue
		}
		t.Run(name, func(t *testing.T) {
			whole, err := build.Unsealed(cfg)
			if err != nil {
				t.Fatal(err)
			}
			var points []string
			for _, name := range whole.Names() {
				switch {
				case strings.Contains(name, "/checkpoints/"):
					points = append(points, name)
				case strings.HasSuffix(name, "/manifest.json"):
					delete(whole.Files, name)
				}
			}
			for _, point := range points[:len(points)-1] {
				e := whole.Clone()
				delete(e.Files, point)
				if r := verify(t, e.Files, evidence.Options{}); r.Outcome != evidence.Unsealed {
					t.Errorf("without %s: %s: %v", point, r.Outcome, r.Discrepancies)
				}
				reseal(e)
				if r := verify(t, e.Files, pinned(t, e)); r.Outcome != evidence.Authentic || r.Verdict != events.VerdictIncomplete {
					t.Errorf("without %s, sealed: %s, %s: %v", point, r.Outcome, r.Verdict, r.Discrepancies)
				}
				e = whole.Clone()
				delete(e.Files, point)
				torn := []byte("{")
				e.Files[strings.Replace(point, point[len(point)-69:], build.Digest(torn)+".json", 1)] = torn
				if r := verify(t, e.Files, evidence.Options{}); r.Outcome != evidence.Unsealed {
					t.Errorf("with %s torn: %s: %v", point, r.Outcome, r.Discrepancies)
				}
			}
		})
	}
}

// TestLateCheckpoint has a checkpoint arrive after the manifest: it tells nothing of what was sealed.
func TestLateCheckpoint(t *testing.T) {
	var late string
	var e *build.Evidence
	e, err := build.Unsealed(build.Config{Killed: true, Changes: build.Changes{Addendum: func(a *events.Addendum) {
		body := e.Files[late]
		a.Objects = append(a.Objects, events.Object{Key: events.CapturePrefix(e.Capture) + late, Bytes: int64(len(body)), SHA256: build.Digest(body)})
	}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range e.Names() {
		if strings.Contains(name, "/checkpoints/") {
			late = name
		}
	}
	body := e.Files[late]
	delete(e.Files, late)
	reseal(e)
	e.Files[late] = body
	if err := e.Amend(e.Key); err != nil {
		t.Fatal(err)
	}
	if r := verify(t, e.Files, pinned(t, e)); r.Outcome != evidence.Authentic {
		t.Errorf("%s: %v", r.Outcome, r.Discrepancies)
	}
	e.Files[late] = flipped(body, 9)
	if r := verify(t, e.Files, pinned(t, e)); r.Outcome != evidence.Broken {
		t.Errorf("changed: %s", r.Outcome)
	}
}

// TestNoActAmongThem has objects among the acts and certificates that are no records: the manifest lists them, and custody.jsonl can't.
func TestNoActAmongThem(t *testing.T) {
	strays := map[string][]byte{"custody/zz-torn.json": []byte("{"), "custody/notes.txt": []byte("{}"), "certificates/000009.json": {}}
	for name, row := range map[string]struct {
		reasons []string
		want    string
	}{"with a reason": {[]string{"custody/zz-torn.json and others are no records"}, evidence.Authentic}, "without": {[]string{}, evidence.Broken}} {
		e := made(t, build.Config{Changes: build.Changes{Manifest: func(m *events.Manifest) {
			for name, body := range strays {
				m.Objects = append(m.Objects, events.Object{Key: events.CapturePrefix(m.Capture) + name, Bytes: int64(len(body)), SHA256: build.Digest(body)})
			}
			slices.SortFunc(m.Objects, func(a, b events.Object) int { return strings.Compare(a.Key, b.Key) })
			if m.Reasons = row.reasons; len(m.Reasons) > 0 {
				m.Verdict = events.VerdictIncomplete
			}
		}}})
		for name, body := range strays {
			e.Files[name] = body
		}
		if r := verify(t, e.Files, pinned(t, e)); r.Outcome != row.want || r.Acts != 6 && row.want == evidence.Authentic {
			t.Errorf("%s: %s with %d acts: %v", name, r.Outcome, r.Acts, r.Discrepancies)
		}
	}
	e := made(t, build.Config{Lost: 4, Changes: build.Changes{Line: func(l *events.CustodyLine) { l.Key += "x" }}})
	if r := verify(t, e.Files, pinned(t, e)); r.Outcome != evidence.Broken || !strings.Contains(fmt.Sprint(r.Discrepancies), "has no line for") {
		t.Errorf("an act without a line, and a reason for something else: %s: %v", r.Outcome, r.Discrepancies)
	}
}

// TestFolderWithPipes has pipes, which nobody writes to, in the place of objects.
func TestFolderWithPipes(t *testing.T) {
	e := made(t, build.Config{})
	for _, name := range []string{"manifest.json", "key.pem", "plan.json", "custody.jsonl", "tree.sig"} {
		dir := filepath.Join(t.TempDir(), string(e.Capture))
		pipe := filepath.Join(dir, name)
		if err := errors.Join(e.Write(dir), os.Remove(pipe), syscall.Mkfifo(pipe, 0o666)); err != nil {
			t.Fatal(err)
		}
		folder, err := evidence.OpenFolder(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer folder.Close()
		if r, err := evidence.Verify(t.Context(), folder, pinned(t, e)); err != nil || r.Outcome != evidence.Broken {
			t.Errorf("%s: %v, %s: %v", name, err, r.Outcome, r.Discrepancies)
		}
		if _, err := folder.Open(t.Context(), name, 0); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("open %s: %v", name, err)
		}
	}
}

func TestFolderWithLinks(t *testing.T) {
	e := made(t, build.Config{})
	dir := t.TempDir()
	if err := e.Write(filepath.Join(dir, string(e.Capture))); err != nil {
		t.Fatal(err)
	}
	link(t, dir, e)
	folder, err := evidence.OpenFolder(filepath.Join(dir, string(e.Capture)))
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	r, err := evidence.Verify(t.Context(), folder, pinned(t, e))
	if err != nil || r.Outcome != evidence.Broken || !strings.Contains(fmt.Sprint(r.Discrepancies), "a symbolic link, not a file") {
		t.Errorf("%v, %s: %v", err, r.Outcome, r.Discrepancies)
	}
}

// link replaces the finding by a link to the same bytes outside.
func link(t *testing.T, dir string, e *build.Evidence) {
	t.Helper()
	outside := filepath.Join(dir, "outside.json")
	name := filepath.Join(dir, string(e.Capture), "finding.json")
	if err := errors.Join(os.WriteFile(outside, e.Files["finding.json"], 0o666), os.Remove(name), os.Symlink(outside, name)); err != nil {
		t.Fatal(err)
	}
}

// remove takes away the first object whose name has a part.
func remove(e *build.Evidence, part string) {
	for _, name := range e.Names() {
		if strings.Contains(name, part) {
			delete(e.Files, name)
			return
		}
	}
}
