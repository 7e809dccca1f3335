package evidence

import (
	"context"
	"math"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"flashtap/events"
	"flashtap/functions/internal/service"
)

// period is that of basic monitoring, and the only one that packets are counted by (VPC Traffic Mirroring guide, "CloudWatch
// metrics").
const period = 5 * time.Minute

// counted are the metrics of a source, and what of SourceMetrics each adds to.
var counted = []struct {
	name string
	adds func(*events.SourceMetrics) *uint64
}{
	{"NetworkPacketsMirrorIn", mirroredPackets}, {"NetworkPacketsMirrorOut", mirroredPackets},
	{"NetworkPacketsSkipMirrorIn", skippedPackets}, {"NetworkPacketsSkipMirrorOut", skippedPackets},
	{"NetworkMirrorIn", mirroredBytes}, {"NetworkMirrorOut", mirroredBytes},
	{"NetworkSkipMirrorIn", skippedBytes}, {"NetworkSkipMirrorOut", skippedBytes},
}

func mirroredPackets(m *events.SourceMetrics) *uint64 { return &m.Mirrored }
func skippedPackets(m *events.SourceMetrics) *uint64  { return &m.Skipped }
func mirroredBytes(m *events.SourceMetrics) *uint64   { return &m.MirroredBytes }
func skippedBytes(m *events.SourceMetrics) *uint64    { return &m.SkippedBytes }

// cloudWatch counts what sources mirror.
type cloudWatch struct{ service.Client }

// NewCloudWatch are the counts of this account and Region.
func NewCloudWatch(cfg aws.Config) Metrics { return cloudWatch{service.Client{Config: cfg}} }

// Mirrored implements Metrics. The window is widened to whole periods. A number may still come as long as a metric has none, or
// none for the last period.
func (w cloudWatch) Mirrored(ctx context.Context, instance string, from, to time.Time) (events.SourceMetrics, bool, error) {
	m := events.SourceMetrics{From: from.UTC().Truncate(period), To: to.UTC().Add(period - 1).Truncate(period), PeriodSeconds: int(period / time.Second)}
	points := map[string][]service.Point{}
	if instance != "" { // what has none, such as a database's interface, has no such metrics
		var ask []service.Metric
		for _, c := range counted {
			ask = append(ask, service.Metric{ID: id(c.name), Namespace: "AWS/EC2", Name: c.name, Dimensions: map[string]string{"InstanceId": instance}, Stat: "Sum", Period: period})
		}
		var err error
		if points, err = w.Metrics(ctx, ask, m.From, m.To); err != nil {
			return m, false, err
		}
	}
	var last time.Time
	for _, c := range counted {
		list := points[id(c.name)]
		if len(list) == 0 {
			m.Missing = append(m.Missing, c.name)
		}
		for _, p := range list {
			*c.adds(&m) += uint64(math.Round(p.Value))
			if p.At.After(last) {
				last = p.At
			}
		}
	}
	late := instance != "" && (len(m.Missing) > 0 || last.Before(m.To.Add(-period)))
	return m, late, nil
}

// id is how a question names its metric: it begins with a lower-case letter (CloudWatch API Reference, MetricDataQuery).
func id(metric string) string { return "n" + metric[1:] }
