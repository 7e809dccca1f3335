// Package evidence checks what a capture left behind.
//
// It follows docs/evidence.md, and shares nothing with the functions that write and seal: two implementations check each
// other.
package evidence

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"slices"

	"flashtap/events"
)

// The outcomes of a verification.
const (
	Authentic  = "authentic"                     // everything holds, and the signature is by a key that was given from outside
	Consistent = "consistent, signer unverified" // everything holds, with the key found in the evidence, or without a signature
	Unsealed   = "unsealed"                      // it holds up to the last checkpoint of each collector
	Broken     = "broken"                        // there is a discrepancy
)

// Check names what must hold (docs/evidence.md, section 11).
type Check string

// The checks.
const (
	Format      Check = "format"
	Signature   Check = "signature"
	Objects     Check = "objects"
	Names       Check = "names"
	Segments    Check = "segments"
	Chain       Check = "chain"
	Checkpoints Check = "checkpoints"
	Manifest    Check = "manifest"
	Tree        Check = "tree"
	Custody     Check = "custody"
	Ledger      Check = "ledger"
	Addenda     Check = "addenda"
)

// Discrepancy is one thing that is not as it must be.
type Discrepancy struct {
	Check  Check  `json:"check"`
	Object string `json:"object,omitempty"` // the object's key without captures/<capture>/
	What   string `json:"what"`
}

func (d Discrepancy) String() string {
	if d.Object == "" {
		return fmt.Sprintf("%s: %s", d.Check, d.What)
	}
	return fmt.Sprintf("%s: %s: %s", d.Check, d.Object, d.What)
}

// Report is what Verify found.
type Report struct {
	Capture events.CaptureID `json:"capture,omitempty"`
	Outcome string           `json:"outcome"`
	// Verdict says whether it is everything: as sealed, or as an addendum has it. A segment alone has none.
	Verdict       string        `json:"verdict,omitempty"`
	Reasons       []string      `json:"reasons"`
	Discrepancies []Discrepancy `json:"discrepancies"`
	Notes         []string      `json:"notes"` // what limits the outcome and is no discrepancy

	Signer string `json:"signer,omitempty"` // ARN of the KMS key, as the manifest says
	Key    string `json:"publicKeySha256,omitempty"`
	Pinned bool   `json:"pinned"` // that key was given from outside
	Signed bool   `json:"signed"`

	SHA256      string       `json:"manifestSha256,omitempty"`
	Objects     int          `json:"objects"`
	Bytes       int64        `json:"bytes"` // of all that was read
	Segments    int          `json:"segments"`
	Packets     uint64       `json:"packets"` // counted in the segments
	Checkpoints int          `json:"checkpoints"`
	Acts        int          `json:"acts"`
	Addenda     int          `json:"addenda"`
	Tally       events.Tally `json:"tally"`
	Lost        uint64       `json:"lost"`
	AtMostLost  uint64       `json:"atMostLost"`
}

// Options say what is known from outside.
type Options struct {
	Capture     events.CaptureID // which capture it must be, whole; empty: whichever it says, or a segment of it that was handed out
	Key         *PublicKey       // that must have signed
	Fingerprint string           // digest of the DER form of that key; instead of Key
	Segment     int              // check only this one of the manifest's segments, counted from 1; 0: everything
	Workers     int              // how many objects are read at a time; 0: as many as there are CPUs
	Progress    func(done, total int64)
}

// ErrNoEvidence means that a source holds nothing of a capture.
var ErrNoEvidence = errors.New("holds no evidence of a capture")

// ErrHandedOut means that a source holds a segment that was handed out, and a capture was asked for.
var ErrHandedOut = errors.New("holds one segment that was handed out, with proof.json, and not a capture")

