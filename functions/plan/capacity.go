package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"flashtap/events"
)

// configured are the deployment's instance types that have an image and a program, in its order of preference.
func configured(s events.Settings) []events.Candidate {
	var list []events.Candidate
	for _, t := range s.InstanceTypes {
		arch := events.Architecture(t)
		c := events.Candidate{InstanceType: t, Image: s.Images[arch], BinaryKey: s.BinaryKeys[arch], BinarySHA256: s.BinaryDigests[arch]}
		if c.Image != "" && c.BinaryKey != "" && c.BinarySHA256 != "" {
			list = append(list, c)
		}
	}
	return list
}

// candidates are the instance types for the collector, in the order in which they are tried: of those that the zone offers, the
// slowest that sustains what the source may send at its own baseline first, then faster ones; last those that sustain less, the
// fastest first. Mirrored copies are part of what the source sends, so its baseline bounds them (VPC Traffic Mirroring guide,
// "Limitations").
func candidates(f Facts) ([]events.Candidate, events.Verdict) {
	v := events.Verdict{Check: "collector", Result: events.Pass}
	list := configured(f.Settings)
	if len(list) == 0 {
		v.Result = events.Fail
		v.Reason = "no instance type of the deployment has both an image and a program for its architecture"
		v.Remedy = "deploy again: FLASHTAP_IMAGES, FLASHTAP_BINARY_KEYS and FLASHTAP_BINARY_DIGESTS must cover FLASHTAP_INSTANCE_TYPES"
		return nil, v
	}
	zone := aws.ToString(f.Interface.AvailabilityZone)
	var notes []string
	if f.Offered.Known {
		var missing []string
		list = slices.DeleteFunc(list, func(c events.Candidate) bool {
			gone := !slices.Contains(f.Offered.Value, c.InstanceType)
			if gone {
				missing = append(missing, c.InstanceType)
			}
			return gone
		})
		if len(list) == 0 {
			v.Result, v.Evidence = events.Fail, missing
			v.Reason = fmt.Sprintf("%s offers none of the deployment's instance types: %s", zone, strings.Join(missing, ", "))
			v.Remedy = "deploy with -c instanceTypes=... that has a type of the zone: aws ec2 describe-instance-type-offerings --location-type availability-zone --filters Name=location,Values=" + zone
			return nil, v
		}
		if len(missing) > 0 {
			notes = append(notes, zone+" does not offer "+strings.Join(missing, ", "))
		}
	} else {
		v.Result = events.Warn
		notes = append(notes, "what "+zone+" offers could not be checked: "+f.Offered.why())
	}

	need := sourceBaseline(f)
	speed := func(c events.Candidate) float64 { return baseline(f, c.InstanceType) }
	slices.SortStableFunc(list, func(a, b events.Candidate) int {
		sa, sb := speed(a), speed(b)
		switch enough, other := sa >= need, sb >= need; {
		case need == 0 || sa == 0 || sb == 0: // not known: as the deployment prefers
			return 0
		case enough && other:
			return cmp.Compare(sa, sb)
		case enough != other:
			if enough {
				return -1
			}
			return 1
		}
		return cmp.Compare(sb, sa)
	})
	first := list[0]
	v.Evidence = []string{first.InstanceType}
	switch {
	case need == 0 || speed(first) == 0:
		if !f.Types.Known {
			v.Result = events.Warn
			notes = append(notes, "bandwidths could not be checked: "+f.Types.why())
		}
		v.Reason = fmt.Sprintf("%s first, as the deployment prefers; what the source may send is not known", first.InstanceType)
	case speed(first) < need:
		v.Result = events.Warn
		v.Reason = fmt.Sprintf("the fastest of the deployment's types, %s, sustains %s, and the source may send %s", first.InstanceType, gbps(speed(first)), gbps(need))
		v.Remedy = "deploy with -c instanceTypes=... that has a faster type, or narrow the filter"
	default:
		v.Reason = fmt.Sprintf("%s sustains %s; the source may send %s", first.InstanceType, gbps(speed(first)), gbps(need))
	}
	v.Reason = strings.Join(append([]string{v.Reason}, notes...), "; ")
	return list, v
}

