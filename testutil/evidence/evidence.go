// Package evidence makes signed evidence as docs/evidence.md describes it, for verifiers to accept and for tests to tamper with.
//
// It is written from that page alone, and neither seals nor verifies with the code that ships.
package evidence

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/gowebpki/jcs"

	"flashtap/events"
)

// Config says what evidence to make. Its zero value is a small, complete capture by one collector, signed by a new key.
type Config struct {
	Capture    events.CaptureID  // empty: one of 22 November 2026
	Collectors int               // default 1
	Segments   int               // of each collector; default 3, and -1 for none
	Packets    int               // of each segment; default 40
	Recordings []string          // of package packets, whose frames fill the segments; default a few
	Key        *ecdsa.PrivateKey // that signs; nil: a new one
	Unsigned   bool

	Cut          bool   // segment 2 of the first collector was cut to headers, because its disk was full
	Killed       bool   // the last collector died: no closing manifest, and one segment more than its checkpoints tell of
	Lost         uint64 // packets that the ring of the first collector dropped, half of them between each of two pairs of checkpoints
	HostLost     uint64 // packets that its interface dropped
	Missing      bool   // its first segment never reached the bucket
	Backwards    bool   // timestamps of its first segment run backwards by 250 ms
	PacketLength int32  // what the mirror keeps of each frame; 0: everything
	ByHand       bool   // no finding started it
	Joined       int    // later findings
	Addenda      int
	Planned      func(*events.Plan) // the last change to the plan

	// Changes are made before what they change is hashed, so that everything above follows: what somebody forges who has
	// everything but the key.
	Changes Changes
}

// Changes are lies at each height of the evidence. nil: none.
type Changes struct {
	Record     func(*events.Segment) // before it is chained
	Checkpoint func(*events.Checkpoint)
	Closing    func(*events.CollectorManifest)
	Line       func(*events.CustodyLine)
	Tree       func(*events.Tree)
	Manifest   func(*events.Manifest)
	Addendum   func(*events.Addendum)
}

// Evidence is what one capture left.
type Evidence struct {
	Capture events.CaptureID
	Key     *ecdsa.PrivateKey    // nil: unsigned
	Files   map[string][]byte    // by name: the key without captures/<capture>/
	Stored  map[string]time.Time // when the bucket took them
	Plan    events.Plan

	cfg   Config
	clock time.Time // of the bucket
}

// New makes evidence.
func New(cfg Config) (*Evidence, error) {
	e, err := Unsealed(cfg)
	if err != nil {
		return nil, err
	}
	if err := e.Seal(e.Key); err != nil {
		return nil, err
	}
	for range e.cfg.Addenda {
		if err := e.Amend(e.Key); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// Unsealed makes what lies in the bucket before the capture is sealed.
func Unsealed(cfg Config) (*Evidence, error) {
	cfg.fill()
	e := &Evidence{Capture: cfg.Capture, Key: cfg.Key, Files: map[string][]byte{}, Stored: map[string]time.Time{}, cfg: cfg}
	start, err := cfg.Capture.Start()
	if err != nil {
		return nil, err
	}
	e.clock = start
	if e.Key == nil && !cfg.Unsigned {
		if e.Key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			return nil, err
		}
	}
	if err := e.begin(start); err != nil {
		return nil, err
	}
	for n := range cfg.Collectors {
		if err := e.collect(n, start); err != nil {
			return nil, err
		}
	}
	return e, e.end()
}

func (cfg *Config) fill() {
	if cfg.Capture == "" {
		cfg.Capture = "20261122T030405Z-eni-0a1b2c3d4e5f60718"
	}
	if cfg.Collectors == 0 {
		cfg.Collectors = 1
	}
	switch cfg.Segments {
	case 0:
		cfg.Segments = 3
	case -1:
		cfg.Segments = 0
	}
	if cfg.Packets == 0 {
		cfg.Packets = 40
	}
	if len(cfg.Recordings) == 0 {
		cfg.Recordings = []string{"ndpi-trickbot.pcap", "ndpi-dns_exfiltration.pcap", "ndpi-http_ipv6.pcap"}
	}
	for _, change := range []func(){
		func() { set(&cfg.Changes.Record) }, func() { set(&cfg.Changes.Checkpoint) }, func() { set(&cfg.Changes.Closing) },
		func() { set(&cfg.Changes.Line) }, func() { set(&cfg.Changes.Tree) }, func() { set(&cfg.Changes.Manifest) },
		func() { set(&cfg.Changes.Addendum) }, func() { set(&cfg.Planned) },
	} {
		change()
	}
}

// set has a change that is none do nothing.
func set[T any](change *func(*T)) {
	if *change == nil {
		*change = func(*T) {}
	}
}

// Load takes evidence that somebody else made, to tamper with it and to seal it anew.
func Load(files map[string][]byte) (*Evidence, error) {
	e := &Evidence{Files: files, Stored: map[string]time.Time{}}
	if err := json.Unmarshal(files["plan.json"], &e.Plan); err != nil {
		return nil, fmt.Errorf("read plan.json: %w", err)
	}
	e.Capture, e.cfg.Capture = e.Plan.Capture, e.Plan.Capture
	e.cfg.fill()
	for _, text := range bytes.Split(bytes.TrimSuffix(files["custody.jsonl"], []byte("\n")), []byte("\n")) {
		var line events.CustodyLine
		if err := json.Unmarshal(text, &line); err != nil {
			return nil, fmt.Errorf("read custody.jsonl: %w", err)
		}
		e.Stored[e.name(line.Key)], e.clock = line.Stored, line.Stored
	}
	return e, nil
}

// Clone is a copy that can be tampered with.
func (e *Evidence) Clone() *Evidence {
	c := *e
	c.Files, c.Stored = maps.Clone(e.Files), maps.Clone(e.Stored)
	return &c
}

// Names are the names of all objects, in order.
func (e *Evidence) Names() []string { return slices.Sorted(maps.Keys(e.Files)) }

// Write writes the evidence into a folder, which is made when it is not there.
func (e *Evidence) Write(dir string) error {
	for name, body := range e.Files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			return err
		}
		if err := os.WriteFile(path, body, 0o666); err != nil {
			return err
		}
	}
	return nil
}

