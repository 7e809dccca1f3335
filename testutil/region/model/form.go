package model

import (
	"fmt"
	"net/url"
	"sort"
	"strconv"
	"strings"
)

// node is one step of a form's dotted keys: Filter.1.Value.2 is four deep.
type node struct {
	value    *string
	children map[string]*node
}

// maxDepth bounds the dotted keys and the bodies of strangers.
const maxDepth = 64

// decodeForm reads the query protocols: Action, Version and dotted keys, in the
// body of a POST or in the URL of a GET.
func (d *decoder) decodeForm() error {
	form, err := url.ParseQuery(string(d.body))
	if err != nil {
		return d.violation(Malformed, "", "the body is not a form: "+err.Error())
	}
	inURL, err := url.ParseQuery(d.request.URL.RawQuery)
	if err != nil {
		return d.violation(Malformed, "", "the URL's query is not a form: "+err.Error())
	}
	for key, values := range inURL {
		if !strings.HasPrefix(key, "X-Amz-") { // the signature of a presigned request
			form[key] = append(form[key], values...)
		}
	}
	if err := d.begin(form.Get("Action")); err != nil {
		return err
	}
	if version := form.Get("Version"); version != d.service.Metadata.APIVersion {
		return d.violation(InvalidValue, "Version", quoted(version)+" is not "+d.service.Metadata.APIVersion)
	}
	root := &node{}
	for key, values := range form {
		if key == "Action" || key == "Version" {
			continue
		}
		if len(values) != 1 {
			return d.violation(Malformed, key, "given more than once")
		}
		if err := d.plant(root, key, values[0]); err != nil {
			return err
		}
	}
	if d.operation.Input == nil {
		if len(root.children) > 0 {
			return d.violation(UnknownParameter, first(root), "the operation takes no parameters")
		}
		return nil
	}
	d.params, err = d.structureFromForm(d.operation.Input.target, root, "")
	return err
}

func (d *decoder) plant(root *node, key, value string) error {
	steps := strings.Split(key, ".")
	if len(steps) > maxDepth {
		return d.violation(Malformed, quoted(key), "nested too deep")
	}
	at := root
	for _, step := range steps {
		if at.children == nil {
			at.children = map[string]*node{}
		}
		next := at.children[step]
		if next == nil {
			next = &node{}
			at.children[step] = next
		}
		at = next
	}
	at.value = &value
	return nil
}

func first(n *node) string {
	names := make([]string, 0, len(n.children))
	for name := range n.children {
		names = append(names, name)
	}
	sort.Strings(names)
	if len(names) == 0 {
		return ""
	}
	return names[0]
}

func (d *decoder) formName(m *member, name string) string {
	if d.service.protocol == protocolEC2 {
		return m.ec2Name(name)
	}
	// A flattened list of the query protocol goes by the name of its elements.
	if m.flattened() && m.target.Type == "list" && m.target.Member.LocationName != "" {
		return m.target.Member.LocationName
	}
	return m.wireName(name)
}

func (d *decoder) structureFromForm(s *shape, n *node, path string) (map[string]any, error) {
	if n.value != nil && (*n.value != "" || len(n.children) > 0) {
		return nil, d.violation(InvalidValue, path, "a single value where a structure is wanted")
	}
	fields := map[string]any{}
	taken := map[string]bool{}
	for _, name := range s.memberNames {
		m := s.Members[name]
		key := d.formName(m, name)
		child := n.children[key]
		if child == nil {
			continue
		}
		taken[key] = true
		value, err := d.valueFromForm(m, child, path+"."+key)
		if err != nil {
			return nil, err
		}
		fields[name] = value
	}
	for _, key := range sortedNames(n.children) {
		if !taken[key] {
			return nil, d.violation(UnknownParameter, path+"."+key, "the parameter is not recognized")
		}
	}
	return fields, nil
}

func sortedNames(children map[string]*node) []string {
	names := make([]string, 0, len(children))
	for name := range children {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

func (d *decoder) valueFromForm(m *member, n *node, path string) (any, error) {
	switch m.target.Type {
	case "structure":
		return d.structureFromForm(m.target, n, path)
	case "list":
		return d.listFromForm(m, n, path)
	case "map":
		return d.mapFromForm(m, n, path)
	}
	if n.value == nil || len(n.children) > 0 {
		return nil, d.violation(InvalidValue, path, "nested where a single value is wanted")
	}
	return d.scalarFromText(m, *n.value, path, iso8601)
}

// numbered returns a list's nodes; their numbers must run from 1 without a gap.
func (d *decoder) numbered(n *node, path string) ([]*node, error) {
	if n.value != nil && (*n.value != "" || len(n.children) > 0) {
		return nil, d.violation(InvalidValue, path, "a single value where a list is wanted")
	}
	list := make([]*node, len(n.children))
	for key, child := range n.children {
		i, err := strconv.Atoi(key)
		if err != nil || i < 1 || i > len(list) || key != strconv.Itoa(i) {
			return nil, d.violation(UnknownParameter, path+"."+key, fmt.Sprintf("a list of %d is numbered 1 to %d", len(list), len(list)))
		}
		list[i-1] = child
	}
	return list, nil
}

// unwrap steps through the element that the query protocol puts around lists
// and maps which are not flattened.
func (d *decoder) unwrap(n *node, wrapper, path string) (*node, error) {
	if len(n.children) == 0 {
		return n, nil
	}
	inner := n.children[wrapper]
	if inner == nil || len(n.children) > 1 {
		return nil, d.violation(UnknownParameter, path, "wants "+path+"."+wrapper+".1 and so on")
	}
	return inner, nil
}

func (d *decoder) listFromForm(m *member, n *node, path string) (any, error) {
	if d.service.protocol == protocolQuery && !m.flattened() {
		wrapper := m.target.Member.LocationName
		if wrapper == "" {
			wrapper = "member"
		}
		var err error
		if n, err = d.unwrap(n, wrapper, path); err != nil {
			return nil, err
		}
	}
	nodes, err := d.numbered(n, path)
	if err != nil {
		return nil, err
	}
	list := make([]any, len(nodes))
	for i, item := range nodes {
		if list[i], err = d.valueFromForm(m.target.Member, item, path+"."+strconv.Itoa(i+1)); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func (d *decoder) mapFromForm(m *member, n *node, path string) (any, error) {
	var err error
	if !m.flattened() {
		if n, err = d.unwrap(n, "entry", path); err != nil {
			return nil, err
		}
	}
	nodes, err := d.numbered(n, path)
	if err != nil {
		return nil, err
	}
	entries := map[string]any{}
	keyName, valueName := m.target.Key.wireName("key"), m.target.Value.wireName("value")
	for i, item := range nodes {
		at := path + "." + strconv.Itoa(i+1)
		key, value := item.children[keyName], item.children[valueName]
		if key == nil || key.value == nil || value == nil || len(item.children) != 2 {
			return nil, d.violation(InvalidValue, at, "an entry has "+keyName+" and "+valueName)
		}
		if entries[*key.value], err = d.valueFromForm(m.target.Value, value, at+"."+valueName); err != nil {
			return nil, err
		}
	}
	return entries, nil
}
