package evidence

import (
	"encoding/hex"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"

	"flashtap/events"
)

// treeOf is the tree over the records of segments (docs/evidence.md, section 8).
func treeOf(c events.CaptureID, segments []events.Segment) (events.Tree, error) {
	tree := events.Tree{Version: events.RecordVersion, Format: events.EvidenceFormat, Capture: c, Segments: len(segments)}
	hasher := rfc6962.DefaultHasher // RFC 9162 hashes as RFC 6962 does
	leaves := (&compact.RangeFactory{Hash: hasher.HashChildren}).NewEmptyRange(0)
	for _, seg := range segments {
		leaf, err := leafOf(seg)
		if err != nil {
			return tree, err
		}
		if err := leaves.Append(hasher.HashLeaf(leaf), nil); err != nil {
			return tree, err
		}
	}
	root := hasher.EmptyRoot()
	if len(segments) > 0 {
		var err error
		if root, err = leaves.GetRootHash(nil); err != nil {
			return tree, err
		}
	}
	tree.Root = hex.EncodeToString(root)
	return tree, nil
}

// leafOf is a segment's record as tree and chain hash it: without what the store has said of it since.
func leafOf(seg events.Segment) ([]byte, error) {
	seg.Confirmed = false
	return Canonical(seg)
}

// link is the digest by which the next record of a chain names this one.
func link(seg events.Segment) (string, error) {
	leaf, err := leafOf(seg)
	return Digest(leaf), err
}
