package stacks_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// nameOf are the properties that hold physical names, by type of resource.
var nameOf = map[string]string{
	"AWS::CloudTrail::Trail": "TrailName", "AWS::CloudWatch::Alarm": "AlarmName", "AWS::CloudWatch::Dashboard": "DashboardName",
	"AWS::EC2::LaunchTemplate": "LaunchTemplateName", "AWS::Events::EventBus": "Name", "AWS::Events::Rule": "Name",
	"AWS::IAM::InstanceProfile": "InstanceProfileName", "AWS::IAM::Role": "RoleName", "AWS::KMS::Alias": "AliasName",
	"AWS::Lambda::Function": "FunctionName", "AWS::Logs::LogGroup": "LogGroupName", "AWS::S3::Bucket": "BucketName",
	"AWS::Scheduler::ScheduleGroup": "Name", "AWS::SNS::Topic": "TopicName", "AWS::SQS::Queue": "QueueName", "AWS::SSM::Document": "Name",
	"AWS::SSM::Parameter": "Name", "AWS::StepFunctions::StateMachine": "StateMachineName", "Custom::FlashtapAction": "Id",
}

// limits are AWS's limits of names, from the quota pages of each service.
var limits = map[string]int{
	"AWS::CloudTrail::Trail": 128, "AWS::CloudWatch::Alarm": 255, "AWS::CloudWatch::Dashboard": 255, "AWS::EC2::LaunchTemplate": 128,
	"AWS::Events::EventBus": 256, "AWS::Events::Rule": 64, "AWS::IAM::InstanceProfile": 128, "AWS::IAM::Role": 64, "AWS::KMS::Alias": 256,
	"AWS::Lambda::Function": 64, "AWS::Logs::LogGroup": 512, "AWS::S3::Bucket": 63, "AWS::Scheduler::ScheduleGroup": 64, "AWS::SNS::Topic": 256,
	"AWS::SQS::Queue": 80, "AWS::SSM::Document": 128, "AWS::SSM::Parameter": 1011, "AWS::StepFunctions::StateMachine": 80, "Custom::FlashtapAction": 20,
}

// physical are the names that a deployment gives, with the type of what has them.
func (s synthesized) physical(t *testing.T) []string {
	t.Helper()
	var names []string
	for _, r := range s.resources(t, "") {
		if name, ok := r.Properties[nameOf[r.Type]].(string); ok && nameOf[r.Type] != "" {
			names = append(names, r.Type+" "+name)
		}
	}
	for stack, template := range s.Templates {
		outputs, _ := template["Outputs"].(map[string]any)
		for _, output := range outputs {
			if name := s.value(t, stack, at(output, "Export", "Name")); name != nil {
				names = append(names, fmt.Sprint("export ", name))
			}
		}
	}
	return names
}

// TestTwoDeploymentsShareNoName: so several can be in one account and Region.
func TestTwoDeploymentsShareNoName(t *testing.T) {
	one, other := plain.physical(t), full.physical(t)
	if len(one) < 40 {
		t.Errorf("only %d names were found: %v", len(one), one)
	}
	for _, name := range one {
		if slices.Contains(other, name) && !strings.HasPrefix(name, "export ") {
			t.Errorf("both have %s", name)
		}
	}
}

// TestNamesBearTheDeployment and fit for the longest id, too.
func TestNamesBearTheDeployment(t *testing.T) {
	const longest, farthest = 20, len("ap-southeast-1") // of a deployment's id; of a Region's name
	for _, s := range []synthesized{plain, full} {
		room := longest - len(s.config.Deployment)
		for _, entry := range s.physical(t) {
			kind, name, _ := strings.Cut(entry, " ")
			if kind == "export" {
				continue
			}
			if kind != "Custom::FlashtapAction" && !strings.Contains(name+"-", s.config.Prefix()+"-") && !strings.Contains(name, s.config.Prefix()+"/") {
				t.Errorf("%s: %s %s does not begin with %s", s.name, kind, name, s.config.Prefix())
			}
			grown := len(name) + room
			if kind == "Custom::FlashtapAction" {
				grown = len(name) // shortened to what fits; infra/config tests that
			}
			if strings.Contains(name, region) {
				grown += farthest - len(region)
			}
			if grown > limits[kind] {
				t.Errorf("%s: %s %s would have %d characters with the longest id; AWS takes %d", s.name, kind, name, grown, limits[kind])
			}
		}
	}
}

// TestEverythingBearsTheTag that says which deployment it belongs to, and those that were asked for.
func TestEverythingBearsTheTag(t *testing.T) {
	tagged := 0
	for _, r := range full.resources(t, "") {
		tags := map[string]any{}
		switch list := r.Properties["Tags"].(type) {
		case []any:
			for _, tag := range list {
				tags[fmt.Sprint(at(tag, "Key"))] = at(tag, "Value")
			}
		case map[string]any:
			tags = list
		default:
			continue
		}
		tagged++
		if tags["flashtap:deployment"] != full.config.Deployment || tags["Team"] != "soc" || tags["CostCenter"] != "42" {
			t.Errorf("%s has the tags %v", r.ID, tags)
		}
	}
	if tagged < 40 {
		t.Errorf("only %d resources have tags", tagged)
	}
}
