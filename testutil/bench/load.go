//go:build linux

package main

import (
	"fmt"
	"strings"

	"flashtap/testutil/bench/traffic"
)

// load is traffic with a name, and how much of it a run takes.
type load struct {
	Name  string
	Plan  traffic.Plan
	Count uint64 // in a run at saturation
}

// sizes are the loads of the goals, in their order, with as many packets as take a second or so.
var sizes = []struct {
	name  string
	count uint64
}{{"64", 500_000}, {"300", 500_000}, {"imix", 500_000}, {"1400", 400_000}, {"8900", 100_000}}

// streams is what GRO would merge: 16 segments of a TCP stream in a row.
const streams = "1400 tcp"

// newLoad makes the load of a size (imix, a number, or a list) with the plan's other properties.
func newLoad(size string, plan traffic.Plan) (load, error) {
	var err error
	if plan.Sizes, err = traffic.ParseSizes(size); err != nil {
		return load{}, err
	}
	l := load{Name: size, Plan: plan, Count: 400_000}
	for _, s := range sizes {
		if s.name == size {
			l.Count = s.count
		}
	}
	if plan.TCP {
		l.Name += " tcp"
	}
	if plan.VNIs > 1 {
		l.Name += fmt.Sprintf(" %d vnis", plan.VNIs)
	}
	if plan.Outer.Source.Is6() {
		l.Name += " ipv6"
	}
	if plan.Outer.VLAN > 0 {
		l.Name += " tagged"
	}
	if plan.Outer.Options {
		l.Name += " options"
	}
	return l, l.Plan.Validate()
}

// sizeLoads are loads that differ in size alone.
func sizeLoads(list string) (loads []load, err error) {
	for size := range strings.FieldsSeq(list) {
		l, err := newLoad(size, traffic.DefaultPlan())
		if err != nil {
			return nil, err
		}
		loads = append(loads, l)
	}
	return loads, nil
}

// streamLoad is the load of that name.
func streamLoad() load {
	plan := traffic.DefaultPlan()
	plan.Sizes, plan.TCP, plan.Burst, plan.Flows = []int{1400}, true, 16, 8
	return load{Name: streams, Plan: plan, Count: 100_000}
}
