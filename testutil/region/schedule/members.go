package schedule

import (
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"
)

// members reads a request and remembers the first fault.
type members struct {
	values map[string]any
	err    error
}

func (p *members) fail(err error) {
	if p.err == nil {
		p.err = err
	}
}

// camel is how messages spell a member.
func camel(member string) string { return strings.ToLower(member[:1]) + member[1:] }

func (p *members) text(member string) string {
	switch v := p.values[member].(type) {
	case nil:
		return ""
	case string:
		return v
	}
	p.fail(constraint(p.values[member], camel(member), "Member must be a string"))
	return ""
}

// bounded is a string whose length is limited; an absent one is empty.
func (p *members) bounded(member string, least, most int) string {
	v := p.text(member)
	if _, sent := p.values[member]; sent && len(v) < least {
		p.fail(constraint(v, camel(member), fmt.Sprintf("Member must have length greater than or equal to %d", least)))
	}
	if len(v) > most {
		p.fail(constraint(v, camel(member), fmt.Sprintf("Member must have length less than or equal to %d", most)))
	}
	return v
}

func (p *members) required(member string, most int) string {
	if p.values[member] == nil {
		p.fail(constraint("null", camel(member), "Member must not be null"))
		return ""
	}
	return p.bounded(member, 1, most)
}

var (
	nameForm  = regexp.MustCompile(`^[0-9a-zA-Z-_.]+$`)
	tokenForm = regexp.MustCompile(`^[a-zA-Z0-9-_]+$`)
	roleForm  = regexp.MustCompile(`^arn:aws(-[a-z]+)?:iam::\d{12}:role/[\w+=,.@/-]+$`)
	keyForm   = regexp.MustCompile(`^arn:aws(-[a-z]+)?:kms:[a-z0-9-]+:\d{12}:(key|alias)/[0-9a-zA-Z-_]*$`)
	queueForm = regexp.MustCompile(`^arn:aws(-[a-z]+)?:sqs:[a-z0-9-]+:\d{12}:[a-zA-Z0-9-_]+$`)
)

func (p *members) matching(member string, form *regexp.Regexp, v string) string {
	if v != "" && !form.MatchString(v) {
		p.fail(constraint(v, camel(member), "Member must satisfy regular expression pattern: "+form.String()))
	}
	return v
}

func (p *members) name(member string, required bool) string {
	if required {
		return p.matching(member, nameForm, p.required(member, 64))
	}
	return p.matching(member, nameForm, p.bounded(member, 1, 64))
}

func (p *members) key() key {
	k := key{p.name("GroupName", false), p.name("Name", true)}
	if k.group == "" {
		k.group = "default"
	}
	return k
}

func (p *members) token() string {
	return p.matching("ClientToken", tokenForm, p.bounded("ClientToken", 1, 64))
}

func (p *members) choice(member, standard string, values ...string) string {
	v := p.text(member)
	if v == "" {
		return standard
	}
	if !slices.Contains(values, v) {
		p.fail(constraint(v, camel(member), "Member must satisfy enum value set: ["+strings.Join(values, ", ")+"]"))
	}
	return v
}

func (p *members) number(member string, least, most int64) (int64, bool) {
	var n int64
	switch v := p.values[member].(type) {
	case nil:
		return 0, false
	case int:
		n = int64(v)
	case int64:
		n = v
	case float64:
		n = int64(v)
		if float64(n) != v {
			p.fail(constraint(v, camel(member), "Member must be an integer"))
		}
	default:
		p.fail(constraint(v, camel(member), "Member must be an integer"))
		return 0, false
	}
	if n < least {
		p.fail(constraint(n, camel(member), fmt.Sprintf("Member must have value greater than or equal to %d", least)))
	}
	if n > most {
		p.fail(constraint(n, camel(member), fmt.Sprintf("Member must have value less than or equal to %d", most)))
	}
	return n, true
}

