package asl

// check looks at the graph as a whole: every transition must lead to a state of the same graph,
// every state must be reachable and one of them must end it.
func (p *parser) check(r *reader, g *Graph) {
	if len(g.Names) == 0 {
		r.fail("States", "holds no state")
		return
	}
	for _, name := range g.Names {
		for _, t := range g.States[name].Transitions() {
			if t.To != "" && g.States[t.To] == nil {
				p.fail(name, targetField(t.By), "%q is no state here", t.To)
			}
		}
	}
	if g.States[g.StartAt] == nil {
		if g.StartAt != "" {
			r.fail("StartAt", "%q is no state here", g.StartAt)
		}
		return
	}
	reached := map[string]bool{g.StartAt: true}
	ends := false
	for queue := []string{g.StartAt}; len(queue) > 0; queue = queue[1:] {
		s := g.States[queue[0]]
		ends = ends || s.Terminal()
		for _, t := range s.Transitions() {
			if g.States[t.To] != nil && !reached[t.To] {
				reached[t.To] = true
				queue = append(queue, t.To)
			}
		}
	}
	for _, name := range g.Names {
		if !reached[name] {
			p.fail(name, "", "no transition leads here")
		}
	}
	if !ends {
		r.fail("States", "no state that can be reached is terminal")
	}
}

// targetField turns the name of a transition into the field that holds its target.
func targetField(by string) string {
	if by == "Next" || by == "Default" {
		return by
	}
	return by + ".Next"
}
