package events

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Object keys of the evidence bucket. They are built and parsed here and nowhere else.
//
//	captures/<capture>/finding.json                        the event as received
//	captures/<capture>/joined/<digest>.json                events that joined the running capture
//	captures/<capture>/plan.json                           what was decided and why
//	captures/<capture>/custody/<actor>-<act>.json          one object per act
//	captures/<capture>/console/<instance>.txt              what a collector that did not come up wrote on its console
//	captures/<capture>/certificates/000001.json            teardown certificates
//	captures/<capture>/collectors/<aws:userid>/segments/000001-<sha256>.pcap
//	captures/<capture>/collectors/<aws:userid>/checkpoints/000001-<sha256>.json
//	captures/<capture>/collectors/<aws:userid>/manifest.json
//	captures/<capture>/manifest.json, custody.jsonl        made by seal

const capturesPrefix = "captures/"

// CapturesPrefix is the key prefix under which all evidence lies.
func CapturesPrefix() string { return capturesPrefix }

// CapturePrefix is the key prefix of one capture's evidence.
func CapturePrefix(c CaptureID) string { return capturesPrefix + string(c) + "/" }

// FindingKey is where the event that started the capture lies, as it was received.
func FindingKey(c CaptureID) string { return CapturePrefix(c) + "finding.json" }

// JoinedKey is where a later event about the same source lies; digest is the event's SHA-256 in hexadecimal.
func JoinedKey(c CaptureID, digest string) string {
	return CapturePrefix(c) + "joined/" + digest + ".json"
}

// PlanKey is where the capture's plan lies.
func PlanKey(c CaptureID) string { return CapturePrefix(c) + "plan.json" }

// CustodyPrefix is where the acts of a capture are recorded, one object each.
func CustodyPrefix(c CaptureID) string { return CapturePrefix(c) + "custody/" }

// CustodyKey is where one act is recorded. Actor and act are short words of lower-case letters, digits and dashes;
// the same act always has the same key, so that a step that runs twice records it once.
func CustodyKey(c CaptureID, actor, act string) string {
	return CustodyPrefix(c) + actor + "-" + act + ".json"
}

// ConsoleKey is where the console output of an instance lies that did not come up.
func ConsoleKey(c CaptureID, instance string) string {
	return CapturePrefix(c) + "console/" + instance + ".txt"
}

// CertificatesPrefix is where teardown certificates lie.
func CertificatesPrefix(c CaptureID) string { return CapturePrefix(c) + "certificates/" }

// CertificateKey is the key of the n-th teardown certificate, counted from 1.
func CertificateKey(c CaptureID, n int) string {
	return CertificatesPrefix(c) + fmt.Sprintf("%06d.json", n)
}

// ManifestKey is where seal writes the manifest of the whole capture.
func ManifestKey(c CaptureID) string { return CapturePrefix(c) + "manifest.json" }

// CustodyLogKey is where seal writes the ordered, chained custody log.
func CustodyLogKey(c CaptureID) string { return CapturePrefix(c) + "custody.jsonl" }

// ManifestSignatureKey is where the manifest's signature lies.
func ManifestSignatureKey(c CaptureID) string { return CapturePrefix(c) + "manifest.sig" }

// PublicKeyKey is where the public half of the signing key lies.
func PublicKeyKey(c CaptureID) string { return CapturePrefix(c) + "key.pem" }

// TreeKey is where the root of the tree over the segments lies.
func TreeKey(c CaptureID) string { return CapturePrefix(c) + "tree.json" }

// TreeSignatureKey is where the signature of the tree's root lies.
func TreeSignatureKey(c CaptureID) string { return CapturePrefix(c) + "tree.sig" }

// AddendaPrefix is where addenda and their signatures lie.
func AddendaPrefix(c CaptureID) string { return CapturePrefix(c) + "addenda/" }

// AddendumKey is the key of the n-th addendum, counted from 1.
func AddendumKey(c CaptureID, n int) string { return AddendaPrefix(c) + fmt.Sprintf("%06d.json", n) }

// AddendumSignatureKey is the key of the signature of the n-th addendum.
func AddendumSignatureKey(c CaptureID, n int) string {
	return AddendaPrefix(c) + fmt.Sprintf("%06d.sig", n)
}

