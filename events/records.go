package events

import (
	"encoding/json"
	"strconv"
	"time"
)

func itoa(n int) string { return strconv.Itoa(n) }

// RecordVersion is the version of every JSON record written as evidence. A reader refuses a higher one.
const RecordVersion = 1

// Tally counts what became of every datagram, from the interface to the bucket. All counts are since the collector's
// start. Received = Written + Rejected.Total() + Unwritten always holds.
type Tally struct {
	Received      uint64   `json:"received"`      // datagrams that a receiver has handed over
	Written       uint64   `json:"written"`       // frames written into segments
	WrittenBytes  uint64   `json:"writtenBytes"`  // bytes of those frames as captured, without pcap headers
	Truncated     uint64   `json:"truncated"`     // of Written: frames whose tail was cut before they arrived
	Rejected      Rejected `json:"rejected"`      // datagrams that are no evidence, by cause
	Unwritten     uint64   `json:"unwritten"`     // genuine frames that could not be written (disk full, write error)
	SocketDropped uint64   `json:"socketDropped"` // datagrams the kernel dropped because the socket was full, or their checksum wrong; not in Received
	RingDropped   uint64   `json:"ringDropped"`   // the same for a packet ring (PACKET_STATISTICS)
	HostDropped   uint64   `json:"hostDropped"`   // packets that the interface or the kernel dropped before socket or ring: of any kind, so an upper bound
	Reduced       uint64   `json:"reduced"`       // of Written: frames cut to their headers afterwards, because the disk was full
	Sealed        uint64   `json:"sealed"`        // frames in sealed segments
	Uploaded      uint64   `json:"uploaded"`      // frames in segments that the store has confirmed
	SealedBytes   uint64   `json:"sealedBytes"`   // bytes of sealed segment files
	UploadedBytes uint64   `json:"uploadedBytes"` // bytes of confirmed segment files
}

// Rejected counts datagrams that never enter the evidence, by cause.
type Rejected struct {
	ForeignSource uint64 `json:"foreignSource"` // outer source is not the suspect interface
	ForeignVNI    uint64 `json:"foreignVni"`    // VNI of another session
	Malformed     uint64 `json:"malformed"`     // shorter than header and Ethernet frame, or I flag not set
	Oversize      uint64 `json:"oversize"`      // longer than the receive buffer, so the frame would be cut by us
	Fragment      uint64 `json:"fragment"`      // first fragment of an outer IP packet, which AWS never sends; only a ring sees it
	BadChecksum   uint64 `json:"badChecksum"`   // outer UDP checksum is wrong: damaged on the way; a socket never sees it
}

// Total is the sum over all causes.
func (r Rejected) Total() uint64 {
	return r.ForeignSource + r.ForeignVNI + r.Malformed + r.Oversize + r.Fragment + r.BadChecksum
}

// Add is the sum of two tallies. A count that a record can't carry stays at MaxInteger: collectors may lie.
func (t Tally) Add(u Tally) Tally {
	add := func(a, b uint64) uint64 { return min(min(a, MaxInteger)+min(b, MaxInteger), MaxInteger) }
	return Tally{
		Received: add(t.Received, u.Received), Written: add(t.Written, u.Written), WrittenBytes: add(t.WrittenBytes, u.WrittenBytes),
		Truncated: add(t.Truncated, u.Truncated), Unwritten: add(t.Unwritten, u.Unwritten), Reduced: add(t.Reduced, u.Reduced),
		SocketDropped: add(t.SocketDropped, u.SocketDropped), RingDropped: add(t.RingDropped, u.RingDropped), HostDropped: add(t.HostDropped, u.HostDropped),
		Sealed: add(t.Sealed, u.Sealed), Uploaded: add(t.Uploaded, u.Uploaded), SealedBytes: add(t.SealedBytes, u.SealedBytes), UploadedBytes: add(t.UploadedBytes, u.UploadedBytes),
		Rejected: Rejected{
			ForeignSource: add(t.Rejected.ForeignSource, u.Rejected.ForeignSource), ForeignVNI: add(t.Rejected.ForeignVNI, u.Rejected.ForeignVNI),
			Malformed: add(t.Rejected.Malformed, u.Rejected.Malformed), Oversize: add(t.Rejected.Oversize, u.Rejected.Oversize),
			Fragment: add(t.Rejected.Fragment, u.Rejected.Fragment), BadChecksum: add(t.Rejected.BadChecksum, u.Rejected.BadChecksum),
		},
	}
}

