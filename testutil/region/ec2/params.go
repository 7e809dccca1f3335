package ec2

// params reads the members of a decoded structure.
type params map[string]any

func (p params) has(name string) bool { _, ok := p[name]; return ok }

func (p params) str(name string) string { s, _ := p[name].(string); return s }

func (p params) flag(name string) bool { b, _ := p[name].(bool); return b }

func (p params) number(name string) int { n, _ := p[name].(int64); return int(n) }

func (p params) object(name string) params { m, _ := p[name].(map[string]any); return m }

func (p params) strs(name string) []string {
	list, _ := p[name].([]any)
	var out []string
	for _, item := range list {
		if s, ok := item.(string); ok {
			out = append(out, s)
		}
	}
	return out
}

func (p params) objects(name string) []params {
	list, _ := p[name].([]any)
	var out []params
	for _, item := range list {
		if m, ok := item.(map[string]any); ok {
			out = append(out, m)
		}
	}
	return out
}

// set puts a value under a name unless it is empty, as answers leave out what is
// not there.
func set(into map[string]any, name, value string) {
	if value != "" {
		into[name] = value
	}
}