// UserID is what AWS calls aws:userid for an instance's role: "<role id>:<instance id>". The collector's role may
// write only under a folder of this name (IAM User Guide, "policy variables").
func UserID(roleID, instanceID string) string { return roleID + ":" + instanceID }

// CollectorsPrefix is where all collectors of a capture write.
func CollectorsPrefix(c CaptureID) string { return CapturePrefix(c) + "collectors/" }

// CollectorPrefix is the only place where the collector with this aws:userid may write.
func CollectorPrefix(c CaptureID, userID string) string {
	return CollectorsPrefix(c) + userID + "/"
}

// SegmentKey is where a sealed segment lies. Its digest is part of the key, so that a retried PUT whose first answer
// was lost meets a precondition failure that confirms it.
func SegmentKey(c CaptureID, userID string, seq int, sha256 string) string {
	return CollectorPrefix(c, userID) + fmt.Sprintf("segments/%06d-%s.pcap", seq, sha256)
}

// CheckpointsPrefix is where a collector's checkpoints lie.
func CheckpointsPrefix(c CaptureID, userID string) string {
	return CollectorPrefix(c, userID) + "checkpoints/"
}

// CheckpointKey is where a checkpoint lies; it carries its digest for the reason that SegmentKey does.
func CheckpointKey(c CaptureID, userID string, seq int, sha256 string) string {
	return CheckpointsPrefix(c, userID) + fmt.Sprintf("%06d-%s.json", seq, sha256)
}

// CollectorManifestKey is where a collector writes its closing manifest.
func CollectorManifestKey(c CaptureID, userID string) string {
	return CollectorPrefix(c, userID) + "manifest.json"
}

// ObjectRef is what a segment's or checkpoint's key says.
type ObjectRef struct {
	Capture CaptureID
	UserID  string
	Kind    string // "segments" or "checkpoints"
	Seq     int    // from 1
	SHA256  string // hexadecimal
}

var numberedKey = regexp.MustCompile(`^captures/([^/]+)/collectors/([^/]+)/(segments|checkpoints)/([0-9]{6})-([0-9a-f]{64})\.(pcap|json)$`)

// ParseObjectKey reads the key of a segment or checkpoint; it accepts exactly what SegmentKey and CheckpointKey make.
func ParseObjectKey(key string) (ObjectRef, error) {
	m := numberedKey.FindStringSubmatch(key)
	if m == nil {
		return ObjectRef{}, fmt.Errorf("key %q: not a segment's or checkpoint's", key)
	}
	seq, err := strconv.Atoi(m[4])
	if err != nil || seq < 1 {
		return ObjectRef{}, fmt.Errorf("key %q: number %s is not 1 or more", key, m[4])
	}
	if (m[3] == "segments") != (m[6] == "pcap") {
		return ObjectRef{}, fmt.Errorf("key %q: %s do not end in .%s", key, m[3], m[6])
	}
	ref := ObjectRef{Capture: CaptureID(m[1]), UserID: m[2], Kind: m[3], Seq: seq, SHA256: m[5]}
	if err := ref.Capture.Validate(); err != nil {
		return ObjectRef{}, fmt.Errorf("key %q: %w", key, err)
	}
	return ref, nil
}

// CaptureOfKey is the capture that an evidence key belongs to.
func CaptureOfKey(key string) (CaptureID, error) {
	rest, found := strings.CutPrefix(key, capturesPrefix)
	if !found {
		return "", fmt.Errorf("key %q: not under %s", key, capturesPrefix)
	}
	id, _, _ := strings.Cut(rest, "/")
	c := CaptureID(id)
	if err := c.Validate(); err != nil {
		return "", fmt.Errorf("key %q: %w", key, err)
	}
	return c, nil
}

// UserIDOfKey is the collector folder, the aws:userid, that a key under collectors/ belongs to; empty for other keys.
func UserIDOfKey(key string) string {
	_, rest, found := strings.Cut(key, "/collectors/")
	if !found {
		return ""
	}
	id, _, found := strings.Cut(rest, "/")
	if !found {
		return ""
	}
	return id
}
