package ec2

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

const httpsPort = 443

// ReachEndpoint says whether an instance reaches S3 by a name of an interface endpoint: the name is one of an endpoint of the
// instance's VPC that is available, the instance's groups let HTTPS out to it, and the endpoint's groups let it in.
// Its network ACLs and routes are not asked.
func (s *Service) ReachEndpoint(instanceID, host string) error {
	s.mu.Lock()
	defer s.unlock()
	i, err := find[*instance](s, kindInstance, instanceID)
	if err != nil {
		return err
	}
	var from *netInterface
	for _, e := range every[*netInterface](s) {
		if s.instanceOf(e) == i {
			from = e
			break
		}
	}
	for _, e := range every[*endpoint](s) {
		if e.typ != "Interface" || !strings.Contains(host, e.id) || !strings.HasPrefix(host, "bucket.") {
			continue
		}
		if from == nil || e.vpc != from.subnet.vpc || e.state != "available" {
			return fmt.Errorf("resolve %s: %s is %s in %s", host, e.id, e.state, e.vpc.id)
		}
		for _, id := range e.interfaces {
			to := mustFind[*netInterface](s, id)
			switch {
			case !s.https(from.groups, true, to):
				return fmt.Errorf("connect to %s: no group of %s lets HTTPS out to %s", host, instanceID, to.address)
			case !s.https(e.groups, false, from):
				return fmt.Errorf("connect to %s: no group of %s lets HTTPS in from %s", host, e.id, from.address)
			}
		}
		return nil
	}
	return fmt.Errorf("resolve %s: no such host", host)
}

// https says whether a rule of the groups lets HTTPS pass, to or from an interface.
func (s *Service) https(groups []string, egress bool, other *netInterface) bool {
	for _, rule := range every[*groupRule](s) {
		tcp := rule.protocol == "-1" || rule.protocol == "tcp" && rule.from <= httpsPort && httpsPort <= rule.to
		if rule.egress != egress || !slices.Contains(groups, rule.of) || !tcp {
			continue
		}
		if slices.Contains(other.groups, rule.group) ||
			slices.ContainsFunc(s.blocks(rule.cidr+rule.prefixList), func(b netip.Prefix) bool { return b.Contains(other.address) }) {
			return true
		}
	}
	return false
}