// PublicKey is the public half of the signing key as PEM and the digest of its DER form.
func PublicKey(key *ecdsa.PrivateKey) (text []byte, fingerprint string, err error) {
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return nil, "", err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), Digest(der), nil
}

// Digest is the SHA-256 of bytes, in hexadecimal.
func Digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// Canonical is the canonical JSON of a value (RFC 8785).
func Canonical(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return jcs.Transform(text)
}

// Sign is the signature over bytes (section 9).
func Sign(key *ecdsa.PrivateKey, body []byte) ([]byte, error) {
	sum := sha256.Sum256(body)
	return ecdsa.SignASN1(rand.Reader, key, sum[:])
}

// Link is the link of a segment record (section 3).
func Link(r events.Segment) (string, error) {
	leaf, err := leafOf(r)
	return Digest(leaf), err
}

func leafOf(r events.Segment) ([]byte, error) {
	r.Confirmed = false
	return Canonical(r)
}

// put stores an object a moment after the one before.
func (e *Evidence) put(name string, body []byte) {
	e.clock = e.clock.Add(50 * time.Millisecond)
	e.Files[name], e.Stored[name] = body, e.clock.Truncate(time.Second)
}

// putRecord stores a record and returns its digest.
func (e *Evidence) putRecord(name string, v any) (string, error) {
	body, err := Canonical(v)
	if err != nil {
		return "", fmt.Errorf("make %s: %w", name, err)
	}
	e.put(name, body)
	return Digest(body), nil
}

func (e *Evidence) key(name string) string { return events.CapturePrefix(e.Capture) + name }

// name is the part of a key behind captures/<capture>/.
func (e *Evidence) name(key string) string { return key[min(len(key), len(e.key(""))):] }

// act records an act.
func (e *Evidence) act(actor, act, resource string, detail map[string]string) error {
	entry := events.CustodyEntry{
		Version: events.RecordVersion, Capture: e.Capture, Actor: actor, Act: act, At: e.clock.Add(20 * time.Millisecond).UTC(), Resource: resource,
		RequestID: Digest([]byte(actor + act))[:8] + "-4b5c-4d6e-8f70-112233445566", Detail: detail,
	}
	_, err := e.putRecord(e.name(events.CustodyKey(e.Capture, actor, act)), entry)
	return err
}

