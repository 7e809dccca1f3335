package service

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
)

// Metric is one number that CloudWatch keeps, over periods of Period.
type Metric struct {
	ID         string // of the question, to find its answer: lower-case letters and digits
	Namespace  string
	Name       string
	Dimensions map[string]string
	Stat       string // Sum, Average, Maximum
	Period     time.Duration
}

// Point is a metric's value over the period that begins at At.
type Point struct {
	At    time.Time
	Value float64
}

// Metrics asks CloudWatch for several metrics at once, oldest points first. A metric that has none is left out.
func (c Client) Metrics(ctx context.Context, metrics []Metric, from, to time.Time) (map[string][]Point, error) {
	in := &cloudwatch.GetMetricDataInput{StartTime: &from, EndTime: &to, ScanBy: types.ScanByTimestampAscending}
	for _, m := range metrics {
		in.MetricDataQueries = append(in.MetricDataQueries, types.MetricDataQuery{Id: aws.String(m.ID), MetricStat: &types.MetricStat{
			Metric: &types.Metric{Namespace: aws.String(m.Namespace), MetricName: aws.String(m.Name), Dimensions: dimensions(m.Dimensions)},
			Period: aws.Int32(int32(m.Period / time.Second)), Stat: aws.String(m.Stat),
		}})
	}
	api := cloudwatch.NewFromConfig(c.Config, func(o *cloudwatch.Options) { o.Retryer = patiently(o.Retryer) })
	points := map[string][]Point{}
	pages := cloudwatch.NewGetMetricDataPaginator(api, in)
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("read metrics: %w", err)
		}
		for _, r := range page.MetricDataResults {
			id := aws.ToString(r.Id)
			if len(r.Timestamps) != len(r.Values) {
				return nil, fmt.Errorf("read metrics: %s has %d times and %d values", id, len(r.Timestamps), len(r.Values))
			}
			for i, at := range r.Timestamps {
				points[id] = append(points[id], Point{At: at.UTC(), Value: r.Values[i]})
			}
		}
	}
	return points, nil
}

func dimensions(by map[string]string) []types.Dimension {
	var list []types.Dimension
	for name, value := range by {
		list = append(list, types.Dimension{Name: aws.String(name), Value: aws.String(value)})
	}
	slices.SortFunc(list, func(a, b types.Dimension) int { return cmp.Compare(*a.Name, *b.Name) })
	return list
}
