// Package cloudwatch is Amazon CloudWatch on one machine, as far as metrics are read: those that the rest of the region
// knows, as late as AWS has them, and those that a test sets.
package cloudwatch

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// Series names a metric with its dimensions.
type Series struct {
	Namespace, Name string
	Dimensions      map[string]string
}

func (s Series) key() string {
	var b strings.Builder
	b.WriteString(s.Namespace + "\x00" + s.Name)
	for _, name := range slices.Sorted(maps.Keys(s.Dimensions)) {
		b.WriteString("\x00" + name + "\x00" + s.Dimensions[name])
	}
	return b.String()
}

// Sample is one value that a service published about the time from At on.
type Sample struct {
	At    time.Time
	Value float64
}

// Config says how the region's own metrics come.
type Config struct {
	// Every is the time between two samples: 5 minutes by default, as EC2's basic monitoring has it (EC2 User Guide,
	// "Manage detailed monitoring").
	Every time.Duration
	// Lag is how long after its time a sample can be read; default 5 minutes, negative for none.
	Lag time.Duration
	Now func() time.Time // default time.Now
	// Known are the samples of a metric that the region knows, each at a multiple of every, from a time to another.
	Known func(s Series, from, to time.Time, every time.Duration) []Sample
}

// The defaults of Config.
const (
	basicMonitoring = 5 * time.Minute
	usualLag        = 5 * time.Minute
)

// Service is one account's CloudWatch in one Region.
type Service struct {
	cfg Config

	mu     sync.Mutex
	steady map[string]float64
	put    map[string][]Sample
}

// New returns a CloudWatch that knows what cfg.Known knows.
func New(cfg Config) *Service {
	if cfg.Every <= 0 {
		cfg.Every = basicMonitoring
	}
	if cfg.Lag == 0 {
		cfg.Lag = usualLag
	}
	cfg.Lag = max(0, cfg.Lag)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Known == nil {
		cfg.Known = func(Series, time.Time, time.Time, time.Duration) []Sample { return nil }
	}
	return &Service{cfg: cfg, steady: map[string]float64{}, put: map[string][]Sample{}}
}

// Every is the time between two samples of the region's own metrics and of those that Set sets.
func (s *Service) Every() time.Duration { return s.cfg.Every }

// Set gives a metric the same value in every sample, in place of what the region knows: of AWS/EC2's NetworkOut, for
// instance, the bytes that an instance sends in Every.
func (s *Service) Set(series Series, value float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.steady[series.key()] = value
}

// Put publishes samples of a metric, which can be read at once; together they are in place of what the region knows.
// Without any the metric has no data.
func (s *Service) Put(series Series, samples ...Sample) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := series.key()
	delete(s.steady, key)
	s.put[key] = append(s.put[key], samples...)
}

// Reset gives a metric back to the region.
func (s *Service) Reset(series Series) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.steady, series.key())
	delete(s.put, series.key())
}

// samples are those of a series between two times.
func (s *Service) samples(series Series, from, to time.Time) []Sample {
	s.mu.Lock()
	value, steady := s.steady[series.key()]
	put, published := s.put[series.key()]
	put = slices.Clone(put)
	s.mu.Unlock()
	if published && !steady {
		put = slices.DeleteFunc(put, func(p Sample) bool { return p.At.Before(from) || !p.At.Before(to) })
		slices.SortStableFunc(put, func(a, b Sample) int { return a.At.Compare(b.At) })
		return put
	}
	if last := s.cfg.Now().Add(-s.cfg.Lag - s.cfg.Every); to.After(last) {
		to = last.Add(1) // a sample at last is whole by now, and old enough
	}
	if !steady {
		return s.cfg.Known(series, from, to, s.cfg.Every)
	}
	var list []Sample
	for at := from.Add(s.cfg.Every - 1).Truncate(s.cfg.Every); at.Before(to); at = at.Add(s.cfg.Every) {
		list = append(list, Sample{at, value})
	}
	return list
}

// maxQueries and mostSamples bound a call (CloudWatch API reference, GetMetricData).
const (
	maxQueries  = 500
	mostSamples = 100800
)

var queryID = regexp.MustCompile(`^[a-z][a-zA-Z0-9_]*$`)

