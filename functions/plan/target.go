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
	Why        string   // how they were found, for the record
	Left       int      // further interfaces of the instance beyond the limit
	Notes      []string // what is not any more as the finding says, and what can't be mirrored; a sentence each
}

// Choose picks a suspect's interfaces from those described now: the instance's own, the one that the finding names and those that
// hold its addresses, whoever they belong to. A finding is a snapshot, so an interface or address that has moved to another
// instance since is not the suspect any more; where it went is said. In order: the interface that the finding's action names; those that
// hold the suspect's addresses, a pod's or task's among them; all interfaces of the instance, the primary first. The last two up to
// limit.
func Choose(s events.Suspect, described []types.NetworkInterface, limit int) (Targets, error) {
	var ours, others []types.NetworkInterface
	named := func(ni types.NetworkInterface) bool {
		return s.NetworkInterfaceID != "" && aws.ToString(ni.NetworkInterfaceId) == s.NetworkInterfaceID
	}
	for _, ni := range described {
		mine := attachedTo(ni) == s.InstanceID
		if s.InstanceID == "" {
			mine = named(ni) || s.NetworkInterfaceID == "" // found by its address alone
		}
		if mine {
			ours = append(ours, ni)
		} else {
			others = append(others, ni)
		}
	}
	sort.SliceStable(ours, func(i, j int) bool { return deviceIndex(ours[i]) < deviceIndex(ours[j]) })
	if i := slices.IndexFunc(ours, named); i >= 0 {
		return Targets{Interfaces: ours[i : i+1], Why: "the finding names it"}, nil
	}
	if i := slices.IndexFunc(others, named); i >= 0 && typeOf(others[i]) == "branch" { // a branch belongs to a trunk, and is attached to nothing itself
		return Targets{Interfaces: others[i : i+1], Why: "the finding names it"}, nil
	}
	notes := changes(s, others)
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
		return upTo(limit, holders, "it holds a local address of the finding: "+strings.Join(why, ", "), notes), nil
	}
	if s.InstanceID == "" || len(ours) == 0 {
		return Targets{}, gone(s, others, notes)
	}
	ordinary, left := mirrorable(ours)
	return upTo(limit, ordinary, "interface of the suspect instance; the finding names none", append(notes, left...)), nil
}

func upTo(limit int, list []types.NetworkInterface, why string, notes []string) Targets {
	t := Targets{Interfaces: list, Why: why, Notes: notes}
	if limit > 0 && len(list) > limit {
		t.Interfaces, t.Left = list[:limit], len(list)-limit
	}
	return t
}

// Settled says whether the interfaces described so far are as the finding says. If not, those that hold the suspect's addresses now
// tell what became of it.
func Settled(s events.Suspect, described []types.NetworkInterface) bool {
	t, err := Choose(s, described, 0)
	if err != nil {
		return false
	}
	if s.NetworkInterfaceID != "" {
		return aws.ToString(t.Interfaces[0].NetworkInterfaceId) == s.NetworkInterfaceID
	}
	return len(s.LocalAddresses) == 0 || slices.ContainsFunc(s.LocalAddresses, func(a string) bool { return holds(t.Interfaces[0], a) })
}

// Share is how many of the places that are left one suspect may take when others wait, so that a finding about several captures
// something of each.
func Share(places, waiting int) int { return max(1, places/(waiting+1)) }

// changes say what of the suspect's belongs to others now, and what exists no more.
func changes(s events.Suspect, others []types.NetworkInterface) []string {
	var notes []string
	if s.NetworkInterfaceID != "" {
		i := slices.IndexFunc(others, func(ni types.NetworkInterface) bool {
			return aws.ToString(ni.NetworkInterfaceId) == s.NetworkInterfaceID
		})
		if i >= 0 {
			notes = append(notes, fmt.Sprintf("%s, which the finding names, is now %s.", s.NetworkInterfaceID, owner(others[i])))
		} else {
			notes = append(notes, s.NetworkInterfaceID+", which the finding names, does not exist any more.")
		}
	}
	for _, address := range unique(append(slices.Clone(s.LocalAddresses), s.Addresses...)) {
		for _, ni := range others {
			if holds(ni, address) && aws.ToString(ni.NetworkInterfaceId) != s.NetworkInterfaceID {
				notes = append(notes, fmt.Sprintf("%s now belongs to %s, which is %s.", address, aws.ToString(ni.NetworkInterfaceId), owner(ni)))
			}
		}
	}
	return notes
}

