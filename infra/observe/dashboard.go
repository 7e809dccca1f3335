package observe

import (
	"bytes"
	"encoding/json"
	"fmt"

	"flashtap/infra/config"
	"flashtap/infra/policy"
)

// widget is one part of a dashboard (CloudWatch API Reference, "Dashboard body structure and syntax").
type widget struct {
	Type       string         `json:"type"`
	X          int            `json:"x"`
	Y          int            `json:"y"`
	Width      int            `json:"width"`
	Height     int            `json:"height"`
	Properties map[string]any `json:"properties"`
}

// full is the width of a dashboard.
const full = 24

// Dashboard is the body of the deployment's dashboard. HourUSD is what an hour of a capture costs, instance and session
// together; with 0 it shows the hours and no money, since prices differ by Region and change.
func Dashboard(s policy.Scope, hourUSD float64) (string, error) {
	d := dashboard{scope: s}
	d.row(3, d.text(fmt.Sprintf("# Flashtap, deployment %s\nOne capture is one execution of the state machine `%s`. Its evidence lies under `captures/` in the evidence bucket. "+
		"Nothing is drawn where nothing happened.", s.Deployment, s.StateMachineName())))
	d.row(5, d.alarms())
	d.row(4, d.figures("Captures", "Sum", own(s, CapturesStarted), own(s, CapturesSealed), own(s, CapturesRefused), own(s, CapturesJoined), own(s, CapturesDeferred), own(s, EventsTakenLate)),
		d.figures("Verdicts", "Sum", own(s, VerdictComplete), own(s, VerdictTruncated), own(s, VerdictIncomplete), own(s, VerdictNothing)))
	d.row(6, d.lines("Packets in sealed evidence", "Sum", own(s, Packets)), d.lines("Bytes in sealed evidence", "Sum", own(s, Bytes)),
		d.lines("Packets known to be missing", "Sum", own(s, PacketsLost)))
	d.row(6, d.lines("Longest capture, from first packet to last (s)", "Maximum", own(s, CaptureSeconds)), d.cost(hourUSD),
		d.lines("Age of the oldest resource (s)", "Maximum", own(s, OldestSeconds)))
	d.row(6, d.lines("What removing left", "Maximum", own(s, SweepRemaining), own(s, SweepRefused), own(s, TeardownStuck), own(s, GuardFired)),
		d.lines("Queues", "Maximum", queue(s, policy.IntakeQueue, "ApproximateNumberOfMessagesVisible"), queue(s, policy.IntakeDeadLetter, "ApproximateNumberOfMessagesVisible"),
			queue(s, policy.WaitingQueue, "ApproximateNumberOfMessagesVisible"), queue(s, policy.WaitingDeadLetter, "ApproximateNumberOfMessagesVisible")),
		d.lines("Executions", "Sum", executions(s, "ExecutionsStarted"), executions(s, "ExecutionsSucceeded"), executions(s, "ExecutionsFailed"),
			executions(s, "ExecutionsAborted"), executions(s, "ExecutionsTimedOut")))
	var errors, durations []Metric
	for _, f := range config.Functions {
		errors, durations = append(errors, lambda(s, f.Name, "Errors")), append(durations, lambda(s, f.Name, "Duration"))
	}
	d.row(6, d.lines("Errors of functions", "Sum", errors...), d.lines("Longest run of functions (ms)", "Maximum", durations...))
	d.row(6, d.logs("Why findings were refused", `filter msg = "refused" | fields @timestamp, reason, type, detail, remedy | sort @timestamp desc | limit 20`, "intake"),
		d.logs("What was not removed, and what failed", `filter msg in ["refused to remove", "step failed"] | fields @timestamp, step, capture, kind, id, why, err | sort @timestamp desc | limit 20`,
			"teardown", "sweep", "seal"))
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false) // tokens of CDK must stay as they are
	if err := encoder.Encode(map[string]any{"widgets": d.widgets}); err != nil {
		return "", fmt.Errorf("dashboard: %w", err)
	}
	return body.String(), nil
}

// dashboard is filled from top to bottom.
type dashboard struct {
	scope   policy.Scope
	y       int
	widgets []widget
}

