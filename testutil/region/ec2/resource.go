package ec2

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"sort"
	"strings"
	"time"
)

// resource is anything that has an id.
type resource interface {
	base() *thing
	kind() kind
}

// thing is what all resources have.
type thing struct {
	id     string
	serial uint64
	born   time.Time
	seeded bool
	tags   map[string]string
}

func (t *thing) base() *thing { return t }

// kind is what EC2 calls a sort of resource, in ids, tags and errors. Spellings of
// the codes: API reference, "Error codes for the Amazon EC2 API".
type kind struct {
	prefix     string // of its ids
	resource   string // in tag specifications
	noun       string // in messages
	notFound   string
	documented string // the reference's spelling where practice has another
	malformed  string
}

var kinds = map[string]kind{}

func newKind(prefix, resource, noun, notFound, malformed string) kind {
	k := kind{prefix: prefix, resource: resource, noun: noun, notFound: notFound, malformed: malformed}
	kinds[prefix] = k
	return k
}

// newMirrorKind makes a kind whose code in practice (as Terraform's AWS provider
// expects it) differs from the API reference's.
func newMirrorKind(prefix, resource, noun, notFound, documented string) kind {
	k := newKind(prefix, resource, noun, notFound, strings.TrimSuffix(notFound, "NotFound")+"Malformed")
	k.documented = documented
	kinds[prefix] = k
	return k
}

var (
	kindVPC         = newKind("vpc", "vpc", "vpc ID", "InvalidVpcID.NotFound", "InvalidVpcID.Malformed")
	kindSubnet      = newKind("subnet", "subnet", "subnet ID", "InvalidSubnetID.NotFound", "InvalidSubnetID.Malformed")
	kindRouteTable  = newKind("rtb", "route-table", "routeTable ID", "InvalidRouteTableID.NotFound", "InvalidRouteTableId.Malformed")
	kindNetworkACL  = newKind("acl", "network-acl", "networkAcl ID", "InvalidNetworkAclID.NotFound", "InvalidNetworkAclId.Malformed")
	kindIGW         = newKind("igw", "internet-gateway", "internetGateway ID", "InvalidInternetGatewayID.NotFound", "InvalidInternetGatewayId.Malformed")
	kindNAT         = newKind("nat", "natgateway", "NAT gateway", "NatGatewayNotFound", "NatGatewayMalformed")
	kindPrefixList  = newKind("pl", "prefix-list", "prefix list ID", "InvalidPrefixListID.NotFound", "InvalidPrefixListId.Malformed")
	kindEndpoint    = newKind("vpce", "vpc-endpoint", "Vpc Endpoint Id", "InvalidVpcEndpointId.NotFound", "InvalidVpcEndpointId.Malformed")
	kindInterface   = newKind("eni", "network-interface", "networkInterface ID", "InvalidNetworkInterfaceID.NotFound", "InvalidNetworkInterfaceId.Malformed")
	kindGroup       = newKind("sg", "security-group", "security group", "InvalidGroup.NotFound", "InvalidGroupId.Malformed")
	kindGroupRule   = newKind("sgr", "security-group-rule", "security group rule ID", "InvalidSecurityGroupRuleId.NotFound", "InvalidSecurityGroupRuleId.Malformed")
	kindImage       = newKind("ami", "image", "image id", "InvalidAMIID.NotFound", "InvalidAMIID.Malformed")
	kindTemplate    = newKind("lt", "launch-template", "launch template ID", "InvalidLaunchTemplateId.NotFound", "InvalidLaunchTemplateId.Malformed")
	kindInstance    = newKind("i", "instance", "instance ID", "InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed")
	kindVolume      = newKind("vol", "volume", "volume", "InvalidVolume.NotFound", "InvalidVolumeID.Malformed")
	kindTarget      = newMirrorKind("tmt", "traffic-mirror-target", "traffic mirror target", "InvalidTrafficMirrorTargetId.NotFound", "InvalidTrafficMirrorTargetNoFound")
	kindFilter      = newMirrorKind("tmf", "traffic-mirror-filter", "traffic mirror filter", "InvalidTrafficMirrorFilterId.NotFound", "InvalidTrafficMirrorFilterNotFound")
	kindFilterRule  = newMirrorKind("tmfr", "traffic-mirror-filter-rule", "traffic mirror filter rule", "InvalidTrafficMirrorFilterRuleId.NotFound", "InvalidTrafficMirrorFilterRuleNotFound")
	kindMirror      = newMirrorKind("tms", "traffic-mirror-session", "traffic mirror session", "InvalidTrafficMirrorSessionId.NotFound", "InvalidTrafficMirrorSessionNotFound")
	wellFormedID    = regexp.MustCompile(`^[a-z]+-([0-9a-f]{8}|[0-9a-f]{17})$`)
	prefixesOfKinds = func(id string) string { prefix, _, _ := strings.Cut(id, "-"); return prefix }
)

