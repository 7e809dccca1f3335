package survey

import (
	"context"
	"net/netip"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"flashtap/events"
	"flashtap/functions/internal/describe"
	"flashtap/functions/plan"
)

// Interfaces describes whatever a suspect may mean, for plan.Choose to pick from: the instance's interfaces, the one that the finding
// names, and, when those are not as the finding says, whatever holds the suspect's addresses now. It makes one call, and up to three more
// then. Of a suspect that is gone without a trace there is nothing, which is no error.
func Interfaces(ctx context.Context, api ec2.DescribeNetworkInterfacesAPIClient, s events.Suspect) ([]types.NetworkInterface, error) {
	var list []types.NetworkInterface
	add := func(filters ...types.Filter) error {
		more, err := describe.Interfaces(ctx, api, filters...)
		for _, ni := range more {
			if !has(list, aws.ToString(ni.NetworkInterfaceId)) {
				list = append(list, ni)
			}
		}
		return err
	}
	if s.InstanceID != "" {
		if err := add(describe.Filter("attachment.instance-id", s.InstanceID)); err != nil {
			return nil, err
		}
	}
	if id := s.NetworkInterfaceID; id != "" && !has(list, id) {
		if err := add(describe.Filter("network-interface-id", id)); err != nil { // asked for by its id, one that is gone would be an error
			return nil, err
		}
	}
	if s.VPC == "" || plan.Settled(s, list) { // addresses mean something within their VPC alone
		return list, nil
	}
	four, six := families(slices.Concat(s.LocalAddresses, s.Addresses))
	if len(four) > 0 {
		if err := add(describe.Filter("vpc-id", s.VPC), types.Filter{Name: aws.String("addresses.private-ip-address"), Values: four}); err != nil {
			return nil, err
		}
	}
	if len(six) > 0 {
		if err := add(describe.Filter("vpc-id", s.VPC), types.Filter{Name: aws.String("ipv6-addresses.ipv6-address"), Values: six}); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func has(list []types.NetworkInterface, id string) bool {
	return slices.ContainsFunc(list, func(ni types.NetworkInterface) bool { return aws.ToString(ni.NetworkInterfaceId) == id })
}

// families parts addresses, as EC2 has a filter for each family. At most as many of each as a filter takes (EC2 API Reference, "Filter": 200
// values).
func families(addresses []string) (four, six []string) {
	const most = 200
	for _, text := range addresses {
		a, err := netip.ParseAddr(text)
		switch {
		case err != nil, a.IsUnspecified():
		case a.Is4() && len(four) < most && !slices.Contains(four, text):
			four = append(four, text)
		case a.Is6() && len(six) < most && !slices.Contains(six, a.String()):
			six = append(six, a.String())
		}
	}
	return four, six
}
