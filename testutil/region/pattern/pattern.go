// Package pattern decides whether an event matches an EventBridge event pattern.
//
// It follows the EventBridge user guide, and AWS's own engine (github.com/aws/event-ruler, its README) where the guide
// is silent: arrays of objects, for instance. A pattern that AWS would refuse is refused, with the path of the fault.
package pattern

import (
	"fmt"
	"slices"
	"strings"
)

// Pattern is a compiled event pattern. It is safe for concurrent use.
type Pattern struct {
	rules []rule // the alternatives that $or leaves; one of them must hold
}

// rule asks that every one of its clauses holds.
type rule []clause

// clause asks that the field at a path passes one of the tests.
type clause struct {
	path  string
	tests []test
}

// Compile reads an event pattern.
func Compile(source []byte) (*Pattern, error) {
	rules, err := parse(source)
	if err != nil {
		return nil, fmt.Errorf("compile event pattern: %w", err)
	}
	return &Pattern{rules}, nil
}

// Match reports whether the event matches. It fails only for an event that is not a JSON object.
func (p *Pattern) Match(event []byte) (bool, error) {
	fields, err := flatten(event)
	if err != nil {
		return false, fmt.Errorf("match event: %w", err)
	}
	for _, r := range p.rules {
		if r.match(fields) {
			return true, nil
		}
	}
	return false, nil
}

// match looks for one field per clause such that all these fields agree on the elements of the arrays they are in: a
// pattern about a remote port and a country must not match the port of one connection and the country of another
// (event-ruler README, "JSON Array Matching").
func (r rule) match(fields map[string][]field) bool {
	var open [][]place
	for _, c := range r {
		places, ok := c.places(fields[c.path])
		if !ok {
			return false
		}
		if places != nil {
			open = append(open, places)
		}
	}
	return agree(open, nil)
}

// places lists where in the event's arrays the clause holds. A nil list with true means: without regard to arrays.
func (c clause) places(fields []field) ([]place, bool) {
	var places []place
	for _, t := range c.tests {
		if t.absent && len(fields) == 0 {
			return nil, true
		}
	}
	for _, f := range fields {
		if !slices.ContainsFunc(c.tests, func(t test) bool { return t.holds(f.value) }) {
			continue
		}
		if len(f.place) == 0 {
			return nil, true
		}
		if !slices.ContainsFunc(places, f.place.equal) {
			places = append(places, f.place)
		}
	}
	return places, len(places) > 0
}

// agree chooses one place from each list so that no two contradict each other.
func agree(open [][]place, chosen []place) bool {
	if len(open) == 0 {
		return true
	}
	for _, candidate := range open[0] {
		if slices.ContainsFunc(chosen, candidate.contradicts) {
			continue
		}
		if agree(open[1:], append(chosen, candidate)) {
			return true
		}
	}
	return false
}

// place names the array elements around a field, outermost first.
type place []element

type element struct{ array, index int }

func (p place) equal(other place) bool { return slices.Equal(p, other) }

// contradicts reports whether both are in one array, but not in the same element.
func (p place) contradicts(other place) bool {
	for _, a := range p {
		for _, b := range other {
			if a.array == b.array && a.index != b.index {
				return true
			}
		}
	}
	return false
}

// join makes the name of a field. EventBridge joins with dots and so does not tell {"a.b":1} from {"a":{"b":1}} (user
// guide, "Event pattern syntax").
func join(path, name string) string {
	if path == "" {
		return name
	}
	return strings.Join([]string{path, name}, ".")
}