// gone refuses a suspect that there is no more, and names who has taken its place.
func gone(s events.Suspect, others []types.NetworkInterface, notes []string) error {
	r := &events.Refusal{Reason: events.SuspectGone, Remedy: "look for the instance that took over its address or its work and start a capture of it by hand"}
	switch {
	case s.InstanceID != "":
		r.Detail = fmt.Sprintf("suspect %s has no network interface in this account and Region any more: it was terminated, has lost its interfaces, or never was here", s.InstanceID)
	case s.NetworkInterfaceID != "":
		r.Detail = fmt.Sprintf("suspect %s does not exist in this account and Region any more", s.NetworkInterfaceID)
		notes = slices.DeleteFunc(notes, func(n string) bool { return strings.HasPrefix(n, s.NetworkInterfaceID+",") })
	default:
		r.Detail = fmt.Sprintf("no network interface of %s holds %s any more", s.VPC, strings.Join(s.LocalAddresses, ", "))
	}
	if len(notes) > 0 {
		r.Detail += ". " + strings.TrimSuffix(strings.Join(notes, " "), ".")
	}
	for _, ni := range others {
		if attachedTo(ni) != "" {
			id := aws.ToString(ni.NetworkInterfaceId)
			r.Remedy = fmt.Sprintf("start a capture of %s by hand (flashtap capture %s) if that is what you look for", id, id)
			break
		}
	}
	return r
}

// owner says whose an interface is.
func owner(ni types.NetworkInterface) string {
	if id := attachedTo(ni); id != "" {
		return "attached to " + id
	}
	if aws.ToBool(ni.RequesterManaged) {
		return "managed by " + manager(ni)
	}
	return "attached to nothing"
}

// mirrorable leaves out what AWS never mirrors while there is something else: trunks, branches and EFAs beside a node's own
// interfaces. When there is nothing else all are kept, and the plan refuses them.
func mirrorable(list []types.NetworkInterface) (kept []types.NetworkInterface, left []string) {
	for _, ni := range list {
		if kind := typeOf(ni); kind == "" || kind == "interface" {
			kept = append(kept, ni)
		} else {
			left = append(left, fmt.Sprintf("%s is of type %s, which AWS does not mirror.", aws.ToString(ni.NetworkInterfaceId), ni.InterfaceType))
		}
	}
	if len(kept) == 0 {
		return list, nil
	}
	return kept, left
}

// typeOf is an interface's type. AWS spells some in two ways, so it is in lower case and without underscores.
func typeOf(ni types.NetworkInterface) string {
	return strings.ToLower(strings.ReplaceAll(string(ni.InterfaceType), "_", ""))
}

func unique(list []string) []string {
	var kept []string
	for _, s := range list {
		if !slices.Contains(kept, s) {
			kept = append(kept, s)
		}
	}
	return kept
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

// holds says whether an address is one of the interface's, or lies in a block that was given to it as a whole, as to the nodes of a
// cluster. IPv6 can be written in many ways, so addresses are compared and not their text.
func holds(ni types.NetworkInterface, address string) bool {
	wanted, err := netip.ParseAddr(address)
	if err != nil {
		return false
	}
	same := func(text *string) bool {
		a, err := netip.ParseAddr(aws.ToString(text))
		return err == nil && a == wanted
	}
	within := func(text *string) bool {
		p, err := netip.ParsePrefix(aws.ToString(text))
		return err == nil && p.Contains(wanted)
	}
	return same(ni.PrivateIpAddress) ||
		ni.Association != nil && same(ni.Association.PublicIp) ||
		slices.ContainsFunc(ni.PrivateIpAddresses, func(a types.NetworkInterfacePrivateIpAddress) bool {
			return same(a.PrivateIpAddress) || a.Association != nil && same(a.Association.PublicIp)
		}) ||
		slices.ContainsFunc(ni.Ipv6Addresses, func(a types.NetworkInterfaceIpv6Address) bool { return same(a.Ipv6Address) }) ||
		slices.ContainsFunc(ni.Ipv4Prefixes, func(p types.Ipv4PrefixSpecification) bool { return within(p.Ipv4Prefix) }) ||
		slices.ContainsFunc(ni.Ipv6Prefixes, func(p types.Ipv6PrefixSpecification) bool { return within(p.Ipv6Prefix) })
}