func (p *members) date(member string) time.Time {
	switch v := p.values[member].(type) {
	case nil:
		return time.Time{}
	case time.Time:
		return v
	case float64: // seconds since 1970
		whole, part := math.Modf(v)
		return time.Unix(int64(whole), int64(part*1e9)).UTC()
	case int64:
		return time.Unix(v, 0).UTC()
	case int:
		return time.Unix(int64(v), 0).UTC()
	}
	p.fail(constraint(p.values[member], camel(member), "Member must be a timestamp"))
	return time.Time{}
}

// structure is a nested structure; its faults are faults of the whole.
func (p *members) structure(member string) *members {
	switch v := p.values[member].(type) {
	case nil:
		return nil
	case map[string]any:
		return &members{values: v}
	}
	p.fail(constraint(p.values[member], camel(member), "Member must be a structure"))
	return nil
}

func (p *members) take(inner *members, member string) {
	if inner.err == nil {
		return
	}
	if e, ok := inner.err.(*Error); ok {
		p.fail(&Error{code: e.code, status: e.status, message: strings.Replace(e.message, " at '", " at '"+camel(member)+".", 1)})
		return
	}
	p.fail(inner.err)
}

// tooOld is how far in the past a start date may be.
const tooOld = 5 * time.Minute

// request reads what CreateSchedule and UpdateSchedule have in common (Scheduler API, CreateSchedule).
func (p *members) request(now time.Time) request {
	r := request{
		description: p.bounded("Description", 0, 512),
		text:        p.required("ScheduleExpression", 256),
		zone:        p.bounded("ScheduleExpressionTimezone", 1, 50),
		start:       p.date("StartDate"), end: p.date("EndDate"),
		enabled:     p.choice("State", "ENABLED", "ENABLED", "DISABLED") == "ENABLED",
		deleteAfter: p.choice("ActionAfterCompletion", "NONE", "NONE", "DELETE") == "DELETE",
		kmsKey:      p.matching("KmsKeyArn", keyForm, p.bounded("KmsKeyArn", 1, 2048)),
		window:      p.window(),
		target:      p.target(),
	}
	if r.zone == "" {
		r.zone = "UTC"
	}
	zone, err := time.LoadLocation(r.zone)
	if err != nil || r.zone == "Local" {
		p.fail(invalid("The time zone %s is not a valid IANA time zone.", r.zone))
		return r
	}
	if p.err != nil {
		return r
	}
	if r.expression, err = parseExpression(r.text, zone); err != nil {
		p.fail(err)
		return r
	}
	if r.expression.every == 0 {
		return r // a one-time schedule ignores both dates
	}
	if !r.start.IsZero() && r.start.Before(now.Add(-tooOld)) {
		p.fail(invalid("The StartDate you specify cannot be earlier than 5 minutes ago."))
	}
	if !r.end.IsZero() && !r.end.After(now) {
		p.fail(invalid("The EndDate you specify cannot be in the past."))
	}
	if !r.start.IsZero() && !r.end.IsZero() && !r.end.After(r.start) {
		p.fail(invalid("The StartDate must come before the EndDate."))
	}
	return r
}

func (p *members) window() map[string]any {
	w := p.structure("FlexibleTimeWindow")
	if w == nil {
		p.fail(constraint("null", "flexibleTimeWindow", "Member must not be null"))
		return nil
	}
	w.required("Mode", 10)
	mode := w.choice("Mode", "", "OFF", "FLEXIBLE")
	width, has := w.number("MaximumWindowInMinutes", 1, 1440)
	p.take(w, "FlexibleTimeWindow")
	if mode == "OFF" && has {
		p.fail(invalid("MaximumWindowInMinutes must not be specified when the flexible time window is off."))
	}
	if mode == "FLEXIBLE" && !has {
		p.fail(invalid("MaximumWindowInMinutes is required for a flexible time window."))
	}
	if !has {
		return map[string]any{"Mode": mode}
	}
	return map[string]any{"Mode": mode, "MaximumWindowInMinutes": width}
}