// Handle answers a decoded call.
func (s *Service) Handle(operation string, params map[string]any) (map[string]any, error) {
	if operation != "GetMetricData" {
		return nil, &Error{"InvalidAction", operation + " is not served here"}
	}
	from, _ := params["StartTime"].(time.Time)
	to, _ := params["EndTime"].(time.Time)
	if !from.Before(to) {
		return nil, invalid("The parameter StartTime must be less than the parameter EndTime.")
	}
	if _, given := params["NextToken"]; given {
		return nil, &Error{"InvalidNextToken", "The token is not one of this operation."}
	}
	queries, _ := params["MetricDataQueries"].([]any)
	if len(queries) == 0 || len(queries) > maxQueries {
		return nil, invalid("The collection MetricDataQueries must have from 1 to %d elements.", maxQueries)
	}
	order, _ := params["ScanBy"].(string)
	results, seen, count := []any{}, map[string]bool{}, 0
	for _, each := range queries {
		query, _ := each.(map[string]any)
		id, _ := query["Id"].(string)
		if !queryID.MatchString(id) || seen[id] {
			return nil, invalid("The value for parameter MetricDataQueries.Id %q is not unique or does not begin with a lower-case letter.", id)
		}
		seen[id] = true
		result, err := s.query(query, from, to, order == "TimestampAscending")
		if err != nil {
			return nil, err
		}
		if wanted, given := query["ReturnData"].(bool); given && !wanted {
			continue
		}
		values, _ := result["Values"].([]any)
		if count += len(values); count > mostSamples {
			return nil, invalid("answers of several pages are not played here")
		}
		results = append(results, result)
	}
	return map[string]any{"MetricDataResults": results, "Messages": []any{}}, nil
}

func (s *Service) query(query map[string]any, from, to time.Time, ascending bool) (map[string]any, error) {
	stat, _ := query["MetricStat"].(map[string]any)
	if stat == nil || query["Expression"] != nil {
		return nil, invalid("the local region has metrics, but no metric math")
	}
	metric, _ := stat["Metric"].(map[string]any)
	series := Series{Dimensions: map[string]string{}}
	series.Namespace, _ = metric["Namespace"].(string)
	series.Name, _ = metric["MetricName"].(string)
	if series.Namespace == "" || series.Name == "" {
		return nil, invalid("The parameters MetricStat.Metric.Namespace and MetricName are required.")
	}
	list, _ := metric["Dimensions"].([]any)
	for _, each := range list {
		d, _ := each.(map[string]any)
		name, _ := d["Name"].(string)
		series.Dimensions[name], _ = d["Value"].(string)
	}
	seconds, _ := stat["Period"].(int64)
	if seconds%60 != 0 && !slices.Contains([]int64{1, 5, 10, 20, 30}, seconds) {
		return nil, invalid("The parameter Period must be 1, 5, 10, 20, 30 or a multiple of 60, and is %d.", seconds)
	}
	period := time.Duration(seconds) * time.Second
	statistic, _ := stat["Stat"].(string)
	bins := map[int64][]float64{}
	for _, sample := range s.samples(series, from.Truncate(time.Minute), to) {
		at := sample.At.Truncate(period).Unix()
		bins[at] = append(bins[at], sample.Value)
	}
	times := slices.Sorted(maps.Keys(bins))
	if !ascending {
		slices.Reverse(times)
	}
	timestamps, values := []any{}, []any{}
	for _, at := range times {
		value, err := apply(statistic, bins[at])
		if err != nil {
			return nil, err
		}
		timestamps, values = append(timestamps, time.Unix(at, 0).UTC()), append(values, value)
	}
	if _, err := apply(statistic, []float64{0}); err != nil { // also of a metric without data
		return nil, err
	}
	label, _ := query["Label"].(string)
	if label == "" {
		label = series.Name
	}
	return map[string]any{"Id": query["Id"], "Label": label, "Timestamps": timestamps, "Values": values, "StatusCode": "Complete"}, nil
}

func apply(statistic string, values []float64) (float64, error) {
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	switch statistic {
	case "Sum":
		return sum, nil
	case "Average":
		return sum / float64(len(values)), nil
	case "Minimum":
		return slices.Min(values), nil
	case "Maximum":
		return slices.Max(values), nil
	case "SampleCount":
		return float64(len(values)), nil
	}
	return 0, invalid("The statistic %s is not known here.", statistic)
}

// Error is a refusal as CloudWatch words it.
type Error struct{ code, message string }

func (e *Error) Error() string   { return e.code + ": " + e.message }
func (e *Error) Code() string    { return e.code }
func (e *Error) Message() string { return e.message }
func (e *Error) Status() int     { return 400 }

func invalid(format string, args ...any) *Error {
	return &Error{"InvalidParameterValueException", fmt.Sprintf(format, args...)}
}
