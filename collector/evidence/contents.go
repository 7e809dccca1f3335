package evidence

import (
	"context"
	"errors"

	"flashtap/events"
)

// Contents is what a capture says that it holds, without a look at any of it.
type Contents struct {
	Manifest *events.Manifest // nil: unsealed
	Report   Report           // of the manifest's form and signatures alone
	records  []record
}

// ReadContents reads the manifest and checks its form and its signature.
func ReadContents(ctx context.Context, src Source, o Options) (Contents, error) {
	v, err := begin(ctx, src, o)
	if err != nil {
		return Contents{}, err
	}
	if !v.holds(manifestName) {
		v.conclude()
		return Contents{Report: v.Report}, nil
	}
	v.done = true
	m, err := v.readManifest(ctx)
	if err != nil {
		return Contents{}, err
	}
	if m == nil {
		v.conclude()
		return Contents{Report: v.Report}, nil
	}
	if err := v.checkSignatures(ctx, m); err != nil {
		return Contents{}, err
	}
	v.Verdict, v.Reasons = m.Verdict, append(v.Reasons, m.Reasons...)
	v.conclude()
	c := Contents{Manifest: &m.Manifest, Report: v.Report, records: m.segments}
	for _, r := range m.segments {
		c.Manifest.Segments = append(c.Manifest.Segments, r.Segment)
	}
	return c, nil
}

// Prove makes the proof that the n-th of the manifest's segments, counted from 1, belongs to the capture.
func (c Contents) Prove(n int) ([]byte, error) {
	if c.Manifest == nil {
		return nil, errors.New("an unsealed capture proves no segment by itself")
	}
	if n < 1 || n > len(c.records) {
		return nil, ErrNoSegment
	}
	return canonicalForm(prove(c.Manifest.Capture, c.records, n-1))
}
