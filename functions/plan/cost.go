package plan

import (
	_ "embed"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"

	"flashtap/events"
)

// hoursOfMonth is by how many hours AWS divides a price for a month (EBS pricing page: 730 hours).
const hoursOfMonth = 730

// cost says what an hour of the capture costs by the price table: the collector's first candidate, since another takes
// its place only when AWS has no capacity, its disk, the session, the requests to S3 and a temporary endpoint. It is nil
// when no collector is planned.
func cost(p events.Plan) *events.Cost {
	if len(p.Collector.Candidates) == 0 {
		return nil
	}
	t := pricesOf()
	c := &events.Cost{AsOf: t.asOf, Region: t.region}
	add := func(what string, price float64) {
		c.Items = append(c.Items, events.CostItem{What: what, PerHourUSD: toMicro(price)})
		c.PerHourUSD = toMicro(c.PerHourUSD + price)
	}
	kind := p.Collector.Candidates[0].InstanceType
	if price, known := t.usd["instance "+kind]; known {
		add("instance "+kind, price)
	} else {
		add(fmt.Sprintf("instance of unknown type %s: not in the table", kind), 0)
		c.AtLeast = true
	}
	add("mirror session", t.usd["session mirror"])
	size, speed := events.CollectorDisk(p.Limits.SpoolBytes)
	add(fmt.Sprintf("disk gp3, %d GiB at %d MiB/s", size, speed),
		(float64(size)*t.usd["disk gp3"]+float64(speed-events.LeastThroughput)*t.usd["disk gp3-throughput"])/hoursOfMonth)
	if requests := objectsPerHour(p.Limits); requests > 0 {
		add(fmt.Sprintf("requests to S3, %d or more", requests), float64(requests)/1000*t.usd["s3 put"])
	}
	c.Beside = append(c.Beside, fmt.Sprintf("kept evidence: %s a GB and month", dollars(t.usd["s3 standard"])))
	switch {
	case p.Collector.Endpoint != nil:
		add("temporary S3 endpoint", t.usd["endpoint interface"])
		c.Beside = append(c.Beside, fmt.Sprintf("data through the temporary S3 endpoint: %s a GB", dollars(t.usd["endpoint data"])))
	case strings.HasPrefix(p.Collector.S3Path, "nat-"):
		c.Beside = append(c.Beside, fmt.Sprintf("data through %s: %s a GB", p.Collector.S3Path, dollars(t.usd["nat data"])))
	case strings.HasPrefix(p.Collector.S3Path, "tgw-"):
		c.Beside = append(c.Beside, fmt.Sprintf("data through %s: not in the table", p.Collector.S3Path))
	}
	return c
}

// objectsPerHour are the objects that a collector puts into the bucket when its segments close by age; those that close
// by size come on top.
func objectsPerHour(l events.CaptureLimits) int {
	n := 0
	for _, seconds := range []int{l.SegmentSeconds, l.CheckpointSeconds} {
		if seconds > 0 {
			n += 3600 / seconds
		}
	}
	return n
}

// toMicro rounds to a millionth of a dollar: the table has no finer prices, and sums of floats do.
func toMicro(usd float64) float64 { return math.Round(usd*1e6) / 1e6 }

func dollars(usd float64) string { return strconv.FormatFloat(usd, 'f', -1, 64) + " USD" }

//go:embed data/prices.tsv
var pricesFile string

// prices is the price table: USD by "kind name".
type prices struct {
	asOf, region string
	usd          map[string]float64
}

// pricesOf reads the embedded table once. That it can be read is a test's matter, not a capture's: a broken table would
// be a broken build.
var pricesOf = sync.OnceValue(func() prices {
	t, err := parsePrices(pricesFile)
	if err != nil {
		panic(err)
	}
	return t
})

// parsePrices reads tab-separated lines of kind, name, unit and price. Comments begin with #; two of them carry the date
// and the Region.
func parsePrices(text string) (prices, error) {
	t := prices{usd: map[string]float64{}}
	for i, line := range strings.Split(text, "\n") {
		fields := strings.Split(line, "\t")
		switch {
		case line == "":
			continue
		case strings.HasPrefix(line, "# as of\t"):
			t.asOf = fields[1]
			continue
		case strings.HasPrefix(line, "# region\t"):
			t.region = fields[1]
			continue
		case strings.HasPrefix(line, "#"):
			continue
		case len(fields) != 4:
			return t, fmt.Errorf("price table line %d: %d fields, want kind, name, unit and price", i+1, len(fields))
		}
		price, err := strconv.ParseFloat(fields[3], 64)
		if err != nil || price <= 0 || math.IsInf(price, 0) {
			return t, fmt.Errorf("price table line %d: %q is no price", i+1, fields[3])
		}
		key := fields[0] + " " + fields[1]
		if _, twice := t.usd[key]; twice {
			return t, fmt.Errorf("price table line %d: %s is there twice", i+1, key)
		}
		t.usd[key] = price
	}
	if t.asOf == "" || t.region == "" {
		return t, errors.New("price table: its date or its Region is missing")
	}
	return t, nil
}
