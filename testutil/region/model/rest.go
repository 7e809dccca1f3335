package model

import (
	"net/http"
	"net/url"
	"sort"
	"strconv"
	"strings"
)

// route is an operation's method, path template and fixed query.
type route struct {
	operation *operation
	segments  []string // "{Name}" and "{Key+}" stand for labels
	query     url.Values
}

// routesOf puts the routes that demand most of the query first, so that
// GET /bucket/key?attributes is not taken for GetObject.
func routesOf(operations map[string]*operation) []route {
	var routes []route
	for _, name := range sortedKeys(operations) {
		op := operations[name]
		path, query, _ := strings.Cut(op.HTTP.RequestURI, "?")
		fixed, err := url.ParseQuery(query)
		if err != nil {
			continue
		}
		routes = append(routes, route{op, strings.Split(strings.TrimPrefix(path, "/"), "/"), fixed})
	}
	sort.SliceStable(routes, func(i, j int) bool { return len(routes[i].query) > len(routes[j].query) })
	return routes
}

// match returns the values of the template's labels, or false.
func (rt route) match(method string, segments []string, query url.Values) (map[string]string, bool) {
	if rt.operation.HTTP.Method != method {
		return nil, false
	}
	for key, values := range rt.query {
		if !query.Has(key) || values[0] != "" && query.Get(key) != values[0] {
			return nil, false
		}
	}
	labels := map[string]string{}
	for i, want := range rt.segments {
		if i >= len(segments) {
			return nil, false
		}
		label, isLabel := strings.CutPrefix(want, "{")
		label = strings.TrimSuffix(label, "}")
		if name, greedy := strings.CutSuffix(label, "+"); greedy && isLabel {
			labels[name] = strings.Join(segments[i:], "/")
			return labels, labels[name] != ""
		}
		if !isLabel && segments[i] != want || segments[i] == "" && want != "" {
			return nil, false
		}
		if isLabel {
			labels[label] = segments[i]
		}
	}
	rest := segments[len(rt.segments):]
	return labels, len(rest) == 0 || len(rest) == 1 && rest[0] == ""
}

// decodeREST reads the REST protocols: the operation is a method and a path,
// its parameters are spread over path, query, headers and body.
func (d *decoder) decodeREST() error {
	query, err := url.ParseQuery(d.request.URL.RawQuery)
	if err != nil {
		return d.violation(Malformed, "", "the URL's query is not a form: "+err.Error())
	}
	var segments []string
	for segment := range strings.SplitSeq(strings.TrimPrefix(d.request.URL.EscapedPath(), "/"), "/") {
		plain, err := url.PathUnescape(segment)
		if err != nil {
			return d.violation(Malformed, "", "the URL's path is not escaped: "+err.Error())
		}
		segments = append(segments, plain)
	}
	var labels map[string]string
	var fixed url.Values
	for _, rt := range d.service.routes {
		if found, ok := rt.match(d.request.Method, segments, query); ok {
			labels, fixed = found, rt.query
			if err := d.begin(rt.operation.Name); err != nil {
				return err
			}
			break
		}
	}
	if d.operation == nil {
		return d.violation(UnknownOperation, "", "no operation is "+d.request.Method+" "+quoted(d.request.URL.Path)+" with this query")
	}
	if d.operation.Input == nil {
		return nil
	}
	input := d.operation.Input.target
	if err := d.fromURI(input, labels, query, fixed); err != nil {
		return err
	}
	if err := d.fromHeaders(input, query); err != nil {
		return err
	}
	return d.fromBody(input)
}

func (d *decoder) fromURI(input *shape, labels map[string]string, query, fixed url.Values) error {
	taken := map[string]bool{"x-id": true} // the SDKs name the operation here
	for key := range fixed {
		taken[key] = true
	}
	var rest string // the member that takes all other query parameters
	for _, name := range input.memberNames {
		m := input.Members[name]
		key := m.wireName(name)
		switch m.Location {
		case "uri":
			text, ok := labels[key]
			if !ok {
				continue
			}
			value, err := d.scalarFromText(m, text, "."+key, iso8601)
			if err != nil {
				return err
			}
			d.params[name] = value
		case "querystring":
			if m.target.Type == "map" {
				rest = name
				continue
			}
			taken[key] = true
			texts, ok := query[key]
			if !ok {
				continue
			}
			value, err := d.listOrScalar(m, texts, "."+key, iso8601)
			if err != nil {
				return err
			}
			d.params[name] = value
		case "header":
			if presigned(query) {
				taken[m.LocationName] = true
			}
		}
	}
	others := map[string]any{}
	for _, key := range sortedKeys(query) {
		switch {
		case taken[key], presigned(query) && strings.HasPrefix(strings.ToLower(key), "x-amz-"):
		case rest != "":
			others[key] = query.Get(key)
		default:
			return d.violation(UnknownParameter, key, "the operation has no such query parameter")
		}
	}
	if len(others) > 0 {
		d.params[rest] = others
	}
	return nil
}