// Verify checks everything that docs/evidence.md, section 11, names. An error means that it could not be checked; what is wrong
// with the evidence is in the report. Memory grows with the number of objects, not with their size.
func Verify(ctx context.Context, src Source, o Options) (Report, error) {
	v, err := begin(ctx, src, o)
	if err != nil {
		return Report{}, err
	}
	switch sealed := v.holds(manifestName); {
	case sealed && o.Segment > 0:
		err = v.oneOfMany(ctx)
	case sealed:
		err = v.sealed(ctx)
	case v.holds(proofName) && o.Capture == "" && o.Segment > 0:
		err = v.handedOut(ctx)
	case o.Segment > 0:
		err = errors.New("an unsealed capture proves no segment by itself: verify it as a whole")
	default:
		if err = v.checkNoProof(); err == nil {
			err = v.unsealed(ctx)
		}
	}
	if err != nil {
		return v.Report, err
	}
	v.conclude()
	return v.Report, nil
}

// begin lists what there is.
func begin(ctx context.Context, src Source, o Options) (*verifier, error) {
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	v := &verifier{src: src, Options: o, capture: o.Capture, listed: map[string]Entry{}, seen: map[string]seen{}}
	v.Reasons, v.Discrepancies, v.Notes = []string{}, []Discrepancy{}, []string{}
	list, err := src.List(ctx)
	if err != nil {
		return nil, err
	}
	known := false
	for _, e := range list {
		v.listed[e.Name] = e
		known = known || kindOf(e.Name) != otherKind || e.Name == proofName
		if e.Odd != "" {
			v.bad(Objects, e.Name, "%s, not a file", e.Odd)
		}
	}
	if !known {
		return nil, ErrNoEvidence
	}
	return v, nil
}

// checkNoProof tells a capture that is not sealed from a segment that was handed out. Whatever was cut down to the latter is not taken for
// it unasked.
func (v *verifier) checkNoProof() error {
	switch {
	case !v.holds(proofName):
	case v.Options.Capture == "":
		return ErrHandedOut
	default:
		v.bad(Objects, proofName, "belongs to a segment that was handed out, and not into a capture")
	}
	return nil
}

// verifier is one verification.
type verifier struct {
	Options
	Report
	src     Source
	capture events.CaptureID
	listed  map[string]Entry
	seen    map[string]seen // what reading each object showed
	done    bool            // with a manifest
}

// bad notes a discrepancy.
func (v *verifier) bad(check Check, object, format string, args ...any) {
	v.Discrepancies = append(v.Discrepancies, Discrepancy{check, object, fmt.Sprintf(format, args...)})
}

func (v *verifier) holds(name string) bool {
	e, there := v.listed[name]
	return there && e.Odd == ""
}

// key is the object key of a name.
func (v *verifier) key(name string) string { return events.CapturePrefix(v.capture) + name }

// name is the opposite of key; ok is false for a key of another capture.
func (v *verifier) name(key string) (name string, ok bool) {
	prefix := events.CapturePrefix(v.capture)
	if len(key) <= len(prefix) || key[:len(prefix)] != prefix {
		return key, false
	}
	return key[len(prefix):], true
}

var checkOrder = []Check{Format, Signature, Objects, Names, Segments, Chain, Checkpoints, Manifest, Tree, Custody, Ledger, Addenda}

func (v *verifier) conclude() {
	slices.SortStableFunc(v.Discrepancies, func(a, b Discrepancy) int {
		return cmp.Or(cmp.Compare(slices.Index(checkOrder, a.Check), slices.Index(checkOrder, b.Check)), cmp.Compare(a.Object, b.Object))
	})
	v.Report.Capture = v.capture
	for _, s := range v.seen {
		v.Bytes += s.bytes
	}
	v.Report.Objects = len(v.seen)
	switch {
	case len(v.Discrepancies) > 0:
		v.Outcome = Broken
	case !v.done:
		v.Outcome = Unsealed
	case v.Signed && v.Pinned:
		v.Outcome = Authentic
	default:
		v.Outcome = Consistent
	}
}

// missing says whether an error is that of an object which is not there.
func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