// Balanced says whether every received datagram has exactly one fate.
func (t Tally) Balanced() bool { return t.Received == t.Written+t.Rejected.Total()+t.Unwritten }

// Lost is how many genuine or possibly genuine packets are known to be missing from the evidence.
func (t Tally) Lost() uint64 { return t.Unwritten + t.SocketDropped + t.RingDropped + t.HostDropped }

// Segment is one closed pcap of the rolling series.
type Segment struct {
	Seq       int       `json:"seq"` // from 1
	Key       string    `json:"key"`
	SHA256    string    `json:"sha256"` // hexadecimal, of the whole file
	Bytes     int64     `json:"bytes"`  // of the file
	Packets   uint64    `json:"packets"`
	Truncated uint64    `json:"truncated"`           // packets with incl_len < orig_len
	First     time.Time `json:"first"`               // timestamp of the first packet
	Last      time.Time `json:"last"`                // timestamp of the last packet
	Confirmed bool      `json:"confirmed,omitempty"` // the store has said that it holds these bytes; not part of the link
	Recovered bool      `json:"recovered,omitempty"` // sealed after a crash from what the disk still held
	Reduced   uint64    `json:"reduced,omitempty"`   // packets cut to their headers after they were captured, because the disk was full

	// BackwardsNs is by how many nanoseconds a timestamp lies before the one before it, at most, up to MaxInteger; 0 when
	// that is nowhere more than OrderTolerance.
	BackwardsNs int64  `json:"backwardsNs,omitempty"`
	Replaces    string `json:"replaces,omitempty"` // SHA-256 of the segment with the same number whose place it took
	Previous    string `json:"previous,omitempty"` // link of the record before it in the collector's chain; empty in the first
}

// OrderTolerance is how far timestamps may run backwards without being declared: packets of several queues are merged by
// time within a window that is shorter.
const OrderTolerance = 100 * time.Millisecond

// MaxInteger is the largest integer that a record may carry: one that every reader of JSON takes for what it is (RFC
// 7493, section 2.2).
const MaxInteger = 1<<53 - 1

// The states of a collector, as its checkpoints tell them.
const (
	CollectorCapturing = "capturing" // sockets are bound; the session may be created
	CollectorDraining  = "draining"  // no more packets are taken; segments are on their way to the store
	CollectorClosed    = "closed"
)

// Why a collector stopped.
const (
	StopDeadline  = "deadline"  // its time was over
	StopAsked     = "asked"     // the stop tag appeared
	StopByteCap   = "byte-cap"  // maxBytes was reached
	StopSignal    = "signal"    // SIGTERM or SIGINT
	StopFailed    = "failed"    // an error that ended the capture; manifest.error names it
	StopRecovered = "recovered" // a restart after a crash shipped what the disk held
)

