package ec2

import (
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// view is one resource as an answer shows it.
type view struct {
	id     string
	fields map[string]any
}

// listing says how a Describe operation names things.
type listing struct {
	kind    kind              // of its ids
	ids     string            // the parameter with ids, "" if it has none
	names   string            // the parameter with names, "" if it has none
	nameAt  string            // where a view holds its name
	filters map[string]string // each filter and the path of its values in a view
	tags    string            // where a view holds its tags; "" if tags cannot be filtered
	out     string            // the answer's member
	filter  string            // the parameter with filters, if not Filters
	// tagPairs makes tag:KEY match views that are tags themselves.
	tagPairs bool
	// idsOrPages refuses MaxResults together with ids.
	idsOrPages bool
	// notFoundName is the error for a name that is not there.
	notFoundName string
}

// list answers a Describe operation: what the ids and filters leave, by pages.
func (r *request) list(views []view, l listing) (map[string]any, error) {
	kept, err := r.chosen(views, l)
	if err != nil {
		return nil, err
	}
	page, next, err := r.page(kept, l)
	if err != nil {
		return nil, err
	}
	fields := []any{}
	for _, v := range page {
		fields = append(fields, v.fields)
	}
	result := map[string]any{l.out: fields}
	set(result, "NextToken", next)
	return result, nil
}

// chosen keeps the views that the request's ids, names and filters name.
func (r *request) chosen(views []view, l listing) ([]view, error) {
	if ids := r.strs(l.ids); len(ids) > 0 {
		if l.idsOrPages && r.has("MaxResults") {
			return nil, apiError("InvalidParameterCombination", "The parameter %s cannot be used with the parameter maxResults", l.ids)
		}
		var err error
		if views, err = r.named(views, ids, func(v view) string { return v.id }, func(id string) error {
			return r.missing(l.kind, id)
		}); err != nil {
			return nil, err
		}
	}
	if names := r.strs(l.names); len(names) > 0 {
		var err error
		if views, err = r.named(views, names, func(v view) string { return fmt.Sprint(v.fields[l.nameAt]) }, func(name string) error {
			return apiError(l.notFoundName, "The %s '%s' does not exist", l.kind.noun, name)
		}); err != nil {
			return nil, err
		}
	}
	parameter := "Filters"
	if l.filter != "" {
		parameter = l.filter
	}
	for _, f := range r.objects(parameter) {
		match, err := f.filter(l)
		if err != nil {
			return nil, err
		}
		views = slices.DeleteFunc(slices.Clone(views), func(v view) bool { return !match(v) })
	}
	return views, nil
}

func (r *request) named(views []view, wanted []string, nameOf func(view) string, missing func(string) error) ([]view, error) {
	for _, name := range wanted {
		if !slices.ContainsFunc(views, func(v view) bool { return nameOf(v) == name }) {
			return nil, missing(name)
		}
	}
	return slices.DeleteFunc(slices.Clone(views), func(v view) bool { return !slices.Contains(wanted, nameOf(v)) }), nil
}

// filter turns one of the request's filters into a test of views. Its values are
// alternatives; * and ? in them are wildcards, as a \ before them takes away
// (EC2 user guide, "Find your Amazon EC2 resources").
func (p params) filter(l listing) (func(view) bool, error) {
	name, values := p.str("Name"), p.strs("Values")
	if name == "" || len(values) == 0 {
		return nil, invalidValue("The filter '%s' is invalid: it needs a name and values", name)
	}
	if len(values) > 200 {
		return nil, apiError("FilterLimitExceeded", "The maximum number of filter values specified on a single call is 200")
	}
	key, isTag := strings.CutPrefix(name, "tag:")
	switch {
	case isTag && l.tagPairs:
		return func(v view) bool {
			return v.fields["Key"] == key && anyMatches(values, []string{fmt.Sprint(v.fields["Value"])})
		}, nil
	case isTag && l.tags != "":
		return func(v view) bool {
			value, there := tagIn(v.fields[l.tags], key)
			return there && anyMatches(values, []string{value})
		}, nil
	case name == "tag-key" && l.tags != "":
		return func(v view) bool { return anyMatches(values, valuesAt(v.fields, l.tags+".Key")) }, nil
	}
	path, known := l.filters[name]
	if !known {
		return nil, invalidValue("The filter '%s' is invalid", name)
	}
	return func(v view) bool { return anyMatches(values, valuesAt(v.fields, path)) }, nil
}

func tagIn(list any, key string) (string, bool) {
	items, _ := list.([]any)
	for _, item := range items {
		if t := item.(map[string]any); t["Key"] == key {
			return t["Value"].(string), true
		}
	}
	return "", false
}

func anyMatches(patterns, values []string) bool {
	for _, pattern := range patterns {
		for _, value := range values {
			if matches(pattern, value) {
				return true
			}
		}
	}
	return false
}

// matches goes back to the last star only, which suffices and takes no more than
// the product of the lengths.
func matches(pattern, value string) bool {
	star, resume := -1, 0
	p, v := 0, 0
	for v < len(value) {
		if p < len(pattern) && pattern[p] == '*' {
			star, resume = p, v
			p++
			continue
		}
		if width := matchesOne(pattern[p:], value[v]); width > 0 {
			p += width
			v++
			continue
		}
		if star < 0 {
			return false
		}
		resume++
		p, v = star+1, resume
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// matchesOne returns how much of the pattern stands for one byte, 0 if it does not.
func matchesOne(pattern string, c byte) int {
	switch {
	case pattern == "":
		return 0
	case pattern[0] == '\\' && len(pattern) > 1:
		if pattern[1] == c {
			return 2
		}
		return 0
	case pattern[0] == '?' || pattern[0] == c:
		return 1
	}
	return 0
}

// valuesAt collects the values at a dotted path, through all lists on the way.
// Several paths are separated by a bar.
func valuesAt(at any, path string) []string {
	if first, rest, several := strings.Cut(path, "|"); several {
		return append(valuesAt(at, first), valuesAt(at, rest)...)
	}
	switch v := at.(type) {
	case nil:
		return nil
	case []any:
		var values []string
		for _, item := range v {
			values = append(values, valuesAt(item, path)...)
		}
		return values
	case map[string]any:
		step, rest, _ := strings.Cut(path, ".")
		return valuesAt(v[step], rest)
	case time.Time:
		return []string{v.UTC().Format("2006-01-02T15:04:05.000Z")}
	}
	if path != "" {
		return nil
	}
	return []string{fmt.Sprint(at)}
}

// page cuts a list at MaxResults. The token names the last view handed out, so
// that a page after a deletion goes on at the right place.
func (r *request) page(views []view, l listing) ([]view, string, error) {
	views = sortedViews(views)
	if token := r.str("NextToken"); token != "" {
		raw, err := base64.RawURLEncoding.DecodeString(token)
		last, ok := strings.CutPrefix(string(raw), l.out+" ")
		if err != nil || !ok {
			return nil, "", apiError("InvalidNextToken", "The specified NextToken is not valid.")
		}
		at := slices.IndexFunc(views, func(v view) bool { return v.id > last })
		if at < 0 {
			return nil, "", nil
		}
		views = views[at:]
	}
	most := r.number("MaxResults")
	if r.has("MaxResults") && most < 1 {
		return nil, "", invalidValue("Value ( %d ) for parameter maxResults is invalid.", most)
	}
	if most == 0 || most >= len(views) {
		return views, "", nil
	}
	last := views[most-1].id
	return views[:most], base64.RawURLEncoding.EncodeToString([]byte(l.out + " " + last)), nil
}

func sortedViews(views []view) []view {
	return slices.SortedFunc(slices.Values(views), func(a, b view) int { return strings.Compare(a.id, b.id) })
}

// missing is the error for an id that no visible resource has.
func (r *request) missing(k kind, id string) error { return r.service.notFound(k, id) }

// viewsOf makes the views of all visible resources of a type.
func viewsOf[T resource](s *Service, show func(T) map[string]any) []view {
	var views []view
	for _, t := range every[T](s) {
		if s.visible(t) {
			views = append(views, view{id: t.base().id, fields: show(t)})
		}
	}
	return views
}

// with returns the union of filter tables.
func with(tables ...map[string]string) map[string]string {
	all := map[string]string{}
	for _, t := range tables {
		maps.Copy(all, t)
	}
	return all
}
