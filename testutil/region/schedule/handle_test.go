package schedule

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestCreateConflictsAndClientTokens(t *testing.T) {
	in(t, Config{}, func(x fixture) {
		x.call("CreateScheduleGroup", map[string]any{"Name": "flashes"})
		first := params("GroupName", "flashes", "ClientToken", "capture-1")
		arn := x.call("CreateSchedule", first)["ScheduleArn"]
		if arn != "arn:aws:scheduler:us-east-1:123456789012:schedule/flashes/guard" {
			t.Errorf("the ARN is %v", arn)
		}
		if again := x.call("CreateSchedule", first)["ScheduleArn"]; again != arn {
			t.Errorf("the same request with the same token gives %v", again)
		}
		if m := x.refused("ConflictException", "CreateSchedule", params("GroupName", "flashes")); m != "Schedule guard already exists." {
			t.Errorf("the message is %q", m)
		}
		x.refused("ConflictException", "CreateSchedule", params("GroupName", "flashes", "ClientToken", "capture-2"))
		x.refused("ConflictException", "CreateSchedule", params("GroupName", "flashes", "ClientToken", "capture-1", "Target.Input", `{"capture":2}`))
		// An update does not change what the token of the creation stands for.
		x.call("UpdateSchedule", params("GroupName", "flashes", "Description", "changed"))
		x.call("CreateSchedule", first)
		x.call("CreateSchedule", params()) // the same name in another group
		x.refused("ResourceNotFoundException", "CreateSchedule", params("GroupName", "nobody"))
		x.refused("ResourceNotFoundException", "GetSchedule", map[string]any{"Name": "guard", "GroupName": "nobody"})

		update := params("ClientToken", "update-1", "Description", "one")
		x.call("UpdateSchedule", update)
		time.Sleep(time.Minute)
		x.call("UpdateSchedule", update)
		if got := x.call("GetSchedule", map[string]any{"Name": "guard"}); !got["LastModificationDate"].(time.Time).Equal(midnight) {
			t.Errorf("the same update changed it again at %v", got["LastModificationDate"])
		}
		x.refused("ConflictException", "UpdateSchedule", params("ClientToken", "update-1", "Description", "two"))
	})
}

func TestGroups(t *testing.T) {
	in(t, Config{}, func(x fixture) {
		time.Sleep(time.Second)
		tags := []any{map[string]any{"Key": "a", "Value": "b"}}
		arn := x.call("CreateScheduleGroup", map[string]any{"Name": "g", "ClientToken": "t", "Tags": tags})["ScheduleGroupArn"]
		if arn != "arn:aws:scheduler:us-east-1:123456789012:schedule-group/g" {
			t.Errorf("the ARN is %v", arn)
		}
		x.call("CreateScheduleGroup", map[string]any{"Name": "g", "ClientToken": "t", "Tags": tags})
		x.refused("ConflictException", "CreateScheduleGroup", map[string]any{"Name": "g"})
		x.refused("ConflictException", "CreateScheduleGroup", map[string]any{"Name": "default"})
		x.refused("ValidationException", "CreateScheduleGroup", map[string]any{"Name": "a/b"})
		x.refused("ValidationException", "CreateScheduleGroup", map[string]any{})
		got := x.call("GetScheduleGroup", map[string]any{"Name": "g"})
		if got["State"] != "ACTIVE" || got["Arn"] != arn || !got["CreationDate"].(time.Time).Equal(midnight.Add(time.Second)) {
			t.Errorf("got %v", got)
		}
		x.call("GetScheduleGroup", map[string]any{"Name": "default"})
		x.refused("ResourceNotFoundException", "GetScheduleGroup", map[string]any{"Name": "h"})
		for i := range maxGroups - 2 {
			x.call("CreateScheduleGroup", map[string]any{"Name": fmt.Sprint("more", i)})
		}
		x.refused("ServiceQuotaExceededException", "CreateScheduleGroup", map[string]any{"Name": "toomany"})
	})
}

