package authorization

import (
	"fmt"
	"strings"

	"flashtap/infra/policy"
)

// resolver replaces the functions of a template by what they would give, as far as policies need it.
type resolver struct {
	templates Templates
	scope     policy.Scope
	stack     string
}

// value resolves whatever is in v.
func (r resolver) value(v any) (any, error) {
	switch v := v.(type) {
	case []any:
		list := make([]any, len(v))
		for i := range v {
			var err error
			if list[i], err = r.value(v[i]); err != nil {
				return nil, err
			}
		}
		return list, nil
	case map[string]any:
		if len(v) == 1 {
			for name, argument := range v {
				if name == "Ref" || strings.HasPrefix(name, "Fn::") {
					return r.call(name, argument)
				}
			}
		}
		m := map[string]any{}
		for key, item := range v {
			var err error
			if m[key], err = r.value(item); err != nil {
				return nil, err
			}
		}
		return m, nil
	}
	return v, nil
}

func (r resolver) call(name string, argument any) (any, error) {
	list, _ := argument.([]any)
	switch name {
	case "Ref":
		return r.ref(fmt.Sprint(argument))
	case "Fn::GetAtt":
		if text, ok := argument.(string); ok {
			id, attribute, _ := strings.Cut(text, ".")
			return r.attribute(id, attribute)
		}
		if len(list) == 2 {
			return r.attribute(fmt.Sprint(list[0]), fmt.Sprint(list[1]))
		}
	case "Fn::Join":
		if len(list) == 2 {
			items, err := r.value(list[1])
			if err != nil {
				return nil, err
			}
			parts, err := texts(items)
			return strings.Join(parts, fmt.Sprint(list[0])), err
		}
	case "Fn::Sub":
		if text, ok := argument.(string); ok {
			return r.substitute(text)
		}
	case "Fn::ImportValue":
		export, err := r.value(argument)
		if err != nil {
			return nil, err
		}
		return r.imported(fmt.Sprint(export))
	case "Fn::If":
		if len(list) == 3 { // what is there when somebody asked for it
			return r.value(list[1])
		}
	case "Fn::Select", "Fn::Split":
		return r.cut(name, list)
	}
	return nil, fmt.Errorf("%s %v is not understood", name, argument)
}

func (r resolver) cut(name string, list []any) (any, error) {
	if len(list) != 2 {
		return nil, fmt.Errorf("%s %v is not understood", name, list)
	}
	from, err := r.value(list[1])
	if err != nil {
		return nil, err
	}
	if name == "Fn::Split" {
		var parts []any
		for part := range strings.SplitSeq(fmt.Sprint(from), fmt.Sprint(list[0])) {
			parts = append(parts, part)
		}
		return parts, nil
	}
	var index int
	if _, err := fmt.Sscan(fmt.Sprint(list[0]), &index); err != nil || index < 0 || index >= len(many(from)) {
		return nil, fmt.Errorf("%s %v: no such part", name, list)
	}
	return many(from)[index], nil
}

func (r resolver) substitute(text string) (any, error) {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(text, "${")
		b.WriteString(before)
		if !found {
			return b.String(), nil
		}
		name, after, _ := strings.Cut(rest, "}")
		text = after
		if literal, isLiteral := strings.CutPrefix(name, "!"); isLiteral {
			b.WriteString("${" + literal + "}")
			continue
		}
		id, attribute, hasAttribute := strings.Cut(name, ".")
		value, err := r.ref(name)
		if hasAttribute {
			value, err = r.attribute(id, attribute)
		}
		if err != nil {
			return nil, err
		}
		b.WriteString(value)
	}
}

// imported is the value that another stack exports under a name.
func (r resolver) imported(name string) (any, error) {
	for stack, template := range r.templates {
		other := resolver{r.templates, r.scope, stack}
		for _, output := range object(template["Outputs"]) {
			export, err := other.value(object(object(output)["Export"])["Name"])
			if err != nil {
				return nil, err
			}
			if export == name {
				return other.value(object(output)["Value"])
			}
		}
	}
	return nil, fmt.Errorf("no stack exports %s", name)
}

