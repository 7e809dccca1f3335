package observe

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"flashtap/infra/config"
	"flashtap/infra/policy"
	"flashtap/testutil/region/logfilter"
)

func scope() policy.Scope {
	c := config.Default()
	c.Deployment = "test"
	s := c.Names()
	s.Partition, s.Region, s.Account = "aws", "eu-central-1", "111122223333"
	return s
}

// TestEveryFilterIsProven: a pattern that no line of its function matches would leave a metric, and the alarm on it,
// silent for ever. The tests of the functions take their own lines, and say what each filter makes of them.
func TestEveryFilterIsProven(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range Filters() {
		if _, err := logfilter.Compile(f.Pattern); err != nil {
			t.Error(err)
		}
		if len(f.Pattern) > 1024 { // CloudWatch Logs API Reference, PutMetricFilter
			t.Errorf("%s has %d characters", f.Pattern, len(f.Pattern))
		}
		if seen[f.Function+f.Metric] {
			t.Errorf("%s makes %s by two filters", f.Function, f.Metric)
		}
		seen[f.Function+f.Metric] = true
		if !slices.ContainsFunc(config.Functions, func(c config.Function) bool { return c.Name == f.Function }) {
			t.Errorf("there is no function %s", f.Function)
		}
		folders := []string{f.Function}
		if strings.Contains(f.Pattern, `"sealed"`) {
			folders = append(folders, "evidence") // which writes this line, whoever seals
		}
		if !proven(t, folders, f.Metric) {
			t.Errorf("no test of functions/%s proves that its lines become %s", strings.Join(folders, ", functions/"), f.Metric)
		}
	}
}

func proven(t *testing.T, folders []string, metric string) bool {
	t.Helper()
	for _, folder := range folders {
		files, err := filepath.Glob(filepath.Join("..", "..", "functions", folder, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(text), `"`+metric+`"`) {
				return true
			}
		}
	}
	return false
}

// fires evaluates an alarm as CloudWatch does, over the last periods; nil is a period without data.
func (a Alarm) fires(points ...*float64) bool {
	breaching := 0
	for _, p := range points[len(points)-a.Of:] {
		switch {
		case p == nil:
			if a.Missing == Failed {
				breaching++
			}
		case a.Below && *p < a.Threshold, !a.Below && *p >= a.Threshold:
			breaching++
		}
	}
	return breaching >= a.At
}

// TestAlarms: each alarm fires for what it is for, and for nothing else.
func TestAlarms(t *testing.T) {
	v := func(f float64) *float64 { return &f }
	series := func(points ...*float64) []*float64 { return points }
	once := [2][]*float64{series(v(1)), series(nil)}
	twice := [2][]*float64{series(v(1), nil, v(1)), series(v(1), nil, nil)}
	rows := map[string][2][]*float64{ // one that fires, one that does not
		"teardown-stuck":      once,
		"leak-refused":        {series(v(2)), series(nil)},
		"leak-orphans":        {series(v(3), nil, v(1), v(1), nil, v(1)), series(v(3), v(1), nil, nil, v(1), nil)}, // the sweep is no clock
		"leak-age":            {series(v(93600)), series(v(86400))},                                                // a capture of 24 hours
		"guard-fired":         once,
		"capture-timed-out":   {series(v(1)), series(v(0))},
		"schedules-failing":   {series(v(1), v(1), v(4)), series(v(1), nil, v(1))},
		"sweep-failing":       {series(v(1), v(0), v(1)), series(v(0), v(1), v(0))},
		"sweep-silent":        {series(nil, nil, nil), series(nil, v(1), nil)},
		"teardown-failing":    twice,
		"intake-failing":      twice,
		"intake-errors":       twice,
		"intake-late":         {series(v(900)), series(v(30))},
		"intake-dlq":          {series(v(1)), series(v(0))},
		"waiting-dlq":         {series(v(1)), series(v(0))},
		"no-packets":          once,
		"incomplete-evidence": once,
	}
	made := map[string]bool{}
	for _, f := range Filters() {
		made[f.Metric] = true
	}
	for _, a := range Alarms(scope()) {
		row, there := rows[a.Name]
		if !there {
			t.Errorf("%s: nobody says when it is to fire", a.Name)
			continue
		}
		delete(rows, a.Name)
		if len(row[0]) != a.Of || len(row[1]) != a.Of {
			t.Errorf("%s: it looks at %d periods", a.Name, a.Of)
			continue
		}
		if !a.fires(row[0]...) {
			t.Errorf("%s does not fire", a.Name)
		}
		if a.fires(row[1]...) {
			t.Errorf("%s fires without a reason", a.Name)
		}
		if a.Metric.Namespace == Namespace(scope()) && !made[a.Metric.Name] {
			t.Errorf("%s: no filter makes %s, so it never fires", a.Name, a.Metric.Name)
		}
		if a.At > a.Of || a.Of*a.Period > 86400 { // CloudWatch API Reference, PutMetricAlarm
			t.Errorf("%s: %d of %d periods of %d s", a.Name, a.At, a.Of, a.Period)
		}
		if len(a.Description) < 40 || len(a.Description) > 1024 || !strings.HasPrefix(AlarmName(scope(), a.Name), "flashtap-test-") {
			t.Errorf("%s: %q", a.Name, a.Description)
		}
	}
	for name := range rows {
		t.Errorf("there is no alarm %s", name)
	}
}

