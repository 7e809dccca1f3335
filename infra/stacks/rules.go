package stacks

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2/awsevents"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"

	"flashtap/events"
	"flashtap/infra/config"
	"flashtap/infra/policy"
)

// bus is where people ask for captures, and where the deployment tells of them.
func (c *Control) bus() awsevents.CfnEventBus {
	return awsevents.NewCfnEventBus(c.Stack, str("Bus"), &awsevents.CfnEventBusProps{
		Name: str(c.Scope.BusName()), Description: str("Flashtap " + c.cfg.Deployment + ": capture requests, and what became of captures"),
		Policy: document(policy.Bus(c.Scope)),
	})
}

// lateSeconds is how late an event may still be delivered: as long as a finding may wait for a free place (functions/sweep).
// A capture that starts later would show something else.
const lateSeconds = 6 * 60 * 60

// rules send what starts captures to the intake queue, and what became of them to the topic.
func (c *Control) rules(bus awsevents.CfnEventBus) error {
	rules, err := c.cfg.Rules()
	if err != nil {
		return err
	}
	for _, r := range rules {
		var pattern map[string]any
		if err := json.Unmarshal(r.Pattern, &pattern); err != nil {
			return fmt.Errorf("rule %s: %w", r.Name, err)
		}
		props := c.rule(r.Name, r.Description, &awsevents.CfnRule_TargetProperty{
			Id: str("intake"), Arn: c.Queues[policy.IntakeQueue].AttrArn(),
			SqsParameters: &awsevents.CfnRule_SqsParametersProperty{MessageGroupId: str(r.Group)},
		})
		props.EventPattern = pattern
		if r.Bus == config.OwnBus {
			props.EventBusName = bus.Ref()
		}
		if c.cfg.Paused {
			props.State = str("DISABLED")
		}
		c.newRule(r.Name, props)
	}
	props := c.rule("alerts", "Tells people what became of captures.", &awsevents.CfnRule_TargetProperty{Id: str("alerts"), Arn: str(c.TopicARN)})
	props.EventBusName = bus.Ref()
	props.EventPattern = map[string]any{"source": []any{events.RequestSource}, "detail-type": []any{
		events.EventRefused, events.EventFlowing, events.EventSilent, events.EventSealed, events.EventLeaking,
	}}
	c.newRule("alerts", props)
	return nil
}

// rule is what all rules have: a name, one target, and a place for what can't be delivered.
func (c *Control) rule(name, description string, target *awsevents.CfnRule_TargetProperty) *awsevents.CfnRuleProps {
	target.DeadLetterConfig = &awsevents.CfnRule_DeadLetterConfigProperty{Arn: c.Queues[policy.WaitingDeadLetter].AttrArn()}
	target.RetryPolicy = &awsevents.CfnRule_RetryPolicyProperty{MaximumEventAgeInSeconds: num(lateSeconds)}
	return &awsevents.CfnRuleProps{
		Name: str(c.Scope.RuleName(name)), Description: str(description), State: str("ENABLED"), Targets: list(target),
	}
}

// newRule makes a rule once its targets take what it sends: EventBridge does not try again when it is refused.
func (c *Control) newRule(name string, props *awsevents.CfnRuleProps) awsevents.CfnRule {
	rule := awsevents.NewCfnRule(c.Stack, str(title(name)+"Rule"), props)
	for _, p := range c.policies {
		rule.AddResourceDependency(p, str("what it sends is refused before"))
	}
	return rule
}

// sweeps call the sweep: regularly, and when something ended. The clock is a rule and not a schedule, so that the last of
// the ends does not depend on the service that the guards depend on.
func (c *Control) sweeps() {
	sweep := c.Functions["sweep"]
	for _, r := range []struct {
		name, description, every string
		pattern                  map[string]any
		left                     bool
	}{
		{name: "sweep", description: "Looks for what belongs to no running capture.", every: fmt.Sprintf("rate(%d minutes)", config.SweepMinutes)},
		{name: "execution-ended", description: "A capture ended without tearing down by itself.", pattern: config.EndedPattern(c.Scope.StateMachineARN())},
		{name: "instance-terminated", description: "An instance is gone; it may have been a collector or a suspect.",
			pattern: config.TerminatedPattern(), left: !c.cfg.InstanceEvents},
	} {
		if r.left {
			continue
		}
		props := c.rule(r.name, r.description, &awsevents.CfnRule_TargetProperty{Id: str("sweep"), Arn: sweep.AttrArn()})
		if r.every != "" {
			props.ScheduleExpression = str(r.every)
		} else {
			props.EventPattern = r.pattern
		}
		rule := c.newRule(r.name, props)
		awslambda.NewCfnPermission(c.Stack, str(title(r.name)+"Permission"), &awslambda.CfnPermissionProps{
			Action: str("lambda:InvokeFunction"), FunctionName: sweep.Ref(), Principal: str("events.amazonaws.com"),
			SourceArn: rule.AttrArn(), SourceAccount: str(c.Scope.Account),
		})
	}
}

// title is a logical id's form of a name: "GuarddutyUrgent" for "guardduty-urgent".
func title(name string) string {
	var b strings.Builder
	for _, word := range strings.Split(name, "-") {
		b.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return b.String()
}
