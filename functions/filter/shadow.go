package filter

import (
	"fmt"
	"slices"
	"strings"

	"flashtap/events"
)

// mostBoxes bounds the work of one question. Two filters of AWS's 10 rules each need some thousands at most.
const mostBoxes = 200_000

// Shadows says which of the packets that ours accepts a session with theirs takes when AWS asks it first, one
// description each, and whether those are all that ours accepts. What could not be found out within bounds is said to be
// taken, "perhaps". Packets that are never mirrored play no part, and neither do rules about the VPC's resolver, whose DNS
// no rule can mirror: whoever has the network service takes it.
func Shadows(ours, theirs events.Filter) (takes []string, all bool) {
	return shadows(ours, theirs, mostBoxes)
}

// taken is what one rule of theirs takes of one of ours: a box, without the packets that a rule before either rejects.
type taken struct {
	box     box
	except  []box
	perhaps bool
}

func shadows(ours, theirs events.Filter, bound int) (takes []string, all bool) {
	list, rest := compare(ours, theirs, bound)
	takes = words(list)
	if ours.DNS && theirs.DNS {
		takes = append(takes, "the VPC resolver's DNS both ways")
	}
	return takes, len(takes) > 0 && rest != yes && (theirs.DNS || !ours.DNS)
}

// compare says what theirs takes of ours by rules, and whether a packet is left for ours.
func compare(ours, theirs events.Filter, bound int) (list []taken, rest answer) {
	w := &work{left: bound}
	our, their := ordered(ours), ordered(theirs)
	for i, o := range our {
		if o.action != events.Accept {
			continue
		}
		refused := rejects(our[:i])
		for j, t := range their {
			both, meet := o.box.and(t.box)
			if !meet || t.action != events.Accept {
				continue
			}
			before := slices.Concat(refused, rejects(their[:j]))
			if covered := w.covered(both, before); covered != yes {
				list = append(list, taken{box: both, except: meeting(before, both), perhaps: covered == unknown})
			}
		}
		if rest != yes {
			rest = max(rest, w.leaves(o.box, their, refused))
		}
	}
	return list, rest
}

// step is one rule as Shadows sees it.
type step struct {
	box    box
	action string
}

// ordered are the rules in the order in which AWS asks them. A rule that can't be read is asked to accept everything of
// its direction, and to reject nothing.
func ordered(f events.Filter) []step {
	rules := slices.Clone(f.Rules)
	slices.SortStableFunc(rules, func(a, b events.FilterRule) int { return int(a.Number - b.Number) })
	var steps []step
	for _, r := range rules {
		b, err := boxOf(r)
		if err == nil {
			steps = append(steps, step{b, r.Action})
			continue
		}
		if r.Action != events.Accept {
			continue
		}
		for _, all := range []string{any4.String(), any6.String()} {
			r.SourceCIDR, r.DestinationCIDR = all, all
			if b, err = boxOf(r); err == nil {
				steps = append(steps, step{b, r.Action})
			}
		}
	}
	return steps
}

func rejects(steps []step) []box {
	var list []box
	for _, s := range steps {
		if s.action != events.Accept {
			list = append(list, s.box)
		}
	}
	return list
}

// meeting are the parts of the boxes that lie in b.
func meeting(boxes []box, b box) []box {
	var list []box
	for _, o := range boxes {
		if both, meet := o.and(b); meet && !slices.Contains(list, both) {
			list = append(list, both)
		}
	}
	return list
}

type answer int

const (
	no answer = iota
	unknown
	yes
)

// work counts what is left of the bound.
type work struct{ left int }

// covered says whether every packet of b is in one of the boxes.
func (w *work) covered(b box, boxes []box) answer {
	if w.left--; w.left < 0 {
		return unknown
	}
	for i, o := range boxes {
		if _, meet := b.and(o); !meet {
			continue
		}
		result := yes
		for _, part := range b.without(o) {
			switch w.covered(part, boxes[i+1:]) {
			case no:
				return no
			case unknown:
				result = unknown
			}
		}
		return result
	}
	return no
}

// leaves says whether b has a packet that none of the steps accepts, apart from those in refused.
func (w *work) leaves(b box, steps []step, refused []box) answer {
	if w.left--; w.left < 0 {
		return unknown
	}
	for i, s := range steps {
		both, meet := b.and(s.box)
		if !meet {
			continue
		}
		result := no
		if s.action != events.Accept {
			switch w.covered(both, refused) {
			case no:
				return yes
			case unknown:
				result = unknown
			}
		}
		for _, part := range b.without(s.box) {
			switch w.leaves(part, steps[i+1:], refused) {
			case yes:
				return yes
			case unknown:
				result = unknown
			}
		}
		return result
	}
	switch w.covered(b, refused) {
	case no:
		return yes
	case unknown:
		return unknown
	}
	return no
}

// words describe what is taken: what another description includes is left out, and two directions of one conversation are
// one description.
func words(list []taken) []string {
	list = slices.Clone(list)
	for i := 0; i < len(list); i++ {
		if slices.ContainsFunc(list[:i], list[i].within) || slices.ContainsFunc(list[i+1:], func(o taken) bool { return list[i].within(o) && !o.within(list[i]) }) {
			list = slices.Delete(list, i, i+1)
			i--
		}
	}
	var texts []string
	done := map[int]bool{}
	for i, t := range list {
		if done[i] {
			continue
		}
		answer := -1
		if t.box.direction == events.Ingress {
			answer = slices.IndexFunc(list, t.answers().same)
		}
		text := t.box.direction + " " + t.box.words()
		if answer >= 0 {
			done[answer] = true
			text = t.box.wordsBothWays()
		}
		texts = append(texts, t.text(text))
	}
	return texts
}

// mostExceptions is how many exceptions a description names.
const mostExceptions = 3

func (t taken) text(what string) string {
	if t.perhaps {
		what = "perhaps " + what
	}
	if len(t.except) == 0 {
		return what
	}
	var except []string
	for _, e := range t.except[:min(len(t.except), mostExceptions)] {
		except = append(except, e.words())
	}
	what += ", except " + strings.Join(except, " and ")
	if more := len(t.except) - mostExceptions; more > 0 {
		what += fmt.Sprintf(" and %d more", more)
	}
	return what
}

// within says whether a description of o says all that one of t says.
func (t taken) within(o taken) bool {
	both, meet := t.box.and(o.box)
	if !meet || both != t.box || o.perhaps && !t.perhaps {
		return false
	}
	return !slices.ContainsFunc(o.except, func(e box) bool {
		part, meet := e.and(t.box)
		return meet && !slices.ContainsFunc(t.except, func(own box) bool { inside, meet := own.and(part); return meet && inside == part })
	})
}

func (t taken) same(o taken) bool { return t.within(o) && o.within(t) }

// answers are the same conversations in the other direction.
func (t taken) answers() taken {
	t.box = t.box.answer()
	except := t.except
	t.except = nil
	for _, e := range except {
		t.except = append(t.except, e.answer())
	}
	return t
}

func (b box) answer() box {
	if b.direction == events.Ingress {
		b.direction = events.Egress
	} else {
		b.direction = events.Ingress
	}
	b.source, b.destination = b.destination, b.source
	b.sourcePorts, b.destinationPorts = b.destinationPorts, b.sourcePorts
	return b
}
