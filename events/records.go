package events

import (
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

// Add is the sum of two tallies.
func (t Tally) Add(u Tally) Tally {
	return Tally{
		Received: t.Received + u.Received, Written: t.Written + u.Written, WrittenBytes: t.WrittenBytes + u.WrittenBytes,
		Truncated: t.Truncated + u.Truncated, Unwritten: t.Unwritten + u.Unwritten, Reduced: t.Reduced + u.Reduced,
		SocketDropped: t.SocketDropped + u.SocketDropped, RingDropped: t.RingDropped + u.RingDropped, HostDropped: t.HostDropped + u.HostDropped,
		Sealed: t.Sealed + u.Sealed, Uploaded: t.Uploaded + u.Uploaded, SealedBytes: t.SealedBytes + u.SealedBytes, UploadedBytes: t.UploadedBytes + u.UploadedBytes,
		Rejected: Rejected{
			ForeignSource: t.Rejected.ForeignSource + u.Rejected.ForeignSource, ForeignVNI: t.Rejected.ForeignVNI + u.Rejected.ForeignVNI,
			Malformed: t.Rejected.Malformed + u.Rejected.Malformed, Oversize: t.Rejected.Oversize + u.Rejected.Oversize,
			Fragment: t.Rejected.Fragment + u.Rejected.Fragment, BadChecksum: t.Rejected.BadChecksum + u.Rejected.BadChecksum,
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
	Truncated uint64    `json:"truncated"`         // packets with incl_len < orig_len
	First     time.Time `json:"first"`             // timestamp of the first packet
	Last      time.Time `json:"last"`              // timestamp of the last packet
	Confirmed bool      `json:"confirmed"`         // the store has said that it holds these bytes
	Recovered bool      `json:"recovered"`         // sealed after a crash from what the disk still held
	Reduced   uint64    `json:"reduced,omitempty"` // packets cut to their headers after they were captured, because the disk was full
}

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
	Segments int       `json:"segments"` // sealed so far
	Pending  int       `json:"pending"`  // of those, not yet confirmed by the store
	Previous string    `json:"previous"` // SHA-256 of the checkpoint before, hexadecimal; empty for the first
	Note     string    `json:"note,omitempty"`

	// Confirmed is when the store last confirmed a segment; zero: never.
	Confirmed time.Time `json:"confirmed,omitzero"`
	// Host is every counter of the interface and the kernel that says how packets were lost before a receiver saw
	// them, by its name, since the collector's start; those that did not move are left out.
	Host map[string]uint64 `json:"host,omitempty"`
}

// CollectorManifest is what a collector says of itself when it ends.
type CollectorManifest struct {
	Version        int               `json:"version"`
	Capture        CaptureID         `json:"capture"`
	UserID         string            `json:"userId"`
	Tool           string            `json:"tool"` // name and version of the program
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

// CustodyLine is one line of custody.jsonl: an entry as it was stored, in the store's order, with the digest of the
// line before.
type CustodyLine struct {
	Key      string       `json:"key"`
	Stored   time.Time    `json:"stored"` // the store's own LastModified
	SHA256   string       `json:"sha256"` // of the stored object
	Previous string       `json:"previous"`
	Entry    CustodyEntry `json:"entry"`
}

// Resource is something that exists in AWS for one capture.
type Resource struct {
	Kind   string `json:"kind"` // session, target, filter, instance, network-interface, security-group, schedule
	ID     string `json:"id"`
	State  string `json:"state,omitempty"`
	Reason string `json:"reason,omitempty"` // why it remains, or why it was refused
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
	VerdictTruncated  = "complete, truncated as asked or by the MTU"
	VerdictIncomplete = "incomplete"
	VerdictNothing    = "no packets captured"
)

// Manifest is what seal says of the whole capture: everything there is, and whether it is everything.
type Manifest struct {
	Version    int                 `json:"version"`
	Capture    CaptureID           `json:"capture"`
	Deployment string              `json:"deployment"`
	Account    string              `json:"account"`
	Region     string              `json:"region"`
	Tool       string              `json:"tool"`
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
