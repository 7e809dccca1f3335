package describe

import (
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"flashtap/events"
)

// MirrorFilter is a filter as EC2 describes it, in our own words.
func MirrorFilter(f types.TrafficMirrorFilter) events.Filter {
	var filter events.Filter
	for _, s := range f.NetworkServices {
		filter.DNS = filter.DNS || s == types.TrafficMirrorNetworkServiceAmazonDns
	}
	for _, list := range [][]types.TrafficMirrorFilterRule{f.IngressFilterRules, f.EgressFilterRules} {
		for _, r := range list {
			filter.Rules = append(filter.Rules, events.FilterRule{
				Number: aws.ToInt32(r.RuleNumber), Direction: string(r.TrafficDirection), Action: string(r.RuleAction), Protocol: aws.ToInt32(r.Protocol),
				SourceCIDR: aws.ToString(r.SourceCidrBlock), DestinationCIDR: aws.ToString(r.DestinationCidrBlock),
				SourcePorts: ports(r.SourcePortRange), DestinationPorts: ports(r.DestinationPortRange),
			})
		}
	}
	return filter
}

func ports(r *types.TrafficMirrorPortRange) *events.PortRange {
	if r == nil {
		return nil
	}
	return &events.PortRange{From: aws.ToInt32(r.FromPort), To: aws.ToInt32(r.ToPort)}
}
