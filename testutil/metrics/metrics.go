// Package metrics tells a test which of a deployment's metrics the log lines of a function become.
package metrics

import (
	"bytes"
	"io"
	"log/slog"
	"slices"
	"sync"
	"testing"

	"flashtap/infra/observe"
	"flashtap/testutil/region/logfilter"
)

// Recording is what a function has logged since Record.
type Recording struct {
	t        testing.TB
	function string
	mu       sync.Mutex
	log      bytes.Buffer
}

// Record gives the test the function's own logger, and keeps its lines until the test ends.
func Record(t testing.TB, function string, logger func(io.Writer, string) *slog.Logger) *Recording {
	r := &Recording{t: t, function: function}
	former := slog.Default()
	slog.SetDefault(logger(r, function))
	t.Cleanup(func() { slog.SetDefault(former) })
	return r
}

// Write takes what the logger writes.
func (r *Recording) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.Write(p)
}

// Values are what the filters of the function have added to a metric, in the order of the lines.
func (r *Recording) Values(metric string) []float64 {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	var values []float64
	known := false
	for line := range bytes.Lines(r.log.Bytes()) {
		for _, f := range observe.Filters() {
			if f.Function != r.function || f.Metric != metric {
				continue
			}
			known = true
			p, err := logfilter.Compile(f.Pattern)
			if err != nil {
				r.t.Fatal(err)
			}
			if !p.Match(line) {
				continue
			}
			value, ok := logfilter.Value(f.Value, line)
			if !ok {
				r.t.Errorf("%s has no number %s for metric %s: %s", f.Function, f.Value, metric, line)
			}
			values = append(values, value)
		}
	}
	if !known && r.log.Len() > 0 {
		r.t.Errorf("no filter makes metric %s of what %s logs", metric, r.function)
	}
	return values
}

// Want fails the test unless the filters have added exactly these values to the metric.
func (r *Recording) Want(metric string, values ...float64) {
	r.t.Helper()
	if got := r.Values(metric); !slices.Equal(got, values) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.t.Errorf("metric %s: %v, want %v; logged was\n%s", metric, got, values, r.log.Bytes())
	}
}
