package evidence

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"path"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"flashtap/events"
)

// root is the Merkle Tree Hash of RFC 9162, section 2.1.1.
func root(leaves [][]byte) []byte {
	if len(leaves) == 0 {
		empty := sha256.Sum256(nil)
		return empty[:]
	}
	hashes := make([][]byte, len(leaves))
	for i, leaf := range leaves {
		hashes[i] = rfc6962.DefaultHasher.HashLeaf(leaf)
	}
	return subtree(hashes)
}

// subtree is the hash of the tree over leaf hashes, at least one.
func subtree(hashes [][]byte) []byte {
	if len(hashes) == 1 {
		return hashes[0]
	}
	k := split(len(hashes))
	return rfc6962.DefaultHasher.HashChildren(subtree(hashes[:k]), subtree(hashes[k:]))
}

// split is the largest power of two below n.
func split(n int) int {
	k := 1
	for 2*k < n {
		k *= 2
	}
	return k
}

// inclusion is the inclusion proof of RFC 9162, section 2.1.3.1.
func inclusion(index int, hashes [][]byte) [][]byte {
	if len(hashes) == 1 {
		return nil
	}
	k := split(len(hashes))
	if index < k {
		return append(inclusion(index, hashes[:k]), subtree(hashes[k:]))
	}
	return append(inclusion(index-k, hashes[k:]), subtree(hashes[:k]))
}

// proofOf is events.Proof with the record as it was, whatever members it has.
type proofOf struct {
	Version int              `json:"version"`
	Capture events.CaptureID `json:"capture"`
	Index   int              `json:"index"`
	Size    int              `json:"size"`
	Record  json.RawMessage  `json:"record"`
	Path    []string         `json:"path"`
}

// prove makes the proof that a record is one of the manifest's.
func prove(c events.CaptureID, records []record, index int) proofOf {
	hashes := make([][]byte, len(records))
	for i, r := range records {
		hashes[i] = rfc6962.DefaultHasher.HashLeaf(r.leaf)
	}
	p := proofOf{Version: events.RecordVersion, Capture: c, Index: index, Size: len(records), Record: records[index].leaf, Path: []string{}}
	for _, h := range inclusion(index, hashes) {
		p.Path = append(p.Path, hex.EncodeToString(h))
	}
	return p
}

// checkTree checks that tree.json follows from the manifest's segments.
func (v *verifier) checkTree(ctx context.Context, m *manifest) error {
	tree, ok, err := v.tree(ctx)
	if err != nil || !ok {
		return err
	}
	leaves := make([][]byte, len(m.segments))
	for i, r := range m.segments {
		leaves[i] = r.leaf
	}
	if tree.Segments != len(leaves) {
		v.bad(Tree, treeName, "is over %d segments, the manifest has %d", tree.Segments, len(leaves))
	}
	if want := hex.EncodeToString(root(leaves)); tree.Root != want {
		v.bad(Tree, treeName, "has the root %s, the manifest's segments have %s", tree.Root, want)
	}
	return nil
}

// tree reads tree.json; ok is false when it can't be used.
func (v *verifier) tree(ctx context.Context) (tree events.Tree, ok bool, err error) {
	body, err := v.body(ctx, treeName)
	if missing(err) {
		v.bad(Tree, treeName, "is not there")
		return tree, false, nil
	}
	if err != nil {
		return tree, false, err
	}
	if err := v.decode(body, &tree); err != nil {
		v.bad(Format, treeName, "%v", err)
		return tree, false, nil
	}
	if tree.Format != events.EvidenceFormat {
		v.bad(Format, treeName, "has the format %q, not %s", tree.Format, events.EvidenceFormat)
	}
	return tree, true, nil
}