// baseline is what an instance type sustains through its default network card, in Gbps; 0 when it is not known.
func baseline(f Facts, kind string) float64 {
	t := typeInfo(f, kind)
	if t == nil || t.NetworkInfo == nil {
		return 0
	}
	for i, card := range t.NetworkInfo.NetworkCards {
		if i == 0 || card.NetworkCardIndex != nil && aws.ToInt32(card.NetworkCardIndex) == aws.ToInt32(t.NetworkInfo.DefaultNetworkCardIndex) {
			if b := aws.ToFloat64(card.BaselineBandwidthInGbps); b > 0 {
				return b
			}
		}
	}
	return 0
}

func sourceBaseline(f Facts) float64 {
	if f.Instance == nil {
		return 0
	}
	return baseline(f, string(f.Instance.InstanceType))
}

func typeInfo(f Facts, kind string) *types.InstanceTypeInfo {
	i := slices.IndexFunc(f.Types.Value, func(t types.InstanceTypeInfo) bool { return string(t.InstanceType) == kind })
	if i < 0 {
		return nil
	}
	return &f.Types.Value[i]
}

func gbps(n float64) string { return fmt.Sprintf("%.3g Gbps", n) }

// enough is the share of its baseline up to which a source has room for copies.
const enough = 0.8

// headroom compares what the source sends, with a copy of everything that it sends and receives, with what its type sustains. Under
// pressure AWS drops copies first (VPC Traffic Mirroring guide, "Limitations").
func headroom(f Facts) events.Verdict {
	v := events.Verdict{Check: "headroom", Result: events.Warn, Evidence: []string{aws.ToString(f.Interface.NetworkInterfaceId)}}
	if id := attachedTo(f.Interface); id != "" {
		v.Evidence = []string{id}
	}
	may := sourceBaseline(f)
	switch {
	case !f.Load.Known:
		v.Reason = "could not be checked: " + f.Load.why()
		return v
	case len(f.Load.Value.Periods) == 0:
		v.Reason = "CloudWatch has no NetworkIn and NetworkOut of the last hour, so whether copies fit beside the source's own traffic is not known"
		return v
	case may == 0 && !f.Types.Known:
		v.Reason = "could not be checked: what the instance type sustains: " + f.Types.why()
		return v
	case may == 0:
		v.Reason = "what the instance type sustains is not known"
		return v
	}
	var peak Period
	var most float64
	for _, p := range f.Load.Value.Periods {
		if p.Seconds <= 0 {
			continue
		}
		if rate := rateOf(p); rate >= most {
			peak, most = p, rate
		}
	}
	v.Reason = fmt.Sprintf("with copies it would have sent %s at most in the last hour (%s), and %s sustains %s",
		rate(most), peak.At.UTC().Format("15:04"), f.Instance.InstanceType, gbps(may))
	switch {
	case most > may:
		v.Reason += "; copies would be dropped first, without a trace in the capture"
	case most > enough*may:
		v.Reason += "; little room is left, and copies are dropped first"
	default:
		v.Result = events.Pass
		return v
	}
	v.Remedy = "ask for less: profile finding keeps what the finding is about, profile headers the beginning of each packet"
	return v
}

// rateOf is what a source sends in Gbps when everything is mirrored: its own packets, and a copy of each in both directions.
func rateOf(p Period) float64 { return (p.Out + p.In + p.Out) * 8 / float64(p.Seconds) / 1e9 }

func rate(g float64) string {
	if g < 1 {
		return fmt.Sprintf("%.3g Mbps", g*1000)
	}
	return gbps(g)
}

// mtu: a copy is longer than its packet by the outer headers, and a target's interface takes 9001 bytes, so AWS cuts what is above
// (VPC Traffic Mirroring guide, "Traffic mirror targets"). Copies leave by IPv4, since a source without it is refused. Within a VPC
// every path carries 9001 bytes (EC2 User Guide, "Network maximum transmission unit").
func mtu(packetLength int32) events.Verdict {
	v := events.Verdict{Check: "mtu", Result: events.Pass}
	switch {
	case packetLength > events.MaxPacketLength:
		v.Result = events.Warn
		v.Reason = fmt.Sprintf("copies are cut after %d bytes of a frame, not after the %d that were asked for", events.MaxPacketLength, packetLength)
		v.Remedy = fmt.Sprintf("ask for a packet length of %d, or for none", events.MaxPacketLength)
	case packetLength > 0:
		v.Reason = fmt.Sprintf("the first %d bytes of each frame are asked for, and arrive", packetLength)
	default:
		v.Reason = fmt.Sprintf("frames of up to %d bytes arrive whole; AWS cuts longer ones there", events.MaxPacketLength)
	}
	return v
}