func (r resolver) ref(name string) (string, error) {
	switch name {
	case "AWS::Partition":
		return r.scope.Partition, nil
	case "AWS::Region":
		return r.scope.Region, nil
	case "AWS::AccountId":
		return r.scope.Account, nil
	case "AWS::URLSuffix":
		return "amazonaws.com", nil
	case "AWS::StackName":
		return r.stack, nil
	}
	template := r.templates[r.stack]
	if p := object(object(template["Parameters"])[name]); p != nil {
		if value, ok := p["Default"].(string); ok {
			return value, nil
		}
		return name, nil
	}
	resource := object(object(template["Resources"])[name])
	if resource == nil {
		return "", fmt.Errorf("the template has no %s", name)
	}
	kind, _ := resource["Type"].(string)
	switch kind {
	case "AWS::SNS::Topic", "AWS::StepFunctions::StateMachine":
		return r.attribute(name, "Arn")
	case "AWS::EC2::LaunchTemplate":
		return "lt-0a1b2c3d4e5f60718", nil
	}
	return r.physical(name, resource)
}

// names are the properties that hold a resource's own name.
var names = []string{"RoleName", "InstanceProfileName", "FunctionName", "QueueName", "TopicName", "StateMachineName", "BucketName", "Name", "LogGroupName"}

// physical is the name that a resource has, or would get from CloudFormation.
func (r resolver) physical(id string, resource map[string]any) (string, error) {
	properties := object(resource["Properties"])
	for _, name := range names {
		if properties[name] != nil {
			value, err := r.value(properties[name])
			return fmt.Sprint(value), err
		}
	}
	if resource["Type"] == "AWS::S3::Bucket" {
		return strings.ToLower(r.stack + "-" + id + "-1a2b3c4d5e6f"), nil
	}
	return r.stack + "-" + id + "-1A2B3C4D5E6F", nil
}

// arns are the forms of ARNs by the types of resources, with % for the name.
var arns = map[string]string{
	"AWS::IAM::Role":                   ":iam::ACCOUNT:role/%",
	"AWS::IAM::InstanceProfile":        ":iam::ACCOUNT:instance-profile/%",
	"AWS::KMS::Key":                    ":kms:REGION:ACCOUNT:key/%",
	"AWS::Lambda::Function":            ":lambda:REGION:ACCOUNT:function:%",
	"AWS::Logs::LogGroup":              ":logs:REGION:ACCOUNT:log-group:%:*",
	"AWS::S3::Bucket":                  ":s3:::%",
	"AWS::SNS::Topic":                  ":sns:REGION:ACCOUNT:%",
	"AWS::SQS::Queue":                  ":sqs:REGION:ACCOUNT:%",
	"AWS::StepFunctions::StateMachine": ":states:REGION:ACCOUNT:stateMachine:%",
	"AWS::Events::EventBus":            ":events:REGION:ACCOUNT:event-bus/%",
	"AWS::Events::Rule":                ":events:REGION:ACCOUNT:rule/%",
	"AWS::Scheduler::ScheduleGroup":    ":scheduler:REGION:ACCOUNT:schedule-group/%",
}

func (r resolver) attribute(id, attribute string) (string, error) {
	resource := object(object(r.templates[r.stack]["Resources"])[id])
	if resource == nil {
		return "", fmt.Errorf("the template has no %s", id)
	}
	name, err := r.physical(id, resource)
	if err != nil {
		return "", err
	}
	kind, _ := resource["Type"].(string)
	switch attribute {
	case "Arn", "TopicArn":
		form := arns[kind]
		if form == "" {
			return "", fmt.Errorf("the ARN of a %s is not known here", kind)
		}
		if kind == "AWS::KMS::Key" {
			name = "1234abcd-12ab-34cd-56ef-1234567890ab"
		}
		return "arn:" + r.scope.Partition + strings.NewReplacer("REGION", r.scope.Region, "ACCOUNT", r.scope.Account, "%", name).Replace(form), nil
	case "RoleId":
		return "AROAEXAMPLEROLEIDXYZ", nil
	}
	return name + "." + attribute, nil
}
