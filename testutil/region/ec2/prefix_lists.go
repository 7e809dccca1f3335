package ec2

type prefixList struct {
	thing
	name  string
	cidrs []string
}

func (*prefixList) kind() kind { return kindPrefixList }

// addGatewayPrefixLists makes the lists behind the region's gateway endpoints.
// The ranges are examples: the addresses of S3 on one machine are its loopback's.
func (s *Service) addGatewayPrefixLists() {
	for _, list := range []struct {
		id, service string
		cidrs       []string
	}{{"pl-63a5400a", "s3", []string{"127.0.0.0/8", "192.0.2.0/24"}}, {"pl-02cd2c6b", "dynamodb", []string{"198.51.100.0/24"}}} {
		name := "com.amazonaws." + s.cfg.Region + "." + list.service
		s.add(&prefixList{thing: s.seedThing(kindPrefixList, list.id, nil), name: name, cidrs: list.cidrs})
		s.prefixes[name] = list.id
	}
}

// PrefixList returns the id of the list of an AWS service, such as "s3".
func (s *Service) PrefixList(service string) string {
	return s.prefixes["com.amazonaws."+s.cfg.Region+"."+service]
}

var prefixListFilters = map[string]string{"prefix-list-id": "PrefixListId", "prefix-list-name": "PrefixListName"}

func (s *Service) describePrefixLists(r *request) (map[string]any, error) {
	show := func(p *prefixList) map[string]any {
		return map[string]any{"PrefixListId": p.id, "PrefixListName": p.name, "Cidrs": p.cidrs}
	}
	return r.list(viewsOf(s, show), listing{kind: kindPrefixList, ids: "PrefixListIds", out: "PrefixLists", filters: prefixListFilters})
}

func (s *Service) describeManagedPrefixLists(r *request) (map[string]any, error) {
	show := func(p *prefixList) map[string]any {
		return map[string]any{"PrefixListId": p.id, "PrefixListName": p.name, "AddressFamily": "IPv4", "OwnerId": "AWS", "State": "create-complete",
			"PrefixListArn": "arn:aws:ec2:" + s.cfg.Region + ":aws:prefix-list/" + p.id, "Tags": tagList(p.tags)}
	}
	return r.list(viewsOf(s, show), listing{kind: kindPrefixList, ids: "PrefixListIds", out: "PrefixLists",
		filters: with(prefixListFilters, map[string]string{"owner-id": "OwnerId"})})
}
