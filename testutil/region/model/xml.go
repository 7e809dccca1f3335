package model

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"io"
	"strconv"
	"strings"
	"time"
)

// element is one parsed XML element; namespaces do not matter to AWS's servers.
type element struct {
	name       string
	attributes map[string]string
	text       string
	children   []*element
}

func (d *decoder) parseXML(body []byte) (*element, error) {
	reader := xml.NewDecoder(bytes.NewReader(body))
	root := &element{}
	stack := []*element{root}
	for {
		token, err := reader.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, d.violation(Malformed, "", "the body is not XML: "+err.Error())
		}
		top := stack[len(stack)-1]
		switch t := token.(type) {
		case xml.StartElement:
			if len(stack) > maxDepth {
				return nil, d.violation(Malformed, "", "the body is nested too deep")
			}
			child := &element{name: t.Name.Local, attributes: map[string]string{}}
			for _, a := range t.Attr {
				child.attributes[a.Name.Local] = a.Value
			}
			top.children = append(top.children, child)
			stack = append(stack, child)
		case xml.EndElement:
			stack = stack[:len(stack)-1]
		case xml.CharData:
			top.text += string(t)
		}
	}
	if len(root.children) != 1 {
		return nil, d.violation(Malformed, "", "the body is not one XML element")
	}
	return root.children[0], nil
}

func (d *decoder) structureFromXML(s *shape, at *element, path string, only func(*member) bool) (map[string]any, error) {
	fields := map[string]any{}
	taken := map[string]bool{}
	for _, name := range s.memberNames {
		m := s.Members[name]
		if only != nil && !only(m) {
			continue
		}
		key := m.wireName(name)
		if m.XMLAttribute {
			_, local, found := strings.Cut(key, ":")
			if !found {
				local = key
			}
			if text, ok := at.attributes[local]; ok {
				fields[name] = text
			}
			continue
		}
		if m.flattened() && m.target.Type == "list" && m.LocationName == "" && m.target.Member.LocationName != "" {
			key = m.target.Member.LocationName
		}
		taken[key] = true
		var found []*element
		for _, child := range at.children {
			if child.name == key {
				found = append(found, child)
			}
		}
		if len(found) == 0 {
			continue
		}
		value, err := d.valueFromXML(m, found, path+"."+key)
		if err != nil {
			return nil, err
		}
		fields[name] = value
	}
	for _, child := range at.children {
		if !taken[child.name] {
			return nil, d.violation(UnknownParameter, path+"."+child.name, "the model has no such element")
		}
	}
	return fields, nil
}

func (d *decoder) valueFromXML(m *member, found []*element, path string) (any, error) {
	if m.target.Type == "list" {
		if !m.flattened() {
			if len(found) != 1 {
				return nil, d.violation(InvalidValue, path, "given more than once")
			}
			found = found[0].children
		}
		list := make([]any, len(found))
		for i, child := range found {
			var err error
			if list[i], err = d.valueFromXML(m.target.Member, []*element{child}, path+"."+strconv.Itoa(i+1)); err != nil {
				return nil, err
			}
		}
		return list, nil
	}
	if len(found) != 1 {
		return nil, d.violation(InvalidValue, path, "given more than once")
	}
	if m.target.Type == "structure" {
		return d.structureFromXML(m.target, found[0], path, nil)
	}
	if len(found[0].children) > 0 {
		return nil, d.violation(InvalidValue, path, "nested where a single value is wanted")
	}
	return d.scalarFromText(m, strings.TrimSpace(found[0].text), path, iso8601)
}

// xmlWriter writes the bodies of the query and XML protocols from checked values.
type xmlWriter struct {
	bytes.Buffer
	ec2 bool
}

func (w *xmlWriter) open(name, namespace string) {
	w.WriteString("<" + name)
	if namespace != "" {
		w.WriteString(` xmlns="`)
		w.escape(namespace)
		w.WriteString(`"`)
	}
	w.WriteString(">")
}

func (w *xmlWriter) close(name string) { w.WriteString("</" + name + ">") }

func (w *xmlWriter) text(name, text string) {
	w.open(name, "")
	w.escape(text)
	w.close(name)
}

func (w *xmlWriter) escape(text string) {
	// A bytes.Buffer takes every write.
	_ = xml.EscapeText(&w.Buffer, []byte(text))
}

// structure writes a structure's members, without an element around them.
func (w *xmlWriter) structure(s *shape, fields map[string]any) {
	for _, name := range s.memberNames {
		m := s.Members[name]
		value, ok := fields[name]
		if !ok || m.Location != "" || m.XMLAttribute {
			continue
		}
		w.member(m.wireName(name), m, value)
	}
}

func (w *xmlWriter) member(name string, m *member, value any) {
	switch v := value.(type) {
	case map[string]any:
		w.open(name, "")
		if m.target.Type == "map" {
			for _, key := range sortedKeys(v) {
				w.open("entry", "")
				w.text(m.target.Key.wireName("key"), key)
				w.member(m.target.Value.wireName("value"), m.target.Value, v[key])
				w.close("entry")
			}
		} else {
			w.structure(m.target, v)
		}
		w.close(name)
	case []any:
		each := m.target.Member.wireName("member")
		if m.flattened() && !w.ec2 {
			if m.target.Member.LocationName != "" {
				name = m.target.Member.LocationName
			}
			for _, item := range v {
				w.member(name, m.target.Member, item)
			}
			return
		}
		w.open(name, "")
		for _, item := range v {
			w.member(each, m.target.Member, item)
		}
		w.close(name)
	default:
		w.text(name, textOf(m, value, iso8601))
	}
}

// textOf writes a checked single value as text.
func textOf(m *member, value any, timeFormat string) string {
	switch v := value.(type) {
	case bool:
		return strconv.FormatBool(v)
	case int64:
		return strconv.FormatInt(v, 10)
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	case []byte:
		return base64.StdEncoding.EncodeToString(v)
	case time.Time:
		return textOfTime(v, m.timestampFormat(timeFormat))
	}
	return value.(string)
}
