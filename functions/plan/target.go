// Package plan decides what a capture will be: which interface, whether it can be mirrored, and where the collector
// goes. It touches nothing; facts go in, a decision comes out.
package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"sort"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"flashtap/events"
)

// Targets are the interfaces that a suspect means, most telling first.
type Targets struct {
	Interfaces []types.NetworkInterface
	Why        string // how they were found, for the record
	Left       int    // further interfaces of the instance beyond the limit
}

// Choose picks a suspect's interfaces from those described now. A finding is a snapshot, so an interface that has
// moved to another instance since is not the suspect any more. In order: the interface that the finding's action
// names; those that hold the suspect's addresses; all interfaces of the instance, the primary first. The last two up to
// limit.
func Choose(s events.Suspect, described []types.NetworkInterface, limit int) (Targets, error) {
	ours := slices.DeleteFunc(slices.Clone(described), func(ni types.NetworkInterface) bool {
		return s.InstanceID != "" && attachedTo(ni) != s.InstanceID
	})
	sort.SliceStable(ours, func(i, j int) bool { return deviceIndex(ours[i]) < deviceIndex(ours[j]) })

	if i := slices.IndexFunc(ours, func(ni types.NetworkInterface) bool {
		return s.NetworkInterfaceID != "" && aws.ToString(ni.NetworkInterfaceId) == s.NetworkInterfaceID
	}); i >= 0 {
		return Targets{Interfaces: ours[i : i+1], Why: "the finding names it"}, nil
	}
	var why []string
	held := map[string]bool{}
	for _, address := range s.LocalAddresses {
		for _, ni := range ours {
			if holds(ni, address) {
				held[aws.ToString(ni.NetworkInterfaceId)] = true
				why = append(why, address)
			}
		}
	}
	if len(held) > 0 {
		holders := slices.DeleteFunc(ours, func(ni types.NetworkInterface) bool { return !held[aws.ToString(ni.NetworkInterfaceId)] })
		return upTo(limit, holders, "it holds a local address of the finding: "+strings.Join(why, ", ")), nil
	}
	if s.InstanceID == "" || len(ours) == 0 {
		what := s.InstanceID
		if what == "" {
			what = s.NetworkInterfaceID
		}
		return Targets{}, &events.Refusal{
			Reason: events.SuspectGone,
			Detail: fmt.Sprintf("suspect %s has no network interface in this account and Region any more", what),
			Remedy: "look for the instance that took over its address and start a capture by hand",
		}
	}
	return upTo(limit, ours, "interface of the suspect instance; the finding names none"), nil
}

func upTo(limit int, list []types.NetworkInterface, why string) Targets {
	if limit > 0 && len(list) > limit {
		return Targets{Interfaces: list[:limit], Why: why, Left: len(list) - limit}
	}
	return Targets{Interfaces: list, Why: why}
}

func attachedTo(ni types.NetworkInterface) string {
	if ni.Attachment == nil {
		return ""
	}
	return aws.ToString(ni.Attachment.InstanceId)
}

func deviceIndex(ni types.NetworkInterface) int32 {
	if ni.Attachment == nil {
		return 1 << 20
	}
	return aws.ToInt32(ni.Attachment.DeviceIndex)
}

// holds says whether an address is one of the interface's. IPv6 can be written in many ways, so addresses are compared
// and not their text.
func holds(ni types.NetworkInterface, address string) bool {
	wanted, err := netip.ParseAddr(address)
	if err != nil {
		return false
	}
	same := func(text *string) bool {
		a, err := netip.ParseAddr(aws.ToString(text))
		return err == nil && a == wanted
	}
	return same(ni.PrivateIpAddress) ||
		slices.ContainsFunc(ni.PrivateIpAddresses, func(a types.NetworkInterfacePrivateIpAddress) bool { return same(a.PrivateIpAddress) }) ||
		slices.ContainsFunc(ni.Ipv6Addresses, func(a types.NetworkInterfaceIpv6Address) bool { return same(a.Ipv6Address) })
}
