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
	detached := nic("eni-00000005", "", 0, "10.0.0.5")
	all := []types.NetworkInterface{third, second, first}

	for name, row := range map[string]struct {
		s     events.Suspect
		there []types.NetworkInterface
		limit int
		want  []string // none: the suspect is gone
		left  int
		why   string
	}{
		"the finding names it": {
			events.Suspect{InstanceID: suspect, NetworkInterfaceID: "eni-00000002", LocalAddresses: []string{"10.0.0.1"}}, all, 4,
			[]string{"eni-00000002"}, 0, "names it"},
		"named alone, without an instance": {
			events.Suspect{NetworkInterfaceID: "eni-00000004"}, []types.NetworkInterface{moved}, 4, []string{"eni-00000004"}, 0, "names it"},
		"named alone and attached to nothing": {
			events.Suspect{NetworkInterfaceID: "eni-00000005"}, []types.NetworkInterface{detached}, 4, []string{"eni-00000005"}, 0, "names it"},
		"the named one has moved, its address has not": {
			events.Suspect{InstanceID: suspect, NetworkInterfaceID: "eni-00000004", LocalAddresses: []string{"10.0.0.33"}}, append(slices.Clone(all), moved), 4,
			[]string{"eni-00000003"}, 0, "10.0.0.33"},
		"the named one has moved, and nothing else tells": {
			events.Suspect{InstanceID: suspect, NetworkInterfaceID: "eni-00000004"}, append(slices.Clone(all), moved), 4,
			[]string{"eni-00000001", "eni-00000002", "eni-00000003"}, 0, "names none"},
		"it holds the local address": {
			events.Suspect{InstanceID: suspect, LocalAddresses: []string{"10.0.0.2"}}, all, 4, []string{"eni-00000002"}, 0, "10.0.0.2"},
		"a secondary address": {
			events.Suspect{InstanceID: suspect, LocalAddresses: []string{"10.0.0.11"}}, all, 4, []string{"eni-00000001"}, 0, "10.0.0.11"},
		"an IPv6 address": {
			events.Suspect{InstanceID: suspect, LocalAddresses: []string{"2001:db8::1"}}, all, 4, []string{"eni-00000001"}, 0, "2001:db8::1"},
		"an IPv6 address spelt out": {
			events.Suspect{InstanceID: suspect, LocalAddresses: []string{"2001:0DB8:0:0:0:0:0:1"}}, all, 4, []string{"eni-00000001"}, 0, "2001:"},
		"the first address is nobody's, the second is": {
			events.Suspect{InstanceID: suspect, LocalAddresses: []string{"203.0.113.9", "10.0.0.3"}}, all, 4, []string{"eni-00000003"}, 0, "10.0.0.3"},
		"two interfaces are probed": {
			events.Suspect{InstanceID: suspect, LocalAddresses: []string{"10.0.0.3", "10.0.0.33", "10.0.0.1"}}, all, 4,
			[]string{"eni-00000001", "eni-00000003"}, 0, "10.0.0.3"},
		"two are probed, and one may be captured": {
			events.Suspect{InstanceID: suspect, LocalAddresses: []string{"10.0.0.3", "10.0.0.1"}}, all, 1, []string{"eni-00000001"}, 1, "10.0.0.3"},
		"the address is held by a stranger now": {
			events.Suspect{InstanceID: suspect, LocalAddresses: []string{"10.0.0.4"}}, append(slices.Clone(all), moved), 4,
			[]string{"eni-00000001", "eni-00000002", "eni-00000003"}, 0, "names none"},
		"no hint at all: the primary first": {
			events.Suspect{InstanceID: suspect}, all, 4, []string{"eni-00000001", "eni-00000002", "eni-00000003"}, 0, "names none"},
		"more than the limit": {
			events.Suspect{InstanceID: suspect}, all, 2, []string{"eni-00000001", "eni-00000002"}, 1, "names none"},
		"no limit": {
			events.Suspect{InstanceID: suspect}, all, 0, []string{"eni-00000001", "eni-00000002", "eni-00000003"}, 0, "names none"},
		"the instance is gone": {
			events.Suspect{InstanceID: suspect}, nil, 4, nil, 0, suspect},
		"all its interfaces belong to another": {
			events.Suspect{InstanceID: suspect, NetworkInterfaceID: "eni-00000004"}, []types.NetworkInterface{moved}, 4, nil, 0, suspect},
		"the interface is gone": {
			events.Suspect{NetworkInterfaceID: "eni-00000009"}, nil, 4, nil, 0, "eni-00000009"},
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
		for i := range there {
			if aws.ToString(there[i].NetworkInterfaceId) != aws.ToString(row.there[i].NetworkInterfaceId) {
				t.Fatalf("%s: the caller's list is changed", name)
			}
		}
	}
}