// maxInput is the limit of a target's input (Scheduler guide, "Quotas for Amazon EventBridge Scheduler").
const maxInput = 256 << 10

func (p *members) target() target {
	m := p.structure("Target")
	if m == nil {
		p.fail(constraint("null", "target", "Member must not be null"))
		return target{}
	}
	t := target{
		arn: m.required("Arn", 1600), role: m.matching("RoleArn", roleForm, m.required("RoleArn", 1600)),
		input: m.bounded("Input", 1, maxInput), retries: 185, maxAge: 24 * time.Hour, parameters: m.values,
	}
	if policy := m.structure("RetryPolicy"); policy != nil {
		if n, ok := policy.number("MaximumRetryAttempts", 0, 185); ok {
			t.retries = int(n)
		}
		if n, ok := policy.number("MaximumEventAgeInSeconds", 60, 86400); ok {
			t.maxAge = time.Duration(n) * time.Second
		}
		m.take(policy, "RetryPolicy")
	}
	if dead := m.structure("DeadLetterConfig"); dead != nil {
		t.deadLetter = dead.matching("Arn", queueForm, dead.bounded("Arn", 1, 1600))
		m.take(dead, "DeadLetterConfig")
	}
	if m.err == nil {
		if err := t.check(); err != nil {
			m.fail(err)
		}
	}
	p.take(m, "Target")
	return t
}

// readOnly are the prefixes of actions that a universal target may not call (Scheduler guide, "Using universal targets in
// EventBridge Scheduler").
var readOnly = []string{"get", "describe", "list", "poll", "receive", "search", "scan", "query", "select", "read", "lookup",
	"discover", "validate", "batchGet", "batchDescribe", "batchRead", "transactGet", "adminGet", "adminList", "testMigration",
	"retrieve", "testConnection", "translateDocument", "isAuthorized", "invokeModel"}

// templated are the services that can be targets by the ARN of a resource (Scheduler guide, "Using templated targets in
// EventBridge Scheduler").
var templated = []string{"codebuild", "codepipeline", "ecs", "events", "inspector", "kinesis", "firehose", "lambda",
	"sagemaker", "sns", "sqs", "states"}

var universalForm = regexp.MustCompile(`^arn:aws(?:-[a-z]+)?:scheduler:::aws-sdk:([a-z0-9]+):([a-z][a-zA-Z0-9]*)$`)

// check knows which targets there are.
func (t target) check() error {
	parts := strings.SplitN(t.arn, ":", 6)
	if len(parts) < 6 || parts[0] != "arn" || !strings.HasPrefix(parts[1], "aws") {
		return invalid("Provided Arn is not in correct format.")
	}
	if parts[2] == "scheduler" {
		m := universalForm.FindStringSubmatch(t.arn)
		if m == nil {
			return invalid("The target %s is not of the form arn:aws:scheduler:::aws-sdk:service:apiAction.", t.arn)
		}
		for _, prefix := range readOnly {
			if strings.HasPrefix(m[2], prefix) {
				return invalid("%s is not a supported action for a target: it only reads.", m[2])
			}
		}
		return nil
	}
	if !slices.Contains(templated, parts[2]) {
		return invalid("Invalid request provided: %s is not a supported service for a target.", parts[2])
	}
	switch parts[2] {
	case "lambda", "states", "events":
		if t.input != "" && !json.Valid([]byte(t.input)) {
			return invalid("Invalid input for the target: it must be well-formed JSON.")
		}
	}
	if parts[2] == "events" && t.parameters["EventBridgeParameters"] == nil {
		return invalid("EventBridgeParameters are required for this target.")
	}
	if parts[2] == "sqs" && strings.HasSuffix(t.arn, ".fifo") && t.parameters["SqsParameters"] == nil {
		return invalid("SqsParameters with a MessageGroupId are required for a FIFO queue.")
	}
	return nil
}
