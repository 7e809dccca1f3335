package region

import (
	"cmp"
	"maps"
	"time"

	"flashtap/testutil/region/cloudwatch"
	"flashtap/testutil/region/dataplane"
	"flashtap/testutil/region/quotas"
)

// unlimitedVCPUs is what Service Quotas says of an EC2 whose vCPUs are not limited.
const unlimitedVCPUs = 1152

// knownQuotas are those that EC2 keeps here, as they are now.
func (r *Region) knownQuotas() []quotas.Quota {
	limits := r.EC2.Limits()
	const ec2, vpc = "Amazon Elastic Compute Cloud (Amazon EC2)", "Amazon Virtual Private Cloud (Amazon VPC)"
	return []quotas.Quota{
		{Service: "ec2", ServiceName: ec2, Code: quotas.StandardVCPUs, Name: "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances",
			Value: float64(cmp.Or(limits.VCPUs, unlimitedVCPUs)), Adjustable: true,
			Usage: &quotas.Usage{Metric: "ResourceCount", Dimensions: quotas.StandardUsage(), Statistic: "Maximum"}},
		{Service: "vpc", ServiceName: vpc, Code: "L-E79EC296", Name: "VPC security groups per Region", Value: float64(limits.SecurityGroupsInVPC), Adjustable: true},
		{Service: "vpc", ServiceName: vpc, Code: "L-0EA8095F", Name: "Inbound or outbound rules per security group", Value: float64(limits.RulesInGroup), Adjustable: true},
		{Service: "vpc", ServiceName: vpc, Code: "L-2AFB9258", Name: "Security groups per network interface", Value: float64(limits.GroupsOnInterface), Adjustable: true},
	}
}

// counters are the metrics of AWS/EC2 that the region knows, and what of a volume each sums up (EC2 User Guide, "List the
// available CloudWatch metrics for your instances"; VPC Traffic Mirroring guide, "Monitor mirrored traffic using Amazon
// CloudWatch").
var counters = map[string]func(dataplane.Volume) uint64{
	"NetworkIn":                   func(v dataplane.Volume) uint64 { return v.In.Bytes },
	"NetworkOut":                  func(v dataplane.Volume) uint64 { return v.Out.Bytes },
	"NetworkPacketsIn":            func(v dataplane.Volume) uint64 { return v.In.Packets },
	"NetworkPacketsOut":           func(v dataplane.Volume) uint64 { return v.Out.Packets },
	"NetworkMirrorIn":             func(v dataplane.Volume) uint64 { return v.MirroredIn.Bytes },
	"NetworkMirrorOut":            func(v dataplane.Volume) uint64 { return v.MirroredOut.Bytes },
	"NetworkPacketsMirrorIn":      func(v dataplane.Volume) uint64 { return v.MirroredIn.Packets },
	"NetworkPacketsMirrorOut":     func(v dataplane.Volume) uint64 { return v.MirroredOut.Packets },
	"NetworkSkipMirrorIn":         func(v dataplane.Volume) uint64 { return v.SkippedIn.Bytes },
	"NetworkSkipMirrorOut":        func(v dataplane.Volume) uint64 { return v.SkippedOut.Bytes },
	"NetworkPacketsSkipMirrorIn":  func(v dataplane.Volume) uint64 { return v.SkippedIn.Packets },
	"NetworkPacketsSkipMirrorOut": func(v dataplane.Volume) uint64 { return v.SkippedOut.Packets },
}

// knownSamples are the samples of a metric that the region knows by itself.
func (r *Region) knownSamples(s cloudwatch.Series, from, to time.Time, every time.Duration) []cloudwatch.Sample {
	var value func(at time.Time) float64
	switch {
	case s.Namespace == "AWS/EC2" && len(s.Dimensions) == 1 && counters[s.Name] != nil:
		i, there := r.EC2.Instance(s.Dimensions["InstanceId"])
		if !there || i.State != "running" {
			return nil // what does not run publishes nothing, and what it published before it stopped is not kept here
		}
		if from.Before(i.LaunchedAt) {
			from = i.LaunchedAt
		}
		sums := map[int64]float64{}
		for _, e := range i.Interfaces {
			for _, v := range r.traffic.volumes(e.ID) {
				sums[v.At.Truncate(every).UnixNano()] += float64(counters[s.Name](v))
			}
		}
		value = func(at time.Time) float64 { return sums[at.UnixNano()] }
	case s.Namespace == "AWS/Usage" && s.Name == "ResourceCount" && maps.Equal(s.Dimensions, quotas.StandardUsage()):
		now := float64(r.EC2.StandardVCPUs()) // how many there were before is not kept
		value = func(time.Time) float64 { return now }
	default:
		return nil
	}
	var list []cloudwatch.Sample
	for at := from.Add(every - 1).Truncate(every); at.Before(to); at = at.Add(every) {
		list = append(list, cloudwatch.Sample{At: at, Value: value(at)})
	}
	return list
}

// volumes are what an interface carried.
func (t *traffic) volumes(eni string) []dataplane.Volume {
	t.mu.Lock()
	plane := t.planes[eni]
	t.mu.Unlock()
	if plane == nil {
		return nil
	}
	return plane.Volumes()
}