// handedOut checks one segment that was handed out without the rest (section 8).
func (v *verifier) handedOut(ctx context.Context) error {
	v.done = true
	v.Notes = append(v.Notes, "this is one segment of a capture: it says nothing of the others")
	body, err := v.body(ctx, proofName)
	if err != nil {
		return err
	}
	var p events.Proof
	if err := v.understand(body, &p); err != nil {
		v.bad(Format, proofName, "%v", err)
		return nil
	}
	var raw struct {
		Record json.RawMessage `json:"record"`
	}
	if err := json.Unmarshal(body, &raw); err != nil {
		return err
	}
	text, err := compact(raw.Record)
	if err != nil {
		v.bad(Format, proofName, "%v", err)
		return nil
	}
	r, err := newRecord(text)
	if err != nil {
		v.bad(Format, proofName, "%v", err)
		return nil
	}
	tree, ok, err := v.tree(ctx)
	if err != nil {
		return err
	}
	if p.Index != v.Segment-1 {
		v.bad(Tree, proofName, "is about segment %d, not %d", p.Index+1, v.Segment)
	}
	if ok {
		v.checkInclusion(tree, p, r)
	}
	if err := v.checkTreeSignature(ctx); err != nil {
		return err
	}
	name := path.Base(r.Key)
	for other := range v.listed {
		switch other {
		case name, proofName, treeName, treeSigName, keyName:
		default:
			v.bad(Objects, other, "does not belong to a segment that was handed out")
		}
	}
	return v.checkOne(ctx, name, r)
}

func (v *verifier) checkInclusion(tree events.Tree, p events.Proof, r record) {
	wantRoot, err := hex.DecodeString(tree.Root)
	if err != nil {
		v.bad(Tree, treeName, "has the root %q, which is no digest", tree.Root)
		return
	}
	path := make([][]byte, len(p.Path))
	for i, h := range p.Path {
		if path[i], err = hex.DecodeString(h); err != nil || !isDigest(h) {
			v.bad(Tree, proofName, "step %d of the path is no digest", i+1)
			return
		}
	}
	if p.Size != tree.Segments || p.Index < 0 || p.Index >= p.Size {
		v.bad(Tree, proofName, "is about segment %d of %d, the tree is over %d", p.Index+1, p.Size, tree.Segments)
		return
	}
	leaf := rfc6962.DefaultHasher.HashLeaf(r.leaf)
	if err := proof.VerifyInclusion(rfc6962.DefaultHasher, uint64(p.Index), uint64(p.Size), leaf, path, wantRoot); err != nil {
		v.bad(Tree, proofName, "does not lead from the segment's record to the root in %s", treeName)
	}
}

// checkTreeSignature checks tree.sig alone.
func (v *verifier) checkTreeSignature(ctx context.Context) error {
	if v.Signed = v.holds(treeSigName); !v.Signed {
		v.Notes = append(v.Notes, "it is unsigned: there is no "+treeSigName)
		return nil
	}
	key, err := v.trust(ctx)
	if err != nil {
		return err
	}
	if key != nil && !v.Pinned {
		v.Notes = append(v.Notes, "the key comes from the evidence itself and proves nothing: give --key or --fingerprint")
	}
	body, err := v.body(ctx, treeName)
	if missing(err) {
		return nil // told already
	}
	if err != nil {
		return err
	}
	return v.checkSignature(ctx, key, treeName, treeSigName, body)
}

// checkOne reads one segment and holds it against its record.
func (v *verifier) checkOne(ctx context.Context, name string, r record) error {
	v.checkKey(r)
	if !v.holds(name) {
		v.bad(Objects, name, "is not there")
		return nil
	}
	advance := func(int64) {}
	if v.Options.Progress != nil {
		var done int64
		advance = func(n int64) { done += n; v.Options.Progress(done, v.listed[name].Bytes) }
	}
	// Handed out, it has only the end of its key as its name, and is a segment all the same.
	s, err := v.stream(ctx, name, true, advance)
	if err != nil {
		return err
	}
	v.seen[name] = s
	v.Segments, v.Packets = 1, s.walk.packets
	v.checkSegment(name, r)
	if digestIn(r.Key) != s.digest {
		v.bad(Names, name, "has the digest %s", s.digest)
	}
	return nil
}