// row adds widgets side by side.
func (d *dashboard) row(height int, widgets ...widget) {
	width := full / len(widgets)
	for i, w := range widgets {
		w.X, w.Y, w.Width, w.Height = i*width, d.y, width, height
		d.widgets = append(d.widgets, w)
	}
	d.y += height
}

func (d *dashboard) text(markdown string) widget {
	return widget{Type: "text", Properties: map[string]any{"markdown": markdown}}
}

func (d *dashboard) alarms() widget {
	var arns []string
	for _, a := range Alarms(d.scope) {
		arns = append(arns, AlarmARN(d.scope, a.Name))
	}
	return widget{Type: "alarm", Properties: map[string]any{"title": "Alarms", "alarms": arns}}
}

// AlarmARN is the ARN of an alarm.
func AlarmARN(s policy.Scope, name string) string {
	return fmt.Sprintf("arn:%s:cloudwatch:%s:%s:alarm:%s", s.Partition, s.Region, s.Account, AlarmName(s, name))
}

// AlarmName is the whole name of an alarm; the topic's policy takes only those with the deployment's prefix.
func AlarmName(s policy.Scope, name string) string { return s.Prefix + "-" + name }

// entry is a metric as a dashboard lists it, labelled by what tells it from the others of its widget.
func entry(m Metric) []any {
	e := []any{m.Namespace, m.Name}
	label := m.Name
	for _, dimension := range m.Dimensions {
		e = append(e, dimension.Name, dimension.Value)
		if dimension.Name != "StateMachineArn" {
			label = dimension.Value
		}
	}
	return append(e, map[string]any{"label": label})
}

func (d *dashboard) metric(title, statistic, view string, metrics []Metric) widget {
	var list []any
	for _, m := range metrics {
		list = append(list, entry(m))
	}
	return widget{Type: "metric", Properties: map[string]any{
		"title": title, "view": view, "stat": statistic, "period": fiveMinutes, "region": d.scope.Region, "metrics": list,
	}}
}

func (d *dashboard) lines(title, statistic string, metrics ...Metric) widget {
	w := d.metric(title, statistic, "timeSeries", metrics)
	w.Properties["yAxis"] = map[string]any{"left": map[string]any{"min": 0}}
	return w
}

// figures are numbers over the whole time that the dashboard shows.
func (d *dashboard) figures(title, statistic string, metrics ...Metric) widget {
	w := d.metric(title, statistic, "singleValue", metrics)
	w.Properties["setPeriodToTimeRange"] = true
	return w
}

// cost is what captures took, in hours and, at a price, in money: instances and sessions bill by time, and the rest
// (requests, storage, keys) is small beside it or not known here.
func (d *dashboard) cost(hourUSD float64) widget {
	billed := append([]any{}, entry(own(d.scope, BilledSeconds))...)
	billed[len(billed)-1] = map[string]any{"id": "billed", "visible": false}
	list := []any{billed, []any{map[string]any{"expression": "billed / 3600", "label": "hours of collector and session, at most", "id": "hours"}}}
	title := "Hours of captures (set captureHourUSD for an estimate in USD)"
	if hourUSD > 0 {
		list = append(list, []any{map[string]any{"expression": fmt.Sprintf("billed / 3600 * %g", hourUSD), "label": fmt.Sprintf("USD at %g an hour", hourUSD), "id": "usd"}})
		title = "Estimated cost of captures, without storage and requests"
	}
	return widget{Type: "metric", Properties: map[string]any{
		"title": title, "view": "singleValue", "stat": "Sum", "period": fiveMinutes, "setPeriodToTimeRange": true, "region": d.scope.Region, "metrics": list,
	}}
}

// logs shows lines of functions; a query costs only when somebody looks.
func (d *dashboard) logs(title, query string, functions ...string) widget {
	sources := ""
	for _, f := range functions {
		sources += fmt.Sprintf("SOURCE '%s' | ", d.scope.LogGroupName(f))
	}
	return widget{Type: "log", Properties: map[string]any{"title": title, "view": "table", "region": d.scope.Region, "query": sources + query}}
}
