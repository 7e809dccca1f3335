package ec2

import (
	"net/http"
	"slices"
	"strings"
)

// SecurityGroup is a security group to seed; like a new one it lets everything out.
type SecurityGroup struct {
	ID, VPC, Name, Description string
	Tags                       map[string]string
}

type securityGroup struct {
	thing
	vpc               *vpc
	name, description string
}

func (*securityGroup) kind() kind { return kindGroup }

// AddSecurityGroup seeds a group and returns its id.
func (s *Service) AddSecurityGroup(g SecurityGroup) string {
	s.mu.Lock()
	defer s.unlock()
	made := &securityGroup{thing: s.seedThing(kindGroup, g.ID, g.Tags), vpc: mustFind[*vpc](s, g.VPC), name: g.Name, description: g.Description}
	s.add(made)
	s.addRule(made, groupRule{egress: true, protocol: "-1", from: -1, to: -1, cidr: "0.0.0.0/0"}, true)
	return made.id
}

// groupsFor checks the groups of an interface; none means the default one.
func (s *Service) groupsFor(v *vpc, ids []string) ([]string, error) {
	if len(ids) == 0 {
		return []string{v.group}, nil
	}
	if len(ids) > s.cfg.Limits.GroupsOnInterface {
		return nil, apiError("SecurityGroupsPerInterfaceLimitExceeded", "The maximum number of security groups for an interface is %d", s.cfg.Limits.GroupsOnInterface)
	}
	for _, id := range ids {
		g, err := find[*securityGroup](s, kindGroup, id)
		if err != nil {
			return nil, err
		}
		if g.vpc != v {
			return nil, apiError("InvalidParameter", "You have specified two resources that belong to different networks: security group %s and a subnet of %s.", id, v.id)
		}
	}
	return slices.Compact(ids), nil
}

func (s *Service) createSecurityGroup(r *request) (map[string]any, error) {
	if r.str("VpcId") == "" {
		return nil, apiError("VPCIdNotSpecified", "No default VPC for this user")
	}
	v, err := find[*vpc](s, kindVPC, r.str("VpcId"))
	if err != nil {
		return nil, err
	}
	name, description := r.str("GroupName"), r.str("Description")
	for what, text := range map[string]string{"GroupName": name, "GroupDescription": description} {
		if text == "" {
			return nil, apiError("MissingParameter", "The request must contain the parameter %s", what)
		}
		if len(text) > 255 || !inGroupCharset(text) {
			return nil, invalidValue("Value (%s) for parameter %s is invalid. Character sets beyond ASCII are not supported.", text, what)
		}
	}
	if strings.HasPrefix(name, "sg-") {
		return nil, invalidValue("Group names may not be in the format sg-*.")
	}
	if name == "default" {
		return nil, apiError("InvalidGroup.Reserved", "The name 'default' is reserved")
	}
	tags, err := r.tagsFor(kindGroup)
	if err != nil {
		return nil, err
	}
	count := 0
	for _, other := range every[*securityGroup](s) {
		if other.vpc != v {
			continue
		}
		if other.name == name {
			return nil, apiError("InvalidGroup.Duplicate", "The security group '%s' already exists for VPC '%s'", name, v.id)
		}
		count++
	}
	if count >= s.cfg.Limits.SecurityGroupsInVPC {
		return nil, apiError("SecurityGroupLimitExceeded", "The maximum number of security groups for VPC '%s' has been reached.", v.id)
	}
	made := &securityGroup{thing: s.newThing(kindGroup, tags), vpc: v, name: name, description: description}
	s.add(made)
	s.addRule(made, groupRule{egress: true, protocol: "-1", from: -1, to: -1, cidr: "0.0.0.0/0"}, false)
	return map[string]any{"GroupId": made.id, "SecurityGroupArn": s.arn("security-group", made.id), "Tags": tagList(made.tags)}, nil
}

// inGroupCharset is the set CreateSecurityGroup documents for a VPC.
func inGroupCharset(text string) bool {
	for _, c := range text {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && !strings.ContainsRune(" ._-:/()#,@[]+=&;{}!$*", c) {
			return false
		}
	}
	return true
}

// groupOf finds the group a call names. Only a default VPC's groups go by name,
// and there is none here.
func (s *Service) groupOf(r *request) (*securityGroup, error) {
	if !r.has("GroupId") {
		if r.has("GroupName") {
			return nil, apiError("InvalidGroup.NotFound", "The security group '%s' does not exist in default VPC 'none'", r.str("GroupName"))
		}
		return nil, apiError("MissingParameter", "The request must contain the parameter groupName or groupId")
	}
	return find[*securityGroup](s, kindGroup, r.str("GroupId"))
}

func (s *Service) deleteSecurityGroup(r *request) (map[string]any, error) {
	g, err := s.groupOf(r)
	if err != nil {
		return nil, err
	}
	if g.id == g.vpc.group {
		return nil, apiError("CannotDelete", "the specified group: %q name: %q cannot be deleted by a user", g.id, g.name)
	}
	dependent := func(what, id string) error {
		return &APIError{Code: "DependencyViolation", Message: "resource " + g.id + " has a dependent object (" + what + " " + id + ")", Status: http.StatusBadRequest}
	}
	for _, e := range every[*netInterface](s) {
		if slices.Contains(e.groups, g.id) {
			return nil, dependent("network interface", e.id)
		}
	}
	for _, rule := range every[*groupRule](s) {
		if rule.group == g.id && rule.of != g.id {
			return nil, dependent("security group rule of", rule.of)
		}
	}
	for _, rule := range s.rulesOf(g) {
		s.remove(rule.id)
	}
	s.remove(g.id)
	return map[string]any{"Return": true, "GroupId": g.id}, nil
}

func (s *Service) showGroup(g *securityGroup) map[string]any {
	return map[string]any{"GroupId": g.id, "GroupName": g.name, "Description": g.description, "VpcId": g.vpc.id, "OwnerId": s.cfg.Account,
		"SecurityGroupArn": s.arn("security-group", g.id), "Tags": tagList(g.tags),
		"IpPermissions": s.showPermissions(s.rulesOf(g), false), "IpPermissionsEgress": s.showPermissions(s.rulesOf(g), true)}
}

func (s *Service) describeSecurityGroups(r *request) (map[string]any, error) {
	filters := map[string]string{"description": "Description", "group-id": "GroupId", "group-name": "GroupName", "owner-id": "OwnerId", "vpc-id": "VpcId"}
	for prefix, member := range map[string]string{"ip-permission.": "IpPermissions.", "egress.ip-permission.": "IpPermissionsEgress."} {
		for name, path := range map[string]string{"cidr": "IpRanges.CidrIp", "from-port": "FromPort", "group-id": "UserIdGroupPairs.GroupId",
			"group-name": "UserIdGroupPairs.GroupName", "ipv6-cidr": "Ipv6Ranges.CidrIpv6", "prefix-list-id": "PrefixListIds.PrefixListId",
			"protocol": "IpProtocol", "to-port": "ToPort", "user-id": "UserIdGroupPairs.UserId"} {
			filters[prefix+name] = member + path
		}
	}
	return r.list(viewsOf(s, s.showGroup), listing{kind: kindGroup, ids: "GroupIds", names: "GroupNames", nameAt: "GroupName",
		notFoundName: "InvalidGroup.NotFound", out: "SecurityGroups", tags: "Tags", filters: filters, idsOrPages: true})
}