// Checkpoint is the progress a collector reports every few seconds. Each carries the digest of the one before.
type Checkpoint struct {
	Version  int       `json:"version"`
	Capture  CaptureID `json:"capture"`
	UserID   string    `json:"userId"`
	Seq      int       `json:"seq"` // from 1
	At       time.Time `json:"at"`
	State    string    `json:"state"`
	Tally    Tally     `json:"tally"`
	Segments int       `json:"segments"`           // sealed so far
	Pending  int       `json:"pending"`            // of those, not yet confirmed by the store
	Previous string    `json:"previous,omitempty"` // SHA-256 of the checkpoint before, hexadecimal; empty for the first
	Note     string    `json:"note,omitempty"`

	Records []Segment `json:"records,omitempty"` // that joined the chain since the checkpoint before, in order
	Chain   string    `json:"chain,omitempty"`   // link of the last record so far
	Clock   *Clock    `json:"clock,omitempty"`   // in the first and the last checkpoint

	// Confirmed is when the store last confirmed a segment; zero: never.
	Confirmed time.Time `json:"confirmed,omitzero"`
	// Host is every counter of the interface and the kernel that says how packets were lost before a receiver saw
	// them, by its name, since the collector's start; those that did not move are left out.
	Host map[string]uint64 `json:"host,omitempty"`
}

// Clock is how the clock of a machine stood.
type Clock struct {
	At           time.Time `json:"at"`
	Source       string    `json:"source"` // who disciplines it, such as "chrony 169.254.169.123", or "kernel"
	Synchronized bool      `json:"synchronized"`
	OffsetNs     int64     `json:"offsetNs"`   // from its source
	MaxErrorNs   int64     `json:"maxErrorNs"` // as estimated by the source or the kernel
	Leap         string    `json:"leap"`       // LeapNone, LeapInsert, LeapDelete or LeapUnknown
	Stratum      int       `json:"stratum,omitempty"`
}

// Leap seconds that a clock was told of (RFC 5905, section 7.3).
const (
	LeapNone    = "none"
	LeapInsert  = "insert"
	LeapDelete  = "delete"
	LeapUnknown = "unknown"
)

// Clocks is how a collector's clock stood when it began and when it ended.
type Clocks struct {
	Start *Clock `json:"start,omitempty"`
	End   *Clock `json:"end,omitempty"`
}

// CollectorManifest is what a collector says of itself when it ends.
type CollectorManifest struct {
	Version        int               `json:"version"`
	Capture        CaptureID         `json:"capture"`
	UserID         string            `json:"userId"`
	InstanceID     string            `json:"instanceId,omitempty"`
	Tool           string            `json:"tool"`            // name and version of the program
	Build          string            `json:"build,omitempty"` // its revision, and the SHA-256 of the program that ran
	Started        time.Time         `json:"started"`
	Ended          time.Time         `json:"ended"`
	StopReason     string            `json:"stopReason"`
	Error          string            `json:"error,omitempty"`
	Notes          []string          `json:"notes,omitempty"` // how it received, and what else takes nothing away from the evidence
	Config         CollectorConfig   `json:"config"`
	Segments       []Segment         `json:"segments"`
	Tally          Tally             `json:"tally"`
	Host           map[string]uint64 `json:"host,omitempty"` // as in Checkpoint
	Checkpoints    int               `json:"checkpoints"`    // how many were written
	LastCheckpoint string            `json:"lastCheckpoint"` // SHA-256 of the last one, hexadecimal

	Superseded []Segment `json:"superseded,omitempty"` // records whose place another took
	Chain      string    `json:"chain,omitempty"`      // link of the last record of the chain
	Clock      *Clocks   `json:"clock,omitempty"`
	Derived    bool      `json:"derived,omitempty"` // made by seal from the last checkpoint: the collector left none
}

// CustodyEntry records one act: who did what to what, and when.
type CustodyEntry struct {
	Version   int               `json:"version"`
	Capture   CaptureID         `json:"capture"`
	Actor     string            `json:"actor"` // the step or person
	Act       string            `json:"act"`
	At        time.Time         `json:"at"`
	Resource  string            `json:"resource,omitempty"`  // AWS id of what was acted on
	RequestID string            `json:"requestId,omitempty"` // of the AWS call, as CloudTrail records it
	Detail    map[string]string `json:"detail,omitempty"`
}

// ActJoined is the guard's act when another capture holds the source: nothing is made for this one.
const ActJoined = "joined"