func TestListSchedules(t *testing.T) {
	in(t, Config{}, func(x fixture) {
		x.call("CreateScheduleGroup", map[string]any{"Name": "g"})
		for _, name := range []string{"eni-3", "eni-1", "other", "eni-2"} {
			x.call("CreateSchedule", params("Name", name, "GroupName", "g"))
		}
		x.call("CreateSchedule", params("Name", "eni-9"))
		x.call("CreateSchedule", params("Name", "eni-0", "State", "DISABLED"))
		list := func(p map[string]any) string {
			t.Helper()
			var names []string
			for pages := 0; ; pages++ {
				page := x.call("ListSchedules", p)
				for _, item := range page["Schedules"].([]any) {
					one := item.(map[string]any)
					names = append(names, one["GroupName"].(string)+"/"+one["Name"].(string))
					if one["Arn"] == nil || one["State"] == nil || len(one["Target"].(map[string]any)) != 1 {
						t.Errorf("the summary is %v", one)
					}
				}
				token, more := page["NextToken"]
				if !more {
					return strings.Join(names, " ")
				}
				if pages > 10 {
					t.Fatal("the pages do not end")
				}
				p["NextToken"] = token
			}
		}
		for _, row := range []struct {
			name   string
			params map[string]any
			want   string
		}{
			{"all", map[string]any{}, "default/eni-0 default/eni-9 g/eni-1 g/eni-2 g/eni-3 g/other"},
			{"a group", map[string]any{"GroupName": "g"}, "g/eni-1 g/eni-2 g/eni-3 g/other"},
			{"a prefix", map[string]any{"NamePrefix": "eni-"}, "default/eni-0 default/eni-9 g/eni-1 g/eni-2 g/eni-3"},
			{"a prefix in a group, page by page", map[string]any{"GroupName": "g", "NamePrefix": "eni-", "MaxResults": int64(2)}, "g/eni-1 g/eni-2 g/eni-3"},
			{"all, one by one", map[string]any{"MaxResults": 1}, "default/eni-0 default/eni-9 g/eni-1 g/eni-2 g/eni-3 g/other"},
			{"a page that is just full", map[string]any{"GroupName": "g", "MaxResults": 4.0}, "g/eni-1 g/eni-2 g/eni-3 g/other"},
			{"a state", map[string]any{"State": "DISABLED"}, "default/eni-0"},
			{"nothing", map[string]any{"NamePrefix": "x"}, ""},
		} {
			if got := list(row.params); got != row.want {
				t.Errorf("%s: got %s, want %s", row.name, got, row.want)
			}
		}
		x.refused("ValidationException", "ListSchedules", map[string]any{"MaxResults": 101})
		x.refused("ValidationException", "ListSchedules", map[string]any{"MaxResults": 0})
		x.refused("ValidationException", "ListSchedules", map[string]any{"NextToken": "!"})
		x.refused("ValidationException", "ListSchedules", map[string]any{"State": "PAUSED"})
		x.refused("ResourceNotFoundException", "ListSchedules", map[string]any{"GroupName": "h"})
	})
}

func TestRequestsThatAWSRefuses(t *testing.T) {
	for _, row := range []struct {
		name   string
		params map[string]any
		want   string // in the message
	}{
		{"no name", params("Name", nil), "'name'"},
		{"a name with a slash", params("Name", "eni/1"), "regular expression pattern"},
		{"a name of 65 characters", params("Name", strings.Repeat("x", 65)), "less than or equal to 64"},
		{"a token with a colon", params("ClientToken", "a:b"), "'clientToken'"},
		{"no expression", params("ScheduleExpression", nil), "'scheduleExpression'"},
		{"no window", params("FlexibleTimeWindow", nil), "'flexibleTimeWindow'"},
		{"a window without a mode", params("FlexibleTimeWindow", map[string]any{}), "'flexibleTimeWindow.mode'"},
		{"an unknown mode", params("FlexibleTimeWindow", map[string]any{"Mode": "MAYBE"}), "enum value set"},
		{"a flexible window without a width", params("FlexibleTimeWindow", map[string]any{"Mode": "FLEXIBLE"}), "MaximumWindowInMinutes"},
		{"a width of a window that is off", params("FlexibleTimeWindow", map[string]any{"Mode": "OFF", "MaximumWindowInMinutes": int64(1)}), "MaximumWindowInMinutes"},
		{"no target", params("Target", nil), "'target'"},
		{"a target without a role", params("Target.RoleArn", nil), "'target.roleArn'"},
		{"a role that is none", params("Target.RoleArn", "arn:aws:iam::1:role/x"), "'target.roleArn'"},
		{"a target that is no ARN", params("Target.Arn", "teardown"), "not in correct format"},
		{"a target of another service", params("Target.Arn", "arn:aws:ec2:us-east-1:123456789012:instance/i-1"), "ec2 is not a supported service"},
		{"a universal target that only reads", params("Target.Arn", "arn:aws:scheduler:::aws-sdk:ec2:describeInstances"), "only reads"},
		{"a universal target in upper case", params("Target.Arn", "arn:aws:scheduler:::aws-sdk:ec2:DeleteTrafficMirrorSession"), "not of the form"},
		{"an input that is no JSON", params("Target.Input", "hello"), "well-formed JSON"},
		{"an empty input", params("Target.Input", ""), "'target.input'"},
		{"an input of more than 256 KB", params("Target.Input", `"`+strings.Repeat("x", 256<<10)+`"`), "'target.input'"},
		{"186 retries", params("Target.RetryPolicy", map[string]any{"MaximumRetryAttempts": int64(186)}), "'target.retryPolicy.maximumRetryAttempts'"},
		{"an age of half a minute", params("Target.RetryPolicy", map[string]any{"MaximumEventAgeInSeconds": int64(30)}), "greater than or equal to 60"},
		{"a dead-letter queue that is FIFO", params("Target.DeadLetterConfig", map[string]any{"Arn": "arn:aws:sqs:us-east-1:123456789012:d.fifo"}), "'target.deadLetterConfig.arn'"},
		{"a FIFO queue without a group", params("Target.Arn", "arn:aws:sqs:us-east-1:123456789012:q.fifo"), "MessageGroupId"},
		{"an event bus without parameters", params("Target.Arn", "arn:aws:events:us-east-1:123456789012:event-bus/default"), "EventBridgeParameters"},
		{"an unknown state", params("State", "PAUSED"), "[ENABLED, DISABLED]"},
		{"an unknown action", params("ActionAfterCompletion", "STOP"), "[NONE, DELETE]"},
		{"an unknown zone", params("ScheduleExpressionTimezone", "Mars/Olympus"), "Mars/Olympus"},
		{"the machine's own zone", params("ScheduleExpressionTimezone", "Local"), "Local"},
		{"a start six minutes ago", params("StartDate", midnight.Add(-6*time.Minute)), "earlier than 5 minutes ago"},
		{"an end that has passed", params("EndDate", midnight.Add(-time.Minute)), "in the past"},
		{"an end before the start", params("StartDate", midnight.Add(2*time.Hour), "EndDate", midnight.Add(time.Hour)), "before the EndDate"},
		{"a start that is a string", params("StartDate", "tomorrow"), "'startDate'"},
		{"cron", params("ScheduleExpression", "cron(0 8 * * ? *)"), "Cron expressions are not supported"},
		{"seconds", params("ScheduleExpression", "rate(30 seconds)"), "Invalid Schedule Expression rate(30 seconds)."},
		{"a rate of nothing", params("ScheduleExpression", "rate(0 minutes)"), "Invalid Schedule Expression"},
		{"a negative rate", params("ScheduleExpression", "rate(-1 minutes)"), "Invalid Schedule Expression"},
		{"a rate beyond all measure", params("ScheduleExpression", "rate(999999999 days)"), "Invalid Schedule Expression"},
		{"a rate without a unit", params("ScheduleExpression", "rate(5)"), "Invalid Schedule Expression"},
		{"a moment with a zone", params("ScheduleExpression", "at(2000-01-01T00:10:30Z)"), "Invalid Schedule Expression"},
		{"a moment with fractions", params("ScheduleExpression", "at(2000-01-01T00:10:30.5)"), "Invalid Schedule Expression"},
		{"a day that is not", params("ScheduleExpression", "at(2001-02-29T00:00:00)"), "Invalid Schedule Expression"},
		{"something else", params("ScheduleExpression", "every morning"), "Invalid Schedule Expression"},
	} {
		t.Run(row.name, func(t *testing.T) {
			in(t, Config{}, func(x fixture) {
				if m := x.refused("ValidationException", "CreateSchedule", row.params); !strings.Contains(m, row.want) {
					t.Errorf("the message %q does not speak of %q", m, row.want)
				}
				if n := len(x.call("ListSchedules", map[string]any{})["Schedules"].([]any)); n != 0 {
					t.Errorf("%d schedules were made all the same", n)
				}
			})
		})
	}
}

