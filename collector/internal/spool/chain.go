package spool

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/gowebpki/jcs"

	"flashtap/events"
)

// chain is the records of all segments in the order in which they came to be: one of each that was sealed, and another
// of each that was cut. Every record names the one before by its link (docs/evidence.md, section 3).
type chain struct {
	tail       *events.Segment  // the last record; nil: there is none
	unreported []events.Segment // records that no checkpoint has yet
	superseded []events.Segment // records whose place another took
}

// next is a record as it joins the chain.
func (c *chain) next(seg events.Segment) (events.Segment, error) {
	previous, err := c.link()
	seg.Previous, seg.Confirmed = previous, false
	return seg, err
}

// join makes a record the last one.
func (c *chain) join(seg events.Segment) {
	seg.Confirmed = false
	c.tail = &seg
	c.unreported = append(c.unreported, seg)
}

// supersede notes that another has taken the place of a record.
func (c *chain) supersede(seg events.Segment) {
	seg.Confirmed = false
	c.superseded = append(c.superseded, seg)
}

// link is what names the last record; empty: there is none.
func (c *chain) link() (string, error) {
	if c.tail == nil {
		return "", nil
	}
	data, err := canonical(c.tail)
	if err != nil {
		return "", fmt.Errorf("link segment %d: %w", c.tail.Seq, err)
	}
	return digestOf(data), nil
}

// canonical is the form of a record in which it is digested and stored (RFC 8785).
func canonical(record any) ([]byte, error) {
	data, err := json.Marshal(record)
	if err != nil {
		return nil, err
	}
	return jcs.Transform(data)
}

// chainAnew tells a reader of the evidence why a chain has a second beginning.
const chainAnew = "the chain of segment records begins anew, since the journal was damaged"

// beginAnew makes another chain of all segments that are known, after damage to the journal: nobody knows any more
// which record was the last, and what the checkpoints have of those that no line names.
func (s *Spool) beginAnew() error {
	if len(s.segments) == 0 {
		return nil
	}
	known := slices.Clone(s.segments)
	slices.SortStableFunc(known, func(a, b held) int { return cmp.Compare(a.Seq, b.Seq) })
	var anew chain
	add := func(seg events.Segment, replaces string) error {
		seg.Replaces = replaces
		seg, err := anew.next(seg)
		anew.join(seg)
		return err
	}
	for _, h := range known {
		replaces := ""
		if h.whole != nil {
			if err := add(*h.whole, ""); err != nil {
				return err
			}
			replaces = h.whole.SHA256
		}
		if err := add(h.Segment, replaces); err != nil {
			return err
		}
	}
	s.chained(anew.unreported)
	if err := s.record(entry{Anew: anew.unreported}); err != nil {
		return err
	}
	return s.Remark(chainAnew)
}

// chained takes these records for the whole chain.
func (s *Spool) chained(records []events.Segment) {
	s.chain = chain{}
	for _, seg := range records {
		s.chain.join(seg)
		if i, ok := s.index[seg.Key]; ok {
			s.segments[i].Previous, s.segments[i].Replaces = seg.Previous, seg.Replaces
		} else {
			s.chain.supersede(seg)
		}
	}
}