// presigned says that the request is signed in its query, where the SDKs then
// also move the headers to.
func presigned(query url.Values) bool { return query.Has("X-Amz-Signature") }

func (d *decoder) listOrScalar(m *member, texts []string, path, timeFormat string) (any, error) {
	if m.target.Type != "list" {
		if len(texts) != 1 {
			return nil, d.violation(InvalidValue, path, "given more than once")
		}
		return d.scalarFromText(m, texts[0], path, timeFormat)
	}
	list := make([]any, len(texts))
	for i, text := range texts {
		var err error
		if list[i], err = d.scalarFromText(m.target.Member, text, path+"."+strconv.Itoa(i+1), timeFormat); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// protocolHeaders are the headers of the x-amz- family which belong to signing,
// chunking and tracing, not to an operation.
var protocolHeaders = map[string]bool{
	"x-amz-date": true, "x-amz-security-token": true, "x-amz-content-sha256": true, "x-amz-user-agent": true,
	"x-amz-decoded-content-length": true, "x-amz-trailer": true, "x-amz-region-set": true,
}

func (d *decoder) fromHeaders(input *shape, query url.Values) error {
	headers := d.request.Header
	taken := map[string]bool{}
	for _, name := range input.memberNames {
		m := input.Members[name]
		switch m.Location {
		case "header":
			key := m.wireName(name)
			taken[strings.ToLower(key)] = true
			texts := headers.Values(key)
			if len(texts) == 0 && presigned(query) {
				texts = query[key]
			}
			if len(texts) == 0 {
				continue
			}
			if m.target.Type == "list" {
				texts = splitHeader(texts)
			}
			value, err := d.listOrScalar(m, texts, "."+key, rfc822)
			if err != nil {
				return err
			}
			d.params[name] = value
		case "headers":
			entries := map[string]any{}
			for key := range headers {
				if rest, ok := cutPrefixFold(key, m.LocationName); ok {
					taken[strings.ToLower(key)] = true
					entries[strings.ToLower(rest)] = headers.Get(key)
				}
			}
			if len(entries) > 0 {
				d.params[name] = entries
			}
		}
	}
	for key := range headers {
		key = strings.ToLower(key)
		// An operation that lets the caller choose the algorithm takes the checksum itself in a header of the algorithm's name, which
		// only some list among their members (Smithy, "httpChecksum trait").
		checksum := strings.HasPrefix(key, "x-amz-checksum-") && taken["x-amz-sdk-checksum-algorithm"]
		if strings.HasPrefix(key, "x-amz-") && !taken[key] && !protocolHeaders[key] && !checksum {
			return d.violation(UnknownParameter, key, "the operation has no such header")
		}
	}
	return nil
}

// splitHeader separates the elements of a list that a header holds. A date has a
// comma of its own, but no list of dates goes in a header of these services.
func splitHeader(texts []string) []string {
	var parts []string
	for _, text := range texts {
		for part := range strings.SplitSeq(text, ",") {
			parts = append(parts, strings.TrimSpace(part))
		}
	}
	return parts
}

func cutPrefixFold(text, prefix string) (string, bool) {
	if len(text) < len(prefix) || !strings.EqualFold(text[:len(prefix)], prefix) {
		return "", false
	}
	return text[len(prefix):], true
}

func (d *decoder) fromBody(input *shape) error {
	if input.Payload != "" {
		m := input.Members[input.Payload]
		if m.target.Type != "structure" {
			if len(d.body) == 0 && !m.Streaming {
				return nil
			}
			if m.target.Type == "string" {
				d.params[input.Payload] = string(d.body)
			} else {
				d.params[input.Payload] = d.body
			}
			return nil
		}
		if len(d.body) == 0 {
			return nil
		}
		fields, err := d.structureFromDocument(m.target, input.Payload, nil)
		if err != nil {
			return err
		}
		d.params[input.Payload] = fields
		return nil
	}
	inBody := func(m *member) bool { return m.Location == "" }
	var any bool
	for _, m := range input.Members {
		any = any || inBody(m)
	}
	if !any {
		if len(d.body) > 0 && d.request.Method != http.MethodGet && string(d.body) != "{}" {
			return d.violation(Malformed, "", "the operation takes no body")
		}
		return nil
	}
	fields, err := d.structureFromDocument(input, "", inBody)
	if err != nil {
		return err
	}
	for name, value := range fields {
		d.params[name] = value
	}
	return nil
}

// structureFromDocument parses the body as the protocol's kind of document.
func (d *decoder) structureFromDocument(s *shape, path string, only func(*member) bool) (map[string]any, error) {
	if d.service.protocol == protocolRESTXML {
		tree, err := d.parseXML(d.body)
		if err != nil {
			return nil, err
		}
		return d.structureFromXML(s, tree, path, only)
	}
	tree, err := d.parseJSON(d.body)
	if err != nil {
		return nil, err
	}
	return d.structureFromJSON(s, tree, path, only)
}