// newID makes the next id of a kind: unique, well formed and the same in every run.
func (s *Service) newID(prefix string) *thing {
	s.serial++
	// The finalizer of splitmix64 spreads the serial over all digits.
	z := s.serial * 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	z ^= z >> 31
	return &thing{id: fmt.Sprintf("%s-0%016x", prefix, z), serial: s.serial, born: s.cfg.Now(), tags: map[string]string{}}
}

// newThing is newID with tags.
func (s *Service) newThing(k kind, tags map[string]string) thing {
	t := s.newID(k.prefix)
	maps.Copy(t.tags, tags)
	return *t
}

// seedThing is for what exists before any call: at once visible, with an id of
// the seeder's choice.
func (s *Service) seedThing(k kind, id string, tags map[string]string) thing {
	t := s.newThing(k, tags)
	t.born, t.seeded = time.Time{}, true
	if id != "" {
		if !strings.HasPrefix(id, k.prefix+"-") || s.all[id] != nil {
			panic(fmt.Sprintf("ec2: %q is no new id of a %s", id, k.resource))
		}
		t.id = id
	}
	return t
}

func (s *Service) add(r resource) { s.all[r.base().id] = r }

func (s *Service) remove(id string) { delete(s.all, id) }

// visible says whether a resource is known to calls by now.
func (s *Service) visible(r resource) bool {
	born := r.base().born
	return born.IsZero() || !s.cfg.Now().Before(born.Add(s.cfg.Consistency))
}

// find returns what a call names by its id.
func find[T resource](s *Service, k kind, id string) (T, error) {
	if r, ok := s.all[id].(T); ok && s.visible(r) {
		return r, nil
	}
	var none T
	return none, s.notFound(k, id)
}

func (s *Service) notFound(k kind, id string) *APIError {
	if !wellFormedID.MatchString(id) || prefixesOfKinds(id) != k.prefix {
		return apiError(k.malformed, "Invalid id: %q (expecting \"%s-...\")", id, k.prefix)
	}
	code := k.notFound
	if s.cfg.DocumentedNotFound && k.documented != "" {
		code = k.documented
	}
	return apiError(code, "The %s '%s' does not exist", k.noun, id)
}

// every returns all resources of a type in the order of their making, also those
// that calls cannot see yet.
func every[T resource](s *Service) []T {
	var list []T
	for _, r := range s.all {
		if t, ok := r.(T); ok {
			list = append(list, t)
		}
	}
	sort.Slice(list, func(i, j int) bool { return list[i].base().serial < list[j].base().serial })
	return list
}

// Resource is one thing that exists.
type Resource struct {
	Type   string // as in tag specifications: instance, network-interface ...
	ID     string
	Tags   map[string]string
	Seeded bool // made by an Add method or by AWS along with one, not by a call
}

// Resources lists everything that exists and is not terminated, oldest first.
func (s *Service) Resources() []Resource {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []Resource
	for _, r := range every[resource](s) {
		if i, ok := r.(*instance); ok && i.state == "terminated" {
			continue
		}
		list = append(list, Resource{Type: r.kind().resource, ID: r.base().id, Tags: maps.Clone(r.base().tags), Seeded: r.base().seeded})
	}
	return list
}

// Left lists what calls have made and nothing has removed.
func (s *Service) Left() []Resource {
	return slices.DeleteFunc(s.Resources(), func(r Resource) bool { return r.Seeded })
}
