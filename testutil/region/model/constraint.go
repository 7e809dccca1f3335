package model

import (
	"fmt"
	"slices"
	"strconv"
	"unicode/utf8"
)

// check holds a decoded value against what its shape demands beyond its type:
// required members, enumerations, bounds and patterns.
func (d *decoder) check(s *shape, value any, path string) error {
	switch s.Type {
	case "structure":
		fields, _ := value.(map[string]any)
		for _, name := range s.Required {
			if _, ok := fields[name]; !ok {
				return d.violation(MissingParameter, d.join(path, s.Members[name], name), "the request must contain it")
			}
		}
		if s.Union && len(fields) != 1 {
			return d.violation(InvalidValue, path, fmt.Sprintf("exactly one member must be set, not %d", len(fields)))
		}
		for _, name := range s.memberNames {
			if field, ok := fields[name]; ok {
				if err := d.check(s.Members[name].target, field, d.join(path, s.Members[name], name)); err != nil {
					return err
				}
			}
		}
		return nil
	case "list":
		items, _ := value.([]any)
		for i, item := range items {
			if err := d.check(s.Member.target, item, path+"."+strconv.Itoa(i+1)); err != nil {
				return err
			}
		}
		return d.checkSize(s, len(items), "items", path)
	case "map":
		entries, _ := value.(map[string]any)
		for key, entry := range entries {
			if err := d.check(s.Key.target, key, path+".key"); err != nil {
				return err
			}
			if err := d.check(s.Value.target, entry, path+"."+key); err != nil {
				return err
			}
		}
		return d.checkSize(s, len(entries), "entries", path)
	}
	switch v := value.(type) {
	case string:
		if len(s.Enum) > 0 && !slices.Contains(s.Enum, v) {
			return d.violation(InvalidValue, path, quoted(v)+" is not one of the values of "+s.name)
		}
		if s.pattern != nil && !s.pattern.MatchString(v) {
			return d.violation(InvalidValue, path, quoted(v)+" does not match "+s.Pattern)
		}
		return d.checkSize(s, utf8.RuneCountInString(v), "characters", path)
	case []byte:
		return d.checkSize(s, len(v), "bytes", path)
	case int64:
		return d.checkRange(s, float64(v), path)
	case float64:
		return d.checkRange(s, v, path)
	}
	return nil
}

func (d *decoder) checkSize(s *shape, size int, unit, path string) error {
	if s.min != nil && float64(size) < *s.min || s.max != nil && float64(size) > *s.max {
		return d.violation(InvalidValue, path, fmt.Sprintf("%d %s, allowed are %s", size, unit, s.bounds()))
	}
	return nil
}

func (d *decoder) checkRange(s *shape, value float64, path string) error {
	if s.min != nil && value < *s.min || s.max != nil && value > *s.max {
		return d.violation(InvalidValue, path, fmt.Sprintf("%v, allowed are %s", value, s.bounds()))
	}
	return nil
}

func (s *shape) bounds() string {
	text := ""
	if s.Min != nil {
		text = s.Min.String()
	}
	text += " to "
	if s.Max != nil {
		text += s.Max.String()
	}
	return text
}

// join extends a path with a member as the request's sender spelled it.
func (d *decoder) join(path string, m *member, name string) string {
	if m != nil {
		if d.service.protocol == protocolEC2 {
			name = m.ec2Name(name)
		} else {
			name = m.wireName(name)
		}
	}
	return path + "." + name
}
