package policy

import "slices"

// Role is one IAM role that a deployment makes.
type Role struct {
	Name    string // for a Lambda's role: the Lambda's name
	Service string // who assumes it
	Trust   func(Scope) Document
	Policy  func(Scope) Document
}

// The services that assume roles.
const (
	lambda    = "lambda.amazonaws.com"
	states    = "states.amazonaws.com"
	scheduler = "scheduler.amazonaws.com"
	ec2       = "ec2.amazonaws.com"
	ssm       = "ssm.amazonaws.com"
)

// Roles are all roles of a deployment. The last is made only when Scope.AutomationRole says so.
func Roles() []Role {
	return []Role{
		lambdaRole("intake", intake),
		lambdaRole("preflight", preflight),
		lambdaRole("guard", guard),
		lambdaRole("launch", launch),
		lambdaRole("mirror", mirror),
		lambdaRole("watch", watch),
		lambdaRole("teardown", teardown),
		lambdaRole("seal", seal),
		lambdaRole("sweep", sweep),
		lambdaRole("setup", setup),
		{Name: "capture", Service: states, Policy: capture, Trust: func(s Scope) Document {
			return s.trust(states, where("ArnEquals", "aws:SourceArn", s.StateMachineARN()))
		}},
		{Name: "scheduler", Service: scheduler, Policy: schedules, Trust: func(s Scope) Document {
			// It must be a group's ARN, never a schedule's (EventBridge Scheduler User Guide, "Confused deputy prevention").
			return s.trust(scheduler, where("ArnEquals", "aws:SourceArn", s.ScheduleGroupARN()))
		}},
		// EC2 fetches the role of an instance profile without saying for which resource.
		{Name: "collector", Service: ec2, Policy: collector, Trust: func(Scope) Document { return assumedBy(ec2) }},
		{Name: "automation", Service: ssm, Policy: automation, Trust: func(s Scope) Document {
			return s.trust(ssm, where("ArnLike", "aws:SourceArn", s.arn("ssm", "automation-execution/*")))
		}},
	}
}

// RoleOf is the role of this name.
func RoleOf(name string) (Role, bool) {
	roles := Roles()
	i := slices.IndexFunc(roles, func(r Role) bool { return r.Name == name })
	if i < 0 {
		return Role{}, false
	}
	return roles[i], true
}

// lambdaRole is the role of a Lambda, which may log whatever else it may do.
func lambdaRole(name string, policy func(Scope) []Statement) Role {
	return Role{
		Name: name, Service: lambda,
		// Lambda's guide documents no aws:SourceArn for execution roles; iam:PassRole is what guards them.
		Trust:  func(Scope) Document { return assumedBy(lambda) },
		Policy: func(s Scope) Document { return New(append(policy(s), s.logs(name))...) },
	}
}

// assumedBy trusts a service.
func assumedBy(service string, conditions ...Condition) Document {
	return New(Statement{
		Effect: Allow, Principal: map[string][]string{"Service": {service}}, Action: []string{"sts:AssumeRole"}, Condition: all(conditions...),
	})
}

// trust trusts a service as long as it acts for this account and this very thing, so that nobody else's can have the
// service use the role (IAM User Guide, "The confused deputy problem").
func (s Scope) trust(service string, source Condition) Document {
	return assumedBy(service, where("StringEquals", "aws:SourceAccount", s.Account), source)
}
