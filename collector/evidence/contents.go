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
		if err := v.checkNoProof(); err != nil {
			return Contents{}, err
		}
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

// Left is a segment file of an unsealed capture. Its record has no more than a digest where no checkpoint tells of it.
type Left struct {
	Name  string
	Bytes int64
	events.Segment
}

// SegmentsLeft are the segment files of a capture without a manifest, as its checkpoints know them, without a look into the files.
func SegmentsLeft(ctx context.Context, src Source, o Options) ([]Left, error) {
	v, err := begin(ctx, src, o)
	if err != nil {
		return nil, err
	}
	if err := v.findCapture(ctx); err != nil {
		return nil, err
	}
	var checkpoints []string
	for name := range v.listed {
		if kindOf(name) == checkpointKind {
			checkpoints = append(checkpoints, name)
		}
	}
	v.Options.Progress = nil
	if err := v.readAll(ctx, checkpoints); err != nil {
		return nil, err
	}
	known := map[string]events.Segment{}
	for _, s := range v.seen {
		if s.point == nil || s.fault != nil {
			continue
		}
		for _, r := range s.point.records {
			if name, ok := v.name(r.Key); ok {
				known[name] = r.Segment
			}
		}
	}
	var all []Left
	for name, e := range v.listed {
		if kindOf(name) != segmentKind {
			continue
		}
		l := Left{name, e.Bytes, known[name]}
		if l.SHA256 != digestIn(name) {
			l.Segment = events.Segment{SHA256: digestIn(name)}
		}
		all = append(all, l)
	}
	return all, nil
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
