package iam

import (
	"slices"
	"strings"
)

// Keys are the condition keys that the statements about a request's action and resource look at, sorted. Who simulates
// without one of them learns nothing about what is decided with it.
func (p *Policy) Keys(r Request) []string {
	var keys []string
	for _, s := range p.statements {
		if !p.speaksOf(s, r) {
			continue
		}
		for _, c := range s.conditions {
			if !slices.ContainsFunc(keys, func(k string) bool { return strings.EqualFold(k, c.key) }) {
				keys = append(keys, c.key)
			}
		}
	}
	slices.Sort(keys)
	return keys
}
