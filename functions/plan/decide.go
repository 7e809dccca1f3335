package plan

import (
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"flashtap/events"
)

// Decide judges the facts and fixes everything about the capture. The plan says Go only when no verdict failed.
func Decide(f Facts) events.Plan {
	options := f.Settings.Options(f.Request.Options)
	// The clock of the capture itself starts with the session; the deadline also leaves time to get there.
	most := time.Duration(f.Settings.ReadySeconds+options.DurationSeconds) * time.Second
	p := events.Plan{
		Version: events.RecordVersion, Capture: f.Request.Capture, Deployment: f.Settings.Deployment,
		Account: f.Settings.Account, Region: f.Settings.Region, Tool: f.Tool, CreatedAt: f.Now.UTC(),
		Request: f.Request, Source: source(f), Start: f.Start.UTC(), Deadline: f.Now.UTC().Truncate(time.Second).Add(most),
		Tags: f.Settings.Tags,
		Limits: events.CaptureLimits{
			DurationSeconds: options.DurationSeconds, MaxBytes: options.MaxBytes, DrainSeconds: f.Settings.DrainSeconds, SegmentBytes: f.Settings.SegmentBytes,
			SegmentSeconds: f.Settings.SegmentSeconds, CheckpointSeconds: f.Settings.CheckpointSeconds,
			PollSeconds: f.Settings.CollectorPollSeconds, SpoolBytes: f.Settings.SpoolBytes,
		},
	}
	add := func(v ...events.Verdict) { p.Verdicts = append(p.Verdicts, v...) }
	add(events.Verdict{Check: "interface", Result: events.Pass, Reason: f.Why, Evidence: []string{p.Source.NetworkInterfaceID}})
	add(instanceState(f), requestVerdict(f.Request, options))
	if tag := f.Settings.OptOutTag; tag != "" {
		add(optedOut(f, tag))
	}
	add(interfaceType(f.Interface), instanceFamily(f.Interface, f.Instance), notATarget(f))

	number, v := sessionNumber(f, options.SessionNumber)
	add(v)
	compiled, v := packets(f, options)
	add(v)
	p.Profile = compiled.Profile
	p.Mirror = events.MirrorPlan{VNI: freeVNI(f), SessionNumber: number, PacketLength: compiled.PacketLength, Filter: compiled.Filter}
	p.Shadows, v = shadowing(f, number, compiled.Filter)
	add(v, targetLimits(f), mtu(p.Mirror.PacketLength))

	place := place(f, options.AllowTemporaryEndpoint)
	p.Collector = place.at
	if p.Collector.Endpoint != nil {
		p.Deadline = p.Deadline.Add(events.EndpointTime)
	}
	add(place.verdicts...)
	add(headroom(f), isolation(f))
	if arn := f.Settings.BucketKeyARN; arn != "" {
		add(keyUsable("bucket-key", "the evidence bucket", arn, f.BucketKey))
	}
	if arn := f.Settings.VolumeKeyARN; arn != "" {
		add(keyUsable("volume-key", "collectors' disks", arn, f.VolumeKey))
	}
	add(quotas(f, place.at.Candidates), permissions(f, place.at.Endpoint != nil))

	p.Go = len(p.Failed()) == 0
	p.BlindSpots = blindSpots(f, p)
	p.Cost = cost(p)
	return p
}

// requestVerdict checks what was asked for, and what it becomes with the deployment's defaults.
func requestVerdict(r events.Request, complete events.Options) events.Verdict {
	v := events.Verdict{Check: "request", Result: events.Pass, Reason: "its options are within AWS's and the deployment's bounds"}
	err := r.Validate()
	v.Remedy = "correct the request and send it again"
	if err == nil {
		err = complete.Validate()
		v.Remedy = "correct the defaults of the deployment"
	}
	if err == nil {
		v.Remedy = ""
		return v
	}
	v.Result, v.Reason = events.Fail, strings.ReplaceAll(err.Error(), "\n", "; ")
	return v
}

// freeVNI draws a VNI that no session of the account uses.
func freeVNI(f Facts) uint32 {
	used := map[uint32]bool{0: true}
	for _, s := range f.Sessions {
		used[uint32(aws.ToInt32(s.VirtualNetworkId))] = true
	}
	for {
		if vni := f.DrawVNI() & (1<<24 - 1); !used[vni] {
			return vni
		}
	}
}
