package events

import (
	"slices"
	"testing"
	"time"
)

// TestArchitecture: the names are of the EC2 User Guide, "Instance type naming conventions".
func TestArchitecture(t *testing.T) {
	for kind, want := range map[string]string{
		"c7gn.large": ARM64, "c7g.large": ARM64, "c6gn.xlarge": ARM64, "m6gd.metal": ARM64, "t4g.nano": ARM64, "a1.large": ARM64,
		"im4gn.large": ARM64, "is4gen.medium": ARM64, "x2gd.large": ARM64, "hpc7g.16xlarge": ARM64, "r8g.large": ARM64, "g5g.xlarge": ARM64, "x8g.large": ARM64,
		"c6in.large": X86_64, "c7i.large": X86_64, "m5.large": X86_64, "t3a.micro": X86_64, "g4dn.xlarge": X86_64, "g5.xlarge": X86_64,
		"gr6.4xlarge": X86_64, "u-6tb1.metal": X86_64, "u7i-12tb.224xlarge": X86_64, "m7i-flex.large": X86_64, "trn1.2xlarge": X86_64, "vt1.3xlarge": X86_64,
	} {
		if got := Architecture(kind); got != want {
			t.Errorf("%s is %s, want %s", kind, got, want)
		}
	}
}

func TestPlanTimes(t *testing.T) {
	created := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	p := Plan{
		Start: created.Add(-24 * time.Hour), CreatedAt: created, // its message waited for a day
		Deadline: created.Add(20 * time.Minute),
		Limits:   CaptureLimits{DrainSeconds: 120, PollSeconds: 5, CheckpointSeconds: 15},
	}
	if got := p.Lifetime(); got > time.Hour {
		t.Errorf("a capture of 20 minutes lets its instance live for %s", got)
	}
	// The collector may draw its last breath DrainSeconds after the deadline, and the state machine looks for it a poll
	// and a checkpoint longer; a guard that begins sooner cuts it off.
	drained := p.Deadline.Add(140 * time.Second)
	if p.GuardAt().Before(drained) {
		t.Errorf("the guard begins %s before the drain is over", drained.Sub(p.GuardAt()))
	}
	if end := created.Add(p.Lifetime()); end.Before(p.GuardAt()) {
		t.Errorf("the instance ends itself %s before the guard would end it", p.GuardAt().Sub(end))
	}
}

func TestFailed(t *testing.T) {
	p := Plan{Verdicts: []Verdict{{Check: "a", Result: Pass}, {Check: "b", Result: Fail}, {Check: "c", Result: Warn}, {Check: "d", Result: Fail}}}
	var checks []string
	for _, v := range p.Failed() {
		checks = append(checks, v.Check)
	}
	if !slices.Equal(checks, []string{"b", "d"}) {
		t.Errorf("failed: %v", checks)
	}
}

func TestOuterSources(t *testing.T) {
	for name, row := range map[string]struct {
		s    Source
		want []string
	}{
		"both families": {Source{PrimaryIPv4: "10.0.0.1", PrimaryIPv6: "2001:db8::1"}, []string{"10.0.0.1", "2001:db8::1"}},
		"IPv4 alone":    {Source{PrimaryIPv4: "10.0.0.1"}, []string{"10.0.0.1"}},
	} {
		if got := row.s.OuterSources(); !slices.Equal(got, row.want) {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestCollectorConfigOfPlan(t *testing.T) {
	p := Plan{
		Deployment: "d", Capture: testCapture, Region: "eu-central-1", Deadline: time.Unix(2e9, 0).UTC(),
		Mirror: MirrorPlan{VNI: 42}, Source: Source{PrimaryIPv4: "10.0.0.1"}, Collector: PlacedAt{Bucket: "b", RoleID: "AROAX"},
		Limits: CaptureLimits{MaxBytes: 1, DrainSeconds: 2, SegmentBytes: 1 << 20, SegmentSeconds: 4, CheckpointSeconds: 5, PollSeconds: 6, SpoolBytes: 7},
	}
	c := p.CollectorConfig(Candidate{BinaryKey: "k", BinarySHA256: testDigest})
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	want := CollectorConfig{
		Version: 1, Deployment: "d", Capture: testCapture, Region: "eu-central-1", Bucket: "b", RoleID: "AROAX", VNI: 42, Sources: []string{"10.0.0.1"},
		MaxBytes: 1, Deadline: p.Deadline, DrainSeconds: 2, SegmentBytes: 1 << 20, SegmentSeconds: 4, CheckpointSeconds: 5, PollSeconds: 6, SpoolBytes: 7,
		BinaryKey: "k", BinarySHA256: testDigest,
	}
	if c.Sources[0] != want.Sources[0] {
		t.Errorf("sources %v", c.Sources)
	}
	c.Sources, want.Sources = nil, nil
	if a, b := mustJSON(t, c), mustJSON(t, want); a != b {
		t.Errorf("%s\nwant %s", a, b)
	}
}

// TestCollectorDisk: the disk takes what a spool of its size has to, and has room for the system.
func TestCollectorDisk(t *testing.T) {
	for spool, want := range map[int]int{1: 125, 10: 125, 20: 250, 40: 500, 60: 750, 1000: 750} {
		if gib, mibps := CollectorDisk(int64(spool) << 30); mibps != want || gib != spool+12 {
			t.Errorf("a spool of %d GiB gets a disk of %d GiB with %d MiB/s, want %d with %d", spool, gib, mibps, spool+12, want)
		}
	}
}
