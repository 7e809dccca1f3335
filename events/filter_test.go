package events

import (
	"testing"
)

func TestFilter(t *testing.T) {
	good := FilterRule{Number: 1, Direction: Ingress, Action: Accept, SourceCIDR: "10.0.0.0/8", DestinationCIDR: "0.0.0.0/0"}
	with := func(change func(*FilterRule)) Filter {
		r := good
		change(&r)
		return Filter{Rules: []FilterRule{r}}
	}
	many := func(n int) Filter {
		var f Filter
		for i := range n {
			r := good
			r.Number = int32(i + 1)
			f.Rules = append(f.Rules, r)
		}
		return f
	}
	for name, row := range map[string]struct {
		f    Filter
		says []string
	}{
		"everything":                       {EverythingFilter(), nil},
		"one rule":                         {Filter{Rules: []FilterRule{good}}, nil},
		"DNS alone":                        {Filter{DNS: true}, nil},
		"nothing":                          {Filter{}, []string{"mirrors nothing", "dns"}},
		"only rejects":                     {with(func(r *FilterRule) { r.Action = Reject }), []string{"mirrors nothing", "accept"}},
		"only rejects, and DNS":            {Filter{DNS: true, Rules: []FilterRule{{Number: 1, Direction: Egress, Action: Reject, SourceCIDR: "::/0", DestinationCIDR: "::/0"}}}, nil},
		"as many rules as AWS allows":      {many(10), nil},
		"one more":                         {many(11), []string{"11 rules", "10"}},
		"a number twice in a direction":    {Filter{Rules: []FilterRule{good, good}}, []string{"rule 2", "number 1", "ingress"}},
		"a number in both directions":      {Filter{Rules: []FilterRule{good, {Number: 1, Direction: Egress, Action: Reject, SourceCIDR: "::/0", DestinationCIDR: "::/0"}}}, nil},
		"number 0":                         {with(func(r *FilterRule) { r.Number = 0 }), []string{"number 0", "1 to 32766"}},
		"number too high":                  {with(func(r *FilterRule) { r.Number = 32767 }), []string{"number 32767", "1 to 32766"}},
		"a direction that is none":         {with(func(r *FilterRule) { r.Direction = "sideways" }), []string{`"sideways"`, "ingress or egress"}},
		"a direction in capitals":          {with(func(r *FilterRule) { r.Direction = "Ingress" }), []string{`"Ingress"`, "ingress or egress"}},
		"an action that is none":           {with(func(r *FilterRule) { r.Action = "drop" }), []string{`"drop"`, "accept or reject"}},
		"an address instead of a range":    {with(func(r *FilterRule) { r.SourceCIDR = "10.0.0.1" }), []string{"sourceCidr", "10.0.0.1"}},
		"no destination":                   {with(func(r *FilterRule) { r.DestinationCIDR = "" }), []string{"destinationCidr"}},
		"both families in one rule":        {with(func(r *FilterRule) { r.DestinationCIDR = "::/0" }), []string{"different families"}},
		"TCP ports":                        {with(func(r *FilterRule) { r.Protocol, r.DestinationPorts = 6, &PortRange{80, 443} }), nil},
		"UDP ports, the whole range":       {with(func(r *FilterRule) { r.Protocol, r.SourcePorts = 17, &PortRange{0, 65535} }), nil},
		"ports of no protocol":             {with(func(r *FilterRule) { r.DestinationPorts = &PortRange{80, 80} }), []string{"ports", "6", "17"}},
		"ports of ICMP":                    {with(func(r *FilterRule) { r.Protocol, r.DestinationPorts = 1, &PortRange{80, 80} }), []string{"ports", "6", "17"}},
		"ports backwards":                  {with(func(r *FilterRule) { r.Protocol, r.DestinationPorts = 6, &PortRange{443, 80} }), []string{"443-80", "ascending"}},
		"a port too high":                  {with(func(r *FilterRule) { r.Protocol, r.SourcePorts = 6, &PortRange{1, 65536} }), []string{"1-65536", "65535"}},
		"a protocol that is none":          {with(func(r *FilterRule) { r.Protocol = 256 }), []string{"protocol 256", "255"}},
		"a protocol below none":            {with(func(r *FilterRule) { r.Protocol = -1 }), []string{"protocol -1", "0 for all"}},
		"the mistake is named by position": {Filter{Rules: []FilterRule{good, {Number: 2}}}, []string{"rule 2"}},
	} {
		checkSays(t, name, row.f.Validate(), row.says)
	}
}

// TestEverythingFilter: 0.0.0.0/0 never matches IPv6, and no rule in a direction means nothing of it is mirrored.
func TestEverythingFilter(t *testing.T) {
	has := map[string]bool{}
	for _, r := range EverythingFilter().Rules {
		if r.Action == Accept && r.Protocol == 0 && r.SourceCIDR == r.DestinationCIDR {
			has[r.Direction+" "+r.SourceCIDR] = true
		}
	}
	for _, want := range []string{"ingress 0.0.0.0/0", "ingress ::/0", "egress 0.0.0.0/0", "egress ::/0"} {
		if !has[want] {
			t.Errorf("no rule accepts %s", want)
		}
	}
	if !EverythingFilter().DNS {
		t.Error("the VPC's DNS is left out")
	}
}
