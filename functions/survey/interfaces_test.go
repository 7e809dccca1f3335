package survey

import (
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"

	"flashtap/events"
	"flashtap/testutil/region/ec2"
	"flashtap/testutil/stage"
)

func TestInterfaces(t *testing.T) {
	s := stage.New(t, nil)
	const stranger, gone = "i-0b0b0b0b0b0b0b0b0", "i-0d0d0d0d0d0d0d0d0"
	const theirs, second = "eni-0b0b0b0b0b0b0b0b0", "eni-0b0b0b0b0b0b0b0b1"
	s.EC2.AddInstance(ec2.InstanceSeed{ID: stranger, Type: "m5.large", Interfaces: []ec2.InterfaceSeed{
		{ID: theirs, Subnet: s.Subnet, Address: "10.0.1.20", Secondary: []string{"10.0.1.21"}, IPv6: []string{"2001:db8::20"}}, {ID: second, Subnet: s.Subnet, Address: "10.0.1.30"}}})
	elsewhere := s.EC2.AddVPC(ec2.VPC{CIDR: "10.0.0.0/16"})
	subnet := s.EC2.AddSubnet(ec2.Subnet{VPC: elsewhere, CIDR: "10.0.1.0/24"})
	s.EC2.AddInstance(ec2.InstanceSeed{ID: "i-0c0c0c0c0c0c0c0c0", Type: "m5.large", Interfaces: []ec2.InterfaceSeed{{ID: "eni-0c0c0c0c0c0c0c0c0", Subnet: subnet, Address: "10.0.1.20"}}})

	for name, row := range map[string]struct {
		suspect events.Suspect
		want    []string
		calls   int
	}{
		"an instance":                                {events.Suspect{InstanceID: stranger, VPC: s.VPC, Addresses: []string{"10.0.1.10"}}, []string{theirs, second}, 1},
		"an instance's named interface":              {events.Suspect{InstanceID: s.Instance, NetworkInterfaceID: s.ENI, VPC: s.VPC}, []string{s.ENI}, 1},
		"an interface alone":                         {events.Suspect{NetworkInterfaceID: theirs, VPC: s.VPC}, []string{theirs}, 1},
		"its local address":                          {events.Suspect{InstanceID: stranger, VPC: s.VPC, LocalAddresses: []string{"10.0.1.21"}}, []string{theirs, second}, 1},
		"the named interface is another's now":       {events.Suspect{InstanceID: s.Instance, NetworkInterfaceID: theirs}, []string{s.ENI, theirs}, 2},
		"its local address is another's now":         {events.Suspect{InstanceID: s.Instance, VPC: s.VPC, LocalAddresses: []string{"10.0.1.21"}}, []string{s.ENI, theirs}, 2},
		"gone, and another has its address":          {events.Suspect{InstanceID: gone, VPC: s.VPC, Addresses: []string{"10.0.1.20", "0.0.0.0"}}, []string{theirs}, 2},
		"gone, and another has its IPv6 address":     {events.Suspect{InstanceID: gone, VPC: s.VPC, Addresses: []string{"2001:0db8:0::20"}}, []string{theirs}, 2},
		"gone, and its VPC is not known":             {events.Suspect{InstanceID: gone, Addresses: []string{"10.0.1.20"}}, nil, 1},
		"a named interface that is gone, so nothing": {events.Suspect{NetworkInterfaceID: "eni-0d0d0d0d0d0d0d0d0"}, nil, 1},
		"a pod's address":                            {events.Suspect{VPC: s.VPC, LocalAddresses: []string{"10.0.1.21"}}, []string{theirs}, 1},
		"all at once is gone, and all is asked for":  {events.Suspect{InstanceID: gone, NetworkInterfaceID: "eni-0d0d0d0d0d0d0d0d0", VPC: s.VPC, Addresses: []string{"10.0.1.30", "2001:db8::20"}}, []string{second, theirs}, 4},
	} {
		before := len(s.Calls())
		list, err := Interfaces(t.Context(), s.EC2API, row.suspect)
		var ids []string
		for _, ni := range list {
			ids = append(ids, aws.ToString(ni.NetworkInterfaceId))
		}
		if err != nil || !slices.Equal(ids, row.want) {
			t.Errorf("%s: %v, %v; want %v", name, ids, err, row.want)
		}
		if calls := len(s.Calls()) - before; calls != row.calls {
			t.Errorf("%s: %d calls, want %d", name, calls, row.calls)
		}
	}
}
