package plan

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"flashtap/events"
)

const (
	suspect  = "i-0a0a0a0a0a0a0a0a0"
	stranger = "i-0b0b0b0b0b0b0b0b0"
)

// nic is an interface as EC2 describes it: attached to instance at index, with addresses of which the first is primary.
func nic(id, instance string, index int32, addresses ...string) types.NetworkInterface {
	ni := types.NetworkInterface{NetworkInterfaceId: aws.String(id), InterfaceType: types.NetworkInterfaceTypeInterface}
	if instance != "" {
		ni.Attachment = &types.NetworkInterfaceAttachment{InstanceId: aws.String(instance), DeviceIndex: aws.Int32(index)}
	}
	for i, a := range addresses {
		switch {
		case strings.Contains(a, ":"):
			ni.Ipv6Addresses = append(ni.Ipv6Addresses, types.NetworkInterfaceIpv6Address{Ipv6Address: aws.String(a)})
			continue
		case i == 0:
			ni.PrivateIpAddress = aws.String(a)
		}
		ni.PrivateIpAddresses = append(ni.PrivateIpAddresses, types.NetworkInterfacePrivateIpAddress{PrivateIpAddress: aws.String(a), Primary: aws.Bool(i == 0)})
	}
	return ni
}

func TestChoose(t *testing.T) {
	first := nic("eni-00000001", suspect, 0, "10.0.0.1", "10.0.0.11", "2001:db8::1")
	second := nic("eni-00000002", suspect, 1, "10.0.0.2")
	third := nic("eni-00000003", suspect, 2, "10.0.0.3", "10.0.0.33")
	moved := nic("eni-00000004", stranger, 0, "10.0.0.4")
	pods := nic("eni-00000006", suspect, 1, "10.0.0.6")
	pods.Ipv4Prefixes = []types.Ipv4PrefixSpecification{{Ipv4Prefix: aws.String("10.0.9.16/28")}}
	pods.Ipv6Prefixes = []types.Ipv6PrefixSpecification{{Ipv6Prefix: aws.String("2001:db8:9::/80")}}
	public := nic("eni-00000007", suspect, 1, "10.0.0.7")
	public.Association = &types.NetworkInterfaceAssociation{PublicIp: aws.String("203.0.113.7")}
	trunk := nic("eni-00000010", suspect, 1, "10.0.0.10")
	trunk.InterfaceType = types.NetworkInterfaceTypeTrunk
	branch := nic("eni-00000011", "", 0, "10.0.0.12")
	branch.InterfaceType, branch.RequesterManaged, branch.RequesterId = types.NetworkInterfaceTypeBranch, aws.Bool(true), aws.String("amazon-eks")
	detached := nic("eni-00000005", "", 0, "10.0.0.5")
	all := []types.NetworkInterface{third, second, first}

	for name, row := range map[string]struct {
		s     events.Suspect
		there []types.NetworkInterface
		limit int
		want  []string // none: the suspect is gone
		left  int
		why   string
		notes []string // parts of the notes, or of the refusal
	}{
		"the finding names it": {
			events.Suspect{InstanceID: suspect, NetworkInterfaceID: "eni-00000002", LocalAddresses: []string{"10.0.0.1"}}, all, 4,
			[]string{"eni-00000002"}, 0, "names it", nil},
		"named alone, without an instance": {
			events.Suspect{NetworkInterfaceID: "eni-00000004"}, []types.NetworkInterface{moved}, 4, []string{"eni-00000004"}, 0, "names it", nil},
		"named alone and attached to nothing": {
			events.Suspect{NetworkInterfaceID: "eni-00000005"}, []types.NetworkInterface{detached}, 4, []string{"eni-00000005"}, 0, "names it", nil},
		"the named one has moved, its address has not": {
			events.Suspect{InstanceID: suspect, NetworkInterfaceID: "eni-00000004", LocalAddresses: []string{"10.0.0.33"}}, append(slices.Clone(all), moved), 4,
			[]string{"eni-00000003"}, 0, "10.0.0.33", []string{"eni-00000004, which the finding names, is now attached to " + stranger}},
		"the named one has moved, and nothing else tells": {
			events.Suspect{InstanceID: suspect, NetworkInterfaceID: "eni-00000004"}, append(slices.Clone(all), moved), 4,
			[]string{"eni-00000001", "eni-00000002", "eni-00000003"}, 0, "names none", []string{"is now attached to " + stranger}},
		"the named one is no more": {
			events.Suspect{InstanceID: suspect, NetworkInterfaceID: "eni-00000009"}, all, 1,
			[]string{"eni-00000001"}, 2, "names none", []string{"eni-00000009, which the finding names, does not exist any more"}},
		"it holds the local address": {
			events.Suspect{InstanceID: suspect, LocalAddresses: []string{"10.0.0.2"}}, all, 4, []string{"eni-00000002"}, 0, "10.0.0.2", nil},
		"a secondary address": {
			events.Suspect{InstanceID: suspect, LocalAddresses: []string{"10.0.0.11"}}, all, 4, []string{"eni-00000001"}, 0, "10.0.0.11", nil},
		"an IPv6 address": {
			events.Suspect{InstanceID: suspect, LocalAddresses: []string{"2001:db8::1"}}, all, 4, []string{"eni-00000001"}, 0, "2001:db8::1", nil},
		"an IPv6 address spelt out": {
			events.Suspect{InstanceID: suspect, LocalAddresses: []string{"2001:0DB8:0:0:0:0:0:1"}}, all, 4, []string{"eni-00000001"}, 0, "2001:", nil},
		"the first address is nobody's, the second is": {
			events.Suspect{InstanceID: suspect, LocalAddresses: []string{"203.0.113.9", "10.0.0.3"}}, all, 4, []string{"eni-00000003"}, 0, "10.0.0.3", nil},
		"two interfaces are probed": {
			events.Suspect{InstanceID: suspect, LocalAddresses: []string{"10.0.0.3", "10.0.0.33", "10.0.0.1"}}, all, 4,
			[]string{"eni-00000001", "eni-00000003"}, 0, "10.0.0.3", nil},
		"two are probed, and one may be captured": {
			events.Suspect{InstanceID: suspect, LocalAddresses: []string{"10.0.0.3", "10.0.0.1"}}, all, 1, []string{"eni-00000001"}, 1, "10.0.0.3", nil},
		"the address is held by a stranger now": {
			events.Suspect{InstanceID: suspect, LocalAddresses: []string{"10.0.0.4"}}, append(slices.Clone(all), moved), 4,
			[]string{"eni-00000001", "eni-00000002", "eni-00000003"}, 0, "names none", []string{"10.0.0.4 now belongs to eni-00000004, which is attached to " + stranger}},
		"no hint at all: the primary first": {
			events.Suspect{InstanceID: suspect}, all, 4, []string{"eni-00000001", "eni-00000002", "eni-00000003"}, 0, "names none", nil},
		"more than the limit": {
			events.Suspect{InstanceID: suspect}, all, 2, []string{"eni-00000001", "eni-00000002"}, 1, "names none", nil},
		"no limit": {
			events.Suspect{InstanceID: suspect}, all, 0, []string{"eni-00000001", "eni-00000002", "eni-00000003"}, 0, "names none", nil},
		"the instance is gone": {
			events.Suspect{InstanceID: suspect}, nil, 4, nil, 0, suspect, []string{"terminated", "look for the instance"}},
		"the instance is gone, and another has its address": {
			events.Suspect{InstanceID: suspect, Addresses: []string{"10.0.0.8", "10.0.0.4"}}, []types.NetworkInterface{moved}, 4, nil, 0, suspect,
			[]string{"10.0.0.4 now belongs to eni-00000004, which is attached to " + stranger, "flashtap capture eni-00000004"}},
		"all its interfaces belong to another": {
			events.Suspect{InstanceID: suspect, NetworkInterfaceID: "eni-00000004"}, []types.NetworkInterface{moved}, 4, nil, 0, suspect, []string{"eni-00000004, which the finding names, is now attached to " + stranger}},
		"the interface is gone": {
			events.Suspect{NetworkInterfaceID: "eni-00000009"}, nil, 4, nil, 0, "eni-00000009", nil},
		"the interface is gone, and another has its address": {
			events.Suspect{NetworkInterfaceID: "eni-00000009", LocalAddresses: []string{"10.0.0.4"}}, []types.NetworkInterface{moved}, 4, nil, 0, "eni-00000009",
			[]string{"10.0.0.4 now belongs to eni-00000004"}},
		"a pod's address in a block of the node's": {
			events.Suspect{InstanceID: suspect, LocalAddresses: []string{"10.0.9.17"}}, []types.NetworkInterface{first, pods}, 4, []string{"eni-00000006"}, 0, "10.0.9.17", nil},
		"a pod's IPv6 address in a block of the node's": {
			events.Suspect{InstanceID: suspect, LocalAddresses: []string{"2001:db8:9::5"}}, []types.NetworkInterface{first, pods}, 4, []string{"eni-00000006"}, 0, "2001:db8:9::5", nil},
		"a public address": {
			events.Suspect{InstanceID: suspect, LocalAddresses: []string{"203.0.113.7"}}, []types.NetworkInterface{first, public}, 4, []string{"eni-00000007"}, 0, "203.0.113.7", nil},
		"a pod without an instance: the node's interface that holds its address": {
			events.Suspect{VPC: "vpc-1", LocalAddresses: []string{"10.0.0.11"}}, []types.NetworkInterface{first}, 4, []string{"eni-00000001"}, 0, "10.0.0.11", nil},
		"a pod without an instance that is gone": {
			events.Suspect{VPC: "vpc-1", LocalAddresses: []string{"10.0.0.99"}}, nil, 4, nil, 0, "no network interface of vpc-1 holds 10.0.0.99", nil},
		"a trunk beside ordinary interfaces": {
			events.Suspect{InstanceID: suspect}, []types.NetworkInterface{trunk, first}, 4, []string{"eni-00000001"}, 0, "names none", []string{"eni-00000010 is of type trunk"}},
		"nothing but a trunk: the plan says no": {
			events.Suspect{InstanceID: suspect}, []types.NetworkInterface{trunk}, 4, []string{"eni-00000010"}, 0, "names none", nil},
		"a branch that the finding names: the plan says no": {
			events.Suspect{InstanceID: suspect, NetworkInterfaceID: "eni-00000011"}, []types.NetworkInterface{first, branch}, 4, []string{"eni-00000011"}, 0, "names it", nil},
		"a branch holds the pod's address": {
			events.Suspect{InstanceID: suspect, LocalAddresses: []string{"10.0.0.12"}}, []types.NetworkInterface{first, branch}, 4, []string{"eni-00000001"}, 0, "names none",
			[]string{"10.0.0.12 now belongs to eni-00000011, which is managed by amazon-eks"}},
	} {
		there := slices.Clone(row.there)
		got, err := Choose(row.s, there, row.limit)
		var ids []string
		for _, ni := range got.Interfaces {
			ids = append(ids, aws.ToString(ni.NetworkInterfaceId))
		}
		if !slices.Equal(ids, row.want) || got.Left != row.left {
			t.Errorf("%s: chose %v and left %d, want %v and %d (%v)", name, ids, got.Left, row.want, row.left, err)
		}
		var refusal *events.Refusal
		switch {
		case len(row.want) > 0:
			if err != nil || !strings.Contains(got.Why, row.why) {
				t.Errorf("%s: because %q, %v; want %q", name, got.Why, err, row.why)
			}
		case !errors.As(err, &refusal) || refusal.Reason != events.SuspectGone || !strings.Contains(refusal.Detail, row.why) || refusal.Remedy == "":
			t.Errorf("%s: %v, want the suspect to be gone", name, err)
		}
		said := strings.Join(got.Notes, " ")
		if refusal != nil {
			said = refusal.Error()
		}
		for _, note := range row.notes {
			if !strings.Contains(said, note) {
				t.Errorf("%s: it says %q, want %q", name, said, note)
			}
		}
		for i := range there {
			if aws.ToString(there[i].NetworkInterfaceId) != aws.ToString(row.there[i].NetworkInterfaceId) {
				t.Fatalf("%s: the caller's list is changed", name)
			}
		}
	}
}

func TestShare(t *testing.T) {
	for name, row := range map[string]struct{ places, waiting, want int }{
		"alone":                        {4, 0, 4},
		"two":                          {4, 1, 2},
		"the last of two has the rest": {3, 0, 3},
		"more than there are places":   {4, 9, 1},
	} {
		if got := Share(row.places, row.waiting); got != row.want {
			t.Errorf("%s: %d, want %d", name, got, row.want)
		}
	}
}
