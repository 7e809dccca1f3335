package region

import (
	"context"
	"maps"
	"slices"
	"time"

	"flashtap/testutil/region/ec2"
	"flashtap/testutil/region/model"
)

// Services that act for a deployment, as principals.
const eventBridge = "events.amazonaws.com"

// Errands lists the calls that services made for a deployment so far: Step Functions for a state machine (the principal
// is the machine's ARN), Scheduler for a schedule (the ARN of its role), Lambda to feed a function from a queue (the
// function's name), EventBridge for a rule (the service itself).
func (r *Region) Errands() []Call {
	r.record.mu.Lock()
	defer r.record.mu.Unlock()
	return slices.Clone(r.record.errands)
}

// errand records a call that a service is about to make. Source is the ARN of what it makes it for.
func (r *Region) errand(service, operation, principal, source string, params map[string]any) {
	c := Call{At: time.Now(), Service: service, Operation: operation, Principal: principal, Source: source, Params: params}
	c.Facts = r.facts(service, &model.Call{Service: service, Operation: operation, Params: params})
	r.record.mu.Lock()
	defer r.record.mu.Unlock()
	r.record.errands = append(r.record.errands, c)
}

// facts are what a service knows of the things that a call is about, before it carries it out.
func (r *Region) facts(service string, c *model.Call) ec2.Facts {
	if service != "ec2" {
		return ec2.Facts{}
	}
	return r.EC2.Facts(c)
}

// arn is the ARN of something of this account in this Region.
func (r *Region) arn(service, resource string) string {
	return "arn:aws:" + service + ":" + r.cfg.Name + ":" + r.cfg.Account + ":" + resource
}

// ruleKey marks which rule of the bus a target is invoked for.
type ruleKey struct{}

// withRule names the rule as its ARN does (EventBridge User Guide, "Using resource-based policies").
func withRule(ctx context.Context, r rule) context.Context {
	name := r.name
	if r.bus != defaultBus {
		name = r.bus + "/" + name
	}
	return context.WithValue(ctx, ruleKey{}, name)
}

// forRule records what EventBridge does for the rule of ctx.
func (r *Region) forRule(ctx context.Context, service, operation string, params map[string]any) {
	name, _ := ctx.Value(ruleKey{}).(string)
	r.errand(service, operation, eventBridge, r.arn("events", "rule/"+name), maps.Clone(params))
}