func TestTargetsThatAWSAccepts(t *testing.T) {
	for _, row := range []struct {
		name   string
		params map[string]any
	}{
		{"a function", params()},
		{"a universal target", params("Target.Arn", "arn:aws:scheduler:::aws-sdk:ec2:deleteTrafficMirrorSession")},
		{"a state machine", params("Target.Arn", "arn:aws:states:us-east-1:123456789012:stateMachine:capture")},
		{"a queue with a message that is no JSON", params("Target.Arn", "arn:aws:sqs:us-east-1:123456789012:q", "Target.Input", "hello")},
		{"a FIFO queue", params("Target.Arn", "arn:aws:sqs:us-east-1:123456789012:q.fifo", "Target.SqsParameters", map[string]any{"MessageGroupId": "g"})},
		{"one minute", params("ScheduleExpression", "rate(1 minute)")},
		{"one days, as the guide writes it", params("ScheduleExpression", "rate(1 days)")},
	} {
		t.Run(row.name, func(t *testing.T) {
			in(t, Config{}, func(x fixture) { x.call("CreateSchedule", row.params) })
		})
	}
}

func TestAnUnknownOperation(t *testing.T) {
	in(t, Config{}, func(x fixture) { x.refused("UnknownOperationException", "TagResource", nil) })
}

func FuzzExpression(f *testing.F) {
	for _, text := range []string{"rate(5 minutes)", "at(2000-01-01T00:10:30)", "cron(0 8 * * ? *)", "rate(999999999 days)"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		e, err := parseExpression(text, time.UTC)
		if err != nil {
			return
		}
		if e.every > 0 && !e.at.IsZero() {
			t.Errorf("%q is both a moment and a rate: %+v", text, e)
		}
		if e.every < 0 || e.every > 0 && e.every < time.Minute {
			t.Errorf("%q fires every %v", text, e.every)
		}
		if e.every == 0 && e.at.Format("at(2006-01-02T15:04:05)") != text {
			t.Errorf("%q is read as %v", text, e.at)
		}
	})
}