func TestDashboard(t *testing.T) {
	for _, price := range []float64{0, 0.25} {
		body, err := Dashboard(scope(), price)
		if err != nil {
			t.Fatal(err)
		}
		var d struct{ Widgets []widget }
		if err := json.Unmarshal([]byte(body), &d); err != nil {
			t.Fatal(err)
		}
		shown := map[string]bool{}
		for i, w := range d.Widgets {
			if w.X+w.Width > full || w.Width < 1 || w.Height < 1 {
				t.Errorf("widget %d lies outside: %+v", i, w)
			}
			for _, other := range d.Widgets[:i] {
				if w.X < other.X+other.Width && other.X < w.X+w.Width && w.Y < other.Y+other.Height && other.Y < w.Y+w.Height {
					t.Errorf("widget %d lies over another: %+v", i, w)
				}
			}
			list, _ := w.Properties["metrics"].([]any)
			for _, m := range list {
				if line := m.([]any); len(line) > 1 && line[0] == Namespace(scope()) {
					shown[line[1].(string)] = true
				}
			}
		}
		if strings.Contains(body, "billed / 3600 * 0.25") != (price > 0) {
			t.Errorf("at %v USD an hour: %s", price, body)
		}
		alarmed := map[string]bool{}
		for _, a := range Alarms(scope()) {
			alarmed[a.Metric.Name] = true
			if !strings.Contains(body, `"arn:aws:cloudwatch:eu-central-1:111122223333:alarm:flashtap-test-`+a.Name+`"`) {
				t.Errorf("alarm %s is not shown", a.Name)
			}
		}
		for _, f := range Filters() {
			if !shown[f.Metric] && !alarmed[f.Metric] {
				t.Errorf("nobody looks at %s", f.Metric)
			}
		}
		for _, queue := range policy.Queues() {
			if !strings.Contains(body, `"`+scope().QueueName(queue)+`"`) {
				t.Errorf("queue %s is not shown", queue)
			}
		}
	}
}

// TestTwoDeployments: figures of one must not be taken for another's.
func TestTwoDeployments(t *testing.T) {
	one, other := scope(), scope()
	other.Deployment, other.Prefix = "other", "flashtap-other"
	for i, a := range Alarms(one) {
		b := Alarms(other)[i]
		if AlarmName(one, a.Name) == AlarmName(other, b.Name) {
			t.Errorf("both have the alarm %s", a.Name)
		}
		if a.Metric.Namespace == b.Metric.Namespace && (len(a.Metric.Dimensions) == 0 || a.Metric.Dimensions[0] == b.Metric.Dimensions[0]) {
			t.Errorf("%s looks at the same metric in both", a.Name)
		}
	}
}

// TestLongest: nothing of a capture may be there for longer than its execution may run.
func TestLongest(t *testing.T) {
	text, err := os.ReadFile("../capture.asl.json")
	if err != nil {
		t.Fatal(err)
	}
	var machine struct{ TimeoutSeconds int }
	if err := json.Unmarshal(text, &machine); err != nil || machine.TimeoutSeconds != Longest {
		t.Errorf("the state machine may run %d s, %v; the alarm takes %d", machine.TimeoutSeconds, err, Longest)
	}
}
