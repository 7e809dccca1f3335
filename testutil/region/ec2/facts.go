package ec2

import (
	"maps"

	"flashtap/testutil/region/model"
)

// Fact is what EC2 knows of a resource when it asks IAM whether somebody may do something to it.
type Fact struct {
	Type string // as in tag specifications and ARNs
	ID   string
	Tags map[string]string

	VPC, Subnet, Zone string // ids, of what lies in one
	Owner             string // the account, or "amazon"
	Parent            string // the filter of a filter rule
	InstanceType      string
	Profile           string // ARN of an instance's profile
	TokensRequired    bool   // IMDSv2 only
}

// Facts are those of every resource that a call's parameters name, by id, as they are now.
type Facts struct {
	Resources map[string]Fact
	// Launch are the parameters of RunInstances as its launch template completes them.
	Launch map[string]any
}

// Facts tells what is known of the things that a call is about.
func (s *Service) Facts(call *model.Call) Facts {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := Facts{Resources: map[string]Fact{}}
	s.lookUp(call.Params, f.Resources)
	if call.Operation != "RunInstances" {
		return f
	}
	f.Launch = maps.Clone(call.Params)
	if from := params(call.Params).object("LaunchTemplate"); from != nil {
		// A template that is not there is RunInstances' to refuse.
		if t, err := s.template(from); err == nil {
			if n, err := t.version(from.str("Version")); err == nil {
				f.Launch = merged(t.versions[n-1].data, call.Params)
			}
			f.Resources[t.id] = s.fact(t)
		}
	}
	s.lookUp(f.Launch, f.Resources)
	return f
}

// lookUp finds the resources whose ids are anywhere in a value.
func (s *Service) lookUp(in any, found map[string]Fact) {
	switch v := in.(type) {
	case map[string]any:
		for _, each := range v {
			s.lookUp(each, found)
		}
	case params:
		s.lookUp(map[string]any(v), found)
	case []any:
		for _, each := range v {
			s.lookUp(each, found)
		}
	case string:
		r, there := s.all[v]
		if _, known := found[v]; !there || known {
			return
		}
		found[v] = s.fact(r)
		if rule, ok := r.(*mirrorRule); ok {
			s.lookUp(rule.filter, found)
		}
	}
}

func (s *Service) fact(r resource) Fact {
	f := Fact{Type: r.kind().resource, ID: r.base().id, Tags: maps.Clone(r.base().tags), Owner: s.cfg.Account}
	in := func(n *subnet) { f.Subnet, f.VPC, f.Zone = n.id, n.vpc.id, n.zone }
	switch r := r.(type) {
	case *subnet:
		in(r)
	case *netInterface:
		in(r.subnet)
	case *vpc:
		f.VPC = r.id
	case *securityGroup:
		f.VPC = r.vpc.id
	case *image:
		f.Owner = "amazon" // whoever owns it: there are no others here
	case *mirrorRule:
		f.Parent = r.filter
	case *instance:
		in(r.subnet)
		f.InstanceType, f.Profile, f.TokensRequired = r.typ, r.profile.ARN, r.metadata.tokens == "required"
	}
	return f
}