// ActMirrored is the mirror's act when the session exists; its resource is the session.
const ActMirrored = "mirrored"

// CustodyLine is one line of custody.jsonl: an entry as it was stored, in the store's order, with the digest of the
// line before.
type CustodyLine struct {
	Key      string          `json:"key"`
	Stored   time.Time       `json:"stored"` // the store's own LastModified
	SHA256   string          `json:"sha256"` // of the stored object
	Previous string          `json:"previous,omitempty"`
	Entry    json.RawMessage `json:"entry"` // the record itself: an act, or a certificate
}

// Resource is something that exists in AWS for one capture.
type Resource struct {
	Kind   string `json:"kind"` // session, session-schedule, target, filter, instance, network-interface, endpoint, security-group, guard-schedule
	ID     string `json:"id"`
	State  string `json:"state,omitempty"`
	Reason string `json:"reason,omitempty"` // why it remains, or why it was refused

	RequestID string `json:"requestId,omitempty"` // of the call that removed it, as CloudTrail records it
}

// Certificate says what one pass of teardown found, removed and left.
type Certificate struct {
	Version   int        `json:"version"`
	Capture   CaptureID  `json:"capture"`
	Seq       int        `json:"seq"`
	By        string     `json:"by"` // state-machine, guard or sweep
	At        time.Time  `json:"at"`
	Found     []Resource `json:"found"`
	Gone      []Resource `json:"gone"`      // verifiably gone at the end of the pass
	Remaining []Resource `json:"remaining"` // still there; the next pass tries again
	Refused   []Resource `json:"refused"`   // bears our tag but is not provably ours
}

// Object is one object of the evidence, as the manifest lists it.
type Object struct {
	Key    string `json:"key"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"` // hexadecimal
}

// The verdicts of a manifest.
const (
	VerdictComplete   = "complete"
	VerdictTruncated  = "complete as filtered and truncated"
	VerdictIncomplete = "incomplete"
	VerdictNothing    = "no packets captured"
)

// Manifest is what seal says of the whole capture: everything there is, and whether it is everything.
type Manifest struct {
	Version    int                 `json:"version"`
	Format     string              `json:"format"` // EvidenceFormat
	Capture    CaptureID           `json:"capture"`
	Deployment string              `json:"deployment"`
	Account    string              `json:"account"`
	Region     string              `json:"region"`
	Tool       string              `json:"tool"`
	SealedAt   time.Time           `json:"sealedAt"`
	Source     Source              `json:"source"`
	Mirror     AppliedMirror       `json:"mirror"`
	Ledger     Ledger              `json:"ledger"`
	Signer     *Signer             `json:"signer,omitempty"`
	Finding    *Object             `json:"finding,omitempty"`
	Plan       *Object             `json:"plan,omitempty"`
	Collectors []CollectorManifest `json:"collectors"` // for a collector that left none, made from what it did leave
	Segments   []Segment           `json:"segments"`   // of all collectors, in order; only what the store holds
	Tally      Tally               `json:"tally"`
	Verdict    string              `json:"verdict"`
	Reasons    []string            `json:"reasons"` // why it is not complete, one sentence each
	Error      string              `json:"error,omitempty"`
	Objects    []Object            `json:"objects"` // every object of the capture but this one
}

// EvidenceFormat names the format that docs/evidence.md describes.
const EvidenceFormat = "flashtap-evidence/1"

// AppliedMirror is how the source was mirrored.
type AppliedMirror struct {
	MirrorPlan
	SessionID string `json:"sessionId,omitempty"` // empty: no session was made
}

// Signer is who signed: a KMS key.
type Signer struct {
	KeyID           string `json:"keyId"`           // its ARN
	Algorithm       string `json:"algorithm"`       // KMS's word: ECDSA_SHA_256
	PublicKeySHA256 string `json:"publicKeySha256"` // of the DER SubjectPublicKeyInfo, hexadecimal
}