// begin makes what there is before a collector runs.
func (e *Evidence) begin(start time.Time) error {
	if !e.cfg.ByHand {
		// As received: not canonical, and with what others wrote.
		e.put("finding.json", []byte("{ \"detail-type\": \"GuardDuty Finding\", \"detail\": {\"severity\": 8.50, \"title\": \"caf\\u00e9 \\u20ac\"} }\n"))
	}
	for n := range e.cfg.Joined {
		body := fmt.Appendf(nil, "{\"detail-type\": \"GuardDuty Finding\", \"number\": %d}", n)
		e.put("joined/"+Digest(body)+".json", body)
	}
	e.Plan = events.Plan{
		Version: events.RecordVersion, Capture: e.Capture, Deployment: "prod", Account: "111122223333", Region: "eu-central-1", Tool: "flashtap preflight test",
		CreatedAt: start.Add(1500 * time.Millisecond), Go: true, Start: start, Deadline: start.Add(20 * time.Minute),
		Request:  events.Request{Capture: e.Capture, NetworkInterfaceID: e.Capture.NetworkInterfaceID(), Severity: 8.5, Reason: "naïve <beacon> & €"},
		Verdicts: []events.Verdict{{Check: "instance-family", Result: events.Pass, Reason: "AWS mirrors m5.large"}},
		Source: events.Source{
			NetworkInterfaceID: e.Capture.NetworkInterfaceID(), InterfaceType: "interface", InstanceID: "i-0a1b2c3d4e5f60718", InstanceType: "m5.large",
			VPC: "vpc-0a1b2c3d", Subnet: "subnet-0a1b2c3d", AvailabilityZone: "eu-central-1a", PrimaryIPv4: "10.0.0.10", MAC: "06:00:00:00:00:01",
		},
		Mirror: events.MirrorPlan{VNI: 7654321, SessionNumber: 1, PacketLength: e.cfg.PacketLength, Filter: events.EverythingFilter()},
		Cost:   &events.Cost{PerHourUSD: 0.1069, AsOf: "2026-11-01", Region: "eu-central-1", Items: []events.CostItem{{What: "c7g.large", PerHourUSD: 0.0832}}},
		Limits: events.CaptureLimits{DurationSeconds: 900, SegmentBytes: 128 << 20, SegmentSeconds: 60, CheckpointSeconds: 15, PollSeconds: 5, DrainSeconds: 120, SpoolBytes: 20 << 30},
	}
	e.cfg.Planned(&e.Plan)
	if _, err := e.putRecord("plan.json", e.Plan); err != nil {
		return err
	}
	for _, act := range [][3]string{{"intake", "started", "arn:aws:states:eu-central-1:111122223333:execution:flashtap-capture:x"}, {"guard", "guarded", "prod/" + e.Capture.NetworkInterfaceID()}} {
		if err := e.act(act[0], act[1], act[2], nil); err != nil {
			return err
		}
	}
	for n := range e.cfg.Collectors {
		id := instance(n)
		if err := e.act("launch", "launched-"+id, id, map[string]string{"userId": userID(n), "instanceType": "c7g.large"}); err != nil {
			return err
		}
	}
	return e.act("mirror", "mirrored", sessionID, map[string]string{"vni": "7654321"})
}

// end makes what teardown leaves.
func (e *Evidence) end() error {
	gone := []events.Resource{{Kind: "session", ID: sessionID}, {Kind: "instance", ID: instance(0), State: "terminated"}}
	for n := 1; n <= 2; n++ {
		cert := events.Certificate{
			Version: events.RecordVersion, Capture: e.Capture, Seq: n, By: "state-machine", At: e.clock.UTC(), Found: gone, Gone: gone,
			Remaining: []events.Resource{}, Refused: []events.Resource{},
		}
		if _, err := e.putRecord(e.name(events.CertificateKey(e.Capture, n)), cert); err != nil {
			return err
		}
	}
	return nil
}

const sessionID = "tms-0a1b2c3d4e5f60718"

func instance(n int) string { return fmt.Sprintf("i-0c011ec70%08x", n+1) }

func userID(n int) string { return events.UserID("AROAFLASHTAPCOLLECTOR", instance(n)) }

// Prove makes what is handed out of one segment, by its place in the manifest, from 0.
func (e *Evidence) Prove(index int) (*Evidence, error) {
	var m events.Manifest
	if err := json.Unmarshal(e.Files["manifest.json"], &m); err != nil {
		return nil, err
	}
	var hashes [][]byte
	for _, r := range m.Segments {
		leaf, err := leafOf(r)
		if err != nil {
			return nil, err
		}
		hashes = append(hashes, hash(0, leaf))
	}
	r := m.Segments[index]
	r.Confirmed = false
	p := events.Proof{Version: events.RecordVersion, Capture: e.Capture, Index: index, Size: len(m.Segments), Record: r, Path: []string{}}
	for _, h := range inclusion(index, hashes) {
		p.Path = append(p.Path, hex.EncodeToString(h))
	}
	out := &Evidence{Capture: e.Capture, Key: e.Key, Files: map[string][]byte{}, Stored: map[string]time.Time{}, cfg: e.cfg}
	if _, err := out.putRecord("proof.json", p); err != nil {
		return nil, err
	}
	for _, name := range []string{"tree.json", "tree.sig", "key.pem"} {
		if body, there := e.Files[name]; there {
			out.Files[name] = bytes.Clone(body)
		}
	}
	out.Files[filepath.Base(r.Key)] = e.Files[e.name(r.Key)]
	return out, nil
}
