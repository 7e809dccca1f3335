package events

import (
	"maps"
	"strings"
	"time"
)

// Plan is one capture as decided before anything is touched. Everything random or time-dependent (capture id, VNI,
// deadline, session number, user data) is fixed here once, so that every step may run twice.
type Plan struct {
	Version    int           `json:"version"`
	Capture    CaptureID     `json:"capture"`
	Deployment string        `json:"deployment"`
	Account    string        `json:"account"`
	Region     string        `json:"region"`
	Tool       string        `json:"tool"`
	CreatedAt  time.Time     `json:"createdAt"`
	Request    Request       `json:"request"`
	Go         bool          `json:"go"` // false: a verdict failed, and nothing is to be made
	Verdicts   []Verdict     `json:"verdicts"`
	Source     Source        `json:"source"`
	Mirror     MirrorPlan    `json:"mirror"`
	Collector  PlacedAt      `json:"collector"`
	Start      time.Time     `json:"start"`
	Deadline   time.Time     `json:"deadline"` // when capturing ends at the latest, however long the collector took to come up
	Limits     CaptureLimits `json:"limits"`

	Profile    string   `json:"profile,omitempty"`    // what is mirrored: one of the profiles
	Shadows    []Shadow `json:"shadows,omitempty"`    // sessions of others that take packets before ours sees them
	BlindSpots []string `json:"blindSpots,omitempty"` // what this capture can't show, one sentence each
	Cost       *Cost    `json:"cost,omitempty"`       // what an hour of it costs by list prices

	Tags map[string]string `json:"tags,omitempty"` // the deployment's own, on everything that is made; none replaces one of ours
}

// ResourceTags are the tags of everything that is made for the capture: the deployment's and ours.
func (p Plan) ResourceTags(attempt int) map[string]string {
	tags := maps.Clone(p.Tags)
	if tags == nil {
		tags = map[string]string{}
	}
	maps.Copy(tags, ResourceTags(p.Deployment, p.Capture, p.Deadline, attempt))
	return tags
}

// Verdict is the outcome of one preflight check.
type Verdict struct {
	Check    string   `json:"check"`
	Result   string   `json:"result"` // pass, warn, fail or fixed
	Reason   string   `json:"reason"`
	Remedy   string   `json:"remedy,omitempty"`
	Evidence []string `json:"evidence,omitempty"` // ids of what it was judged by
}

// The results of a check.
const (
	Pass  = "pass"
	Warn  = "warn"
	Fail  = "fail"
	Fixed = "fixed" // it would fail, but the capture brings what is missing and takes it away again
)

// Shadow is a mirror session on the same source that AWS tries before ours. Each packet is mirrored at most once, so
// what its filter accepts never reaches us (VPC Traffic Mirroring guide, "Sessions").
type Shadow struct {
	Session string   `json:"session"`
	Owner   string   `json:"owner"` // account
	Number  int32    `json:"number"`
	Filter  string   `json:"filter"`
	Takes   []string `json:"takes"` // the packets of ours that it takes, one description each
	All     bool     `json:"all"`   // it takes everything that ours wants
}

// Cost is what an hour of the capture costs by list prices.
type Cost struct {
	PerHourUSD float64    `json:"perHourUsd"`
	AsOf       string     `json:"asOf"`   // date of the price table
	Region     string     `json:"region"` // whose prices the table has
	Items      []CostItem `json:"items"`
	AtLeast    bool       `json:"atLeast,omitempty"` // an item has no price in the table, so the sum leaves it out
	Beside     []string   `json:"beside,omitempty"`  // what AWS bills by the gigabyte, and so is in no sum, one sentence each
}

// CostItem is one thing that AWS bills for.
type CostItem struct {
	What       string  `json:"what"`
	PerHourUSD float64 `json:"perHourUsd"`
}

// Failed are the verdicts that forbid the capture.
func (p Plan) Failed() []Verdict {
	var failed []Verdict
	for _, v := range p.Verdicts {
		if v.Result == Fail {
			failed = append(failed, v)
		}
	}
	return failed
}

// Source is the suspect interface as it was described when the plan was made.
type Source struct {
	NetworkInterfaceID string `json:"networkInterfaceId"`
	InterfaceType      string `json:"interfaceType"`
	InstanceID         string `json:"instanceId,omitempty"`
	InstanceType       string `json:"instanceType,omitempty"`
	VPC                string `json:"vpc"`
	Subnet             string `json:"subnet"`
	AvailabilityZone   string `json:"availabilityZone"`
	PrimaryIPv4        string `json:"primaryIpv4"`
	PrimaryIPv6        string `json:"primaryIpv6,omitempty"`
	MAC                string `json:"mac,omitempty"`
}

// OuterSources are the addresses from which AWS sends the mirrored copies: the interface's primary ones (VPC Traffic
// Mirroring guide, "Packet format").
func (s Source) OuterSources() []string { return unique([]string{s.PrimaryIPv4, s.PrimaryIPv6}) }

// MirrorPlan is the mirror session to be made.
type MirrorPlan struct {
	VNI           uint32 `json:"vni"`
	SessionNumber int32  `json:"sessionNumber"`
	PacketLength  int32  `json:"packetLength,omitempty"` // 0: whole packets
	Filter        Filter `json:"filter"`
}