// Ledger accounts for every packet from the suspect's interface to the bucket (docs/evidence.md, section 6.3).
type Ledger struct {
	Stages     []Stage   `json:"stages"` // in the order of a packet's way
	Lost       uint64    `json:"lost"`   // packets known to be missing
	AtMostLost uint64    `json:"atMostLost"`
	Balances   []Balance `json:"balances"`
	Gaps       []Gap     `json:"gaps"`
}

// Stage is what became of packets at one place.
type Stage struct {
	Place   string `json:"place"`
	Name    string `json:"name"`
	Packets uint64 `json:"packets"`
	Fate    string `json:"fate"`
}

// The places of a ledger, in the order of a packet's way.
const (
	PlaceSource    = "source"    // AWS's own counts of the suspect's instance
	PlaceHost      = "host"      // the collector's interface and kernel
	PlaceReceiver  = "receiver"  // ring or socket
	PlaceAdmission = "admission" // source, VNI and form
	PlaceDisk      = "disk"
	PlaceBucket    = "bucket"
)

// The fates of packets.
const (
	FateKept     = "kept"
	FateLost     = "lost"
	FateAtMost   = "at-most-lost"
	FateRejected = "rejected"
	FateCut      = "cut"
	FateUnknown  = "unknown"
)

// Balance is one equation of the ledger.
type Balance struct {
	Says  string `json:"says"` // the equation in words
	Left  uint64 `json:"left"`
	Right uint64 `json:"right"`
	Holds bool   `json:"holds"`
}

// Gap is a stretch of time in which packets were lost.
type Gap struct {
	From      time.Time `json:"from"`
	To        time.Time `json:"to,omitzero"` // zero: not known
	Cause     string    `json:"cause"`       // the name of the counter
	Packets   uint64    `json:"packets"`
	Collector string    `json:"collector"` // aws:userid
}

// Tree is the root of the Merkle tree over a capture's segments (RFC 9162, section 2.1.1).
type Tree struct {
	Version  int       `json:"version"`
	Format   string    `json:"format"`
	Capture  CaptureID `json:"capture"`
	Segments int       `json:"segments"`
	Root     string    `json:"root"` // hexadecimal
}

// Proof shows that one segment belongs to a capture (RFC 9162, section 2.1.3).
type Proof struct {
	Version int       `json:"version"`
	Capture CaptureID `json:"capture"`
	Index   int       `json:"index"` // from 0
	Size    int       `json:"size"`
	Record  Segment   `json:"record"`
	Path    []string  `json:"path"` // hexadecimal
}

// Addendum is what became known after a capture was sealed.
type Addendum struct {
	Version        int            `json:"version"`
	Capture        CaptureID      `json:"capture"`
	Seq            int            `json:"seq"` // from 1
	At             time.Time      `json:"at"`
	By             string         `json:"by"`
	ManifestSHA256 string         `json:"manifestSha256"`
	Previous       string         `json:"previous,omitempty"` // SHA-256 of the addendum before
	Metrics        *SourceMetrics `json:"metrics,omitempty"`
	Stages         []Stage        `json:"ledger,omitempty"` // of the place source
	Objects        []Object       `json:"objects,omitempty"`
	Verdict        string         `json:"verdict,omitempty"`
	Reasons        []string       `json:"reasons,omitempty"`
}

// SourceMetrics are CloudWatch's counts of what an instance's interfaces mirrored and skipped (VPC Traffic Mirroring guide,
// "CloudWatch metrics").
type SourceMetrics struct {
	From          time.Time `json:"from"`
	To            time.Time `json:"to"`
	PeriodSeconds int       `json:"periodSeconds"`
	Mirrored      uint64    `json:"mirrored"` // packets, in and out
	Skipped       uint64    `json:"skipped"`
	MirroredBytes uint64    `json:"mirroredBytes"`
	SkippedBytes  uint64    `json:"skippedBytes"`
	Missing       []string  `json:"missing,omitempty"` // metrics without a value
}
