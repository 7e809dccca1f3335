package plan

import (
	"math"
	"strings"
	"testing"
	"time"

	"flashtap/events"
)

// TestPrices: every price that cost asks for is in the table, in the unit that it is taken for, and so is every type that a
// deployment prefers by default.
func TestPrices(t *testing.T) {
	table, err := parsePrices(pricesFile)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := time.Parse(time.DateOnly, table.asOf); err != nil {
		t.Errorf("date of the price table: %v", err)
	}
	units := map[string]string{}
	for line := range strings.Lines(pricesFile) {
		if f := strings.Split(strings.TrimSpace(line), "\t"); len(f) == 4 {
			units[f[0]+" "+f[1]] = f[2]
		}
	}
	for key, unit := range map[string]string{
		"session mirror": "hour", "endpoint interface": "hour", "endpoint data": "GB", "nat data": "GB", "disk gp3": "GB-month",
		"disk gp3-throughput": "MiBps-month", "s3 put": "1000 requests", "s3 standard": "GB-month",
	} {
		if units[key] != unit || table.usd[key] <= 0 {
			t.Errorf("%s: %v per %q, want a price per %s", key, table.usd[key], units[key], unit)
		}
	}
	for _, kind := range events.DefaultSettings().InstanceTypes {
		if table.usd["instance "+kind] <= 0 || units["instance "+kind] != "hour" {
			t.Errorf("no price of %s by the hour", kind)
		}
	}
	for name, text := range map[string]string{
		"three fields": "a\tb\tc\n", "a word for a price": "a\tb\thour\tcheap\n", "nothing": "a\tb\thour\t0\n", "twice": "a\tb\thour\t1\na\tb\thour\t2\n", "no date": "a\tb\thour\t1\n",
	} {
		if _, err := parsePrices(text); err == nil {
			t.Errorf("a table with %s is read", name)
		}
	}
}

func TestCost(t *testing.T) {
	p := events.Plan{Collector: events.PlacedAt{S3Path: "vpce-1", Candidates: []events.Candidate{{InstanceType: "c7gn.large"}, {InstanceType: "c7i.large"}}},
		Limits: events.CaptureLimits{SpoolBytes: 20 << 30, SegmentSeconds: 60, CheckpointSeconds: 15}}
	c := cost(p)
	// By hand: 0.1248 + 0.015 + (32 * 0.08 + 125 * 0.04) / 730 + 300 * 0.005 / 1000.
	if want := 0.1248 + 0.015 + 7.56/730 + 0.0015; math.Abs(c.PerHourUSD-want) > 1e-6 || c.AtLeast {
		t.Errorf("an hour costs %v (at least: %t), want %v", c.PerHourUSD, c.AtLeast, want)
	}
	if c.AsOf == "" || c.Region != "us-east-1" || len(c.Items) != 4 || c.Items[0].What != "instance c7gn.large" || len(c.Beside) != 1 {
		t.Errorf("%+v", c)
	}
	sum := 0.0
	for _, item := range c.Items {
		sum += item.PerHourUSD
	}
	if math.Abs(sum-c.PerHourUSD) > 5e-6 {
		t.Errorf("the items add up to %v, not to %v", sum, c.PerHourUSD)
	}

	p.Collector.Endpoint = &events.EndpointPlan{}
	if with := cost(p); math.Abs(with.PerHourUSD-c.PerHourUSD-0.01) > 1e-6 || len(with.Beside) != 2 {
		t.Errorf("with an endpoint: %+v", with)
	}
	p.Collector.Endpoint, p.Collector.S3Path = nil, "nat-0a"
	if by := cost(p); by.PerHourUSD != c.PerHourUSD || len(by.Beside) != 2 || !strings.Contains(by.Beside[1], "0.045 USD a GB") {
		t.Errorf("by a NAT gateway: %+v", by)
	}
	p.Collector.Candidates = p.Collector.Candidates[:1]
	p.Collector.Candidates[0].InstanceType = "x9z.large"
	if unknown := cost(p); !unknown.AtLeast || !strings.Contains(unknown.Items[0].What, "x9z.large") || unknown.Items[0].PerHourUSD != 0 || unknown.PerHourUSD < 0.02 {
		t.Errorf("with an unknown type: %+v", unknown)
	}
	if p.Collector.Candidates = nil; cost(p) != nil {
		t.Error("a plan without a collector has a cost")
	}
}