// PlacedAt is where the collector goes and what it is made of.
type PlacedAt struct {
	Subnet                string      `json:"subnet"`
	VPC                   string      `json:"vpc"`
	AvailabilityZone      string      `json:"availabilityZone"`
	IPv6                  bool        `json:"ipv6"` // the collector gets an IPv6 address as well
	SecurityGroupName     string      `json:"securityGroupName"`
	S3PrefixList          string      `json:"s3PrefixList"` // egress 443 goes only there
	S3Path                string      `json:"s3Path"`       // how S3 is reached: the endpoint's or NAT gateway's id
	Candidates            []Candidate `json:"candidates"`   // tried in order when AWS has no capacity
	LaunchTemplateID      string      `json:"launchTemplateId"`
	LaunchTemplateVersion string      `json:"launchTemplateVersion"`
	InstanceProfileARN    string      `json:"instanceProfileArn"`
	RoleID                string      `json:"roleId"`
	Bucket                string      `json:"bucket"`

	// Endpoint is the S3 interface endpoint that the capture makes for itself and takes away again; nil: none is needed.
	Endpoint *EndpointPlan `json:"endpoint,omitempty"`
}

// EndpointTime is how long AWS may take to open a temporary endpoint.
const EndpointTime = 5 * time.Minute

// EndpointPlan is a temporary S3 interface endpoint. Private DNS stays off, so nobody but the collector uses it.
type EndpointPlan struct {
	Service           string `json:"service"` // com.amazonaws.<region>.s3
	Subnet            string `json:"subnet"`
	SecurityGroupName string `json:"securityGroupName"` // admits 443 from the collector's group alone
	Policy            string `json:"policy"`            // JSON: only what the collector does in the bucket
}

// Candidate is one instance type with the image and program of its architecture.
type Candidate struct {
	InstanceType string `json:"instanceType"`
	Image        string `json:"image"`
	BinaryKey    string `json:"binaryKey"`
	BinarySHA256 string `json:"binarySha256"`
}

// CaptureLimits are the bounds of one capture.
type CaptureLimits struct {
	DurationSeconds   int   `json:"durationSeconds"` // of capturing, counted from the session
	MaxBytes          int64 `json:"maxBytes"`
	DrainSeconds      int   `json:"drainSeconds"`
	SegmentBytes      int64 `json:"segmentBytes"`
	SegmentSeconds    int   `json:"segmentSeconds"`
	CheckpointSeconds int   `json:"checkpointSeconds"`
	PollSeconds       int   `json:"pollSeconds"` // how often the collector looks for its stop tag
	SpoolBytes        int64 `json:"spoolBytes"`
}

// DrainTime is how long after the end of capturing the collector's last word may take to arrive: until it notices the
// end, until it has drained, until its closing checkpoint is due.
func (l CaptureLimits) DrainTime() time.Duration {
	return time.Duration(l.PollSeconds+l.DrainSeconds+l.CheckpointSeconds) * time.Second
}

// GuardAt is when the guard schedule begins to remove what is left: after the deadline and the drain.
func (p Plan) GuardAt() time.Time { return p.Deadline.Add(p.Limits.DrainTime()) }

// Lifetime is how long the collector instance may live: until the guard would end it anyway. It counts from the plan,
// not from the capture's start, which lies far back when the request waited in a queue.
func (p Plan) Lifetime() time.Duration { return p.GuardAt().Sub(p.CreatedAt) }

// CollectorConfig is what the collector on candidate c is told.
func (p Plan) CollectorConfig(c Candidate) CollectorConfig {
	return CollectorConfig{
		Version: RecordVersion, Deployment: p.Deployment, Capture: p.Capture, Region: p.Region,
		Bucket: p.Collector.Bucket, RoleID: p.Collector.RoleID,
		VNI: p.Mirror.VNI, Sources: p.Source.OuterSources(), MaxBytes: p.Limits.MaxBytes, Deadline: p.Deadline,
		DrainSeconds: p.Limits.DrainSeconds, SegmentBytes: p.Limits.SegmentBytes, SegmentSeconds: p.Limits.SegmentSeconds,
		CheckpointSeconds: p.Limits.CheckpointSeconds, PollSeconds: p.Limits.PollSeconds, SpoolBytes: p.Limits.SpoolBytes,
		BinaryKey: c.BinaryKey, BinarySHA256: c.BinarySHA256,
	}
}

// The processor architectures of collectors, as EC2 spells them.
const (
	ARM64  = "arm64"
	X86_64 = "x86_64"
)

// Architecture is the processor architecture of an instance type: AWS marks its own Graviton processors with a "g"
// after the generation (EC2 User Guide, "Instance type naming conventions"); a1 came before the convention.
func Architecture(instanceType string) string {
	family, _, _ := strings.Cut(instanceType, ".")
	digit := strings.IndexAny(family, "0123456789")
	if family == "a1" || digit >= 0 && strings.Contains(family[digit:], "g") {
		return ARM64
	}
	return X86_64
}

// The collector's disk, a gp3 volume. It needs room for the system beside the spool: Amazon Linux 2023 takes 8 GiB (EC2 User Guide),
// the rest is for logs and the segments in the making. Its throughput in MiB/s lies between what gp3 includes and what its included
// 3,000 IOPS carry at 0.25 MiB/s each (EBS User Guide, "General Purpose SSD volumes").
const (
	systemGiB = 12

	LeastThroughput = 125
	mostThroughput  = 750
)

// CollectorDisk is the size and the throughput of a collector's disk, by its spool. The spool must not fill slower than segments
// arrive, and a capture that needs a larger one needs a faster one: 20 GiB, the default, get 250 MiB/s, which fill them in 82 seconds.
func CollectorDisk(spoolBytes int64) (gib, mibps int) {
	spool := int(spoolBytes >> 30)
	return systemGiB + spool, min(max(spool*25/2, LeastThroughput), mostThroughput)
}
