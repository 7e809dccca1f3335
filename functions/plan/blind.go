package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"

	"flashtap/events"
	"flashtap/functions/filter"
)

// blindSpots says what the capture can't show, what is of this capture alone first, one sentence each. Who reads the
// evidence must not take for absent what could not be seen.
func blindSpots(f Facts, p events.Plan) []string {
	var list []string
	add := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	for _, s := range p.Shadows {
		who := fmt.Sprintf("session %s of account %s, number %d,", s.Session, s.Owner, s.Number)
		if s.All {
			add("Anything at all: %s takes every packet that this capture wants.", who)
			continue
		}
		add("What %s takes first: %s.", who, strings.Join(s.Takes, "; "))
	}
	list = append(list, filtered(p.Mirror.Filter, len(f.Interface.Ipv6Addresses) > 0)...)
	if n := p.Mirror.PacketLength; n > 0 {
		add("Of each frame, what comes after its first %d bytes.", n)
	} else {
		add("The end of frames above %d bytes, which AWS cuts off.", events.MaxPacketLength)
	}
	if others := otherInterfaces(f); len(others) > 0 {
		add("The instance's traffic through %s: each interface needs a capture of its own.", strings.Join(others, ", "))
	}
	if slices.ContainsFunc(p.Verdicts, func(v events.Verdict) bool { return v.Check == "isolation" && v.Result == events.Warn }) {
		add("What the source's security groups and network ACL keep from it now that it is isolated: it is dropped before it could be mirrored.")
	} else {
		add("Inbound packets that a security group or network ACL drops, which happens before mirroring.")
	}
	add("What happened before the session existed, or after the capture's end.")
	add("Copies that AWS skips when the instance is at the limit of its bandwidth or packet rate: they go before the instance's own packets do (CloudWatch counts them as NetworkPacketsSkipMirrorIn and -Out).")
	add("ARP, DHCP, instance metadata, NTP and Windows activation, which AWS never mirrors.")
	add("What does not pass the interface: loopback, and containers of one instance among themselves.")
	return list
}

// filtered is what the filter leaves out.
func filtered(f events.Filter, sixNow bool) []string {
	var list []string
	four, six := true, true // all of a family is mirrored, but for the rejects
	sixAny := false
	for _, direction := range []string{events.Ingress, events.Egress} {
		four = four && acceptsAll(f, direction, "0.0.0.0/0")
		six = six && acceptsAll(f, direction, "::/0")
	}
	var rejects []string
	for _, r := range f.Rules {
		if r.Action == events.Reject {
			rejects = append(rejects, filter.Words(r))
		} else if strings.Contains(r.SourceCIDR, ":") {
			sixAny = true
		}
	}
	if !four || sixAny && !six {
		list = append(list, "Packets that no rule of the filter accepts.")
	}
	if len(rejects) > 0 {
		list = append(list, "What the filter rejects: "+strings.Join(rejects, "; ")+".")
	}
	if !sixAny {
		text := "IPv6, which no rule of the filter accepts"
		if !sixNow {
			text += "; the interface has no IPv6 address now"
		}
		list = append(list, text+".")
	}
	if !f.DNS {
		list = append(list, "DNS between the source and the VPC's own resolver, which the filter leaves out.")
	}
	return list
}

// acceptsAll says whether all of a family is accepted in a direction, but for what lower numbers reject.
func acceptsAll(f events.Filter, direction, any string) bool {
	return slices.ContainsFunc(f.Rules, func(r events.FilterRule) bool {
		return r.Direction == direction && r.Action == events.Accept && r.Protocol == 0 && r.SourceCIDR == any && r.DestinationCIDR == any
	})
}

// otherInterfaces are the ids of the instance's further interfaces, in the order of their devices as EC2 lists them.
func otherInterfaces(f Facts) []string {
	if f.Instance == nil {
		return nil
	}
	var others []string
	for _, ni := range f.Instance.NetworkInterfaces {
		if id := aws.ToString(ni.NetworkInterfaceId); id != aws.ToString(f.Interface.NetworkInterfaceId) {
			others = append(others, id)
		}
	}
	return others
}
