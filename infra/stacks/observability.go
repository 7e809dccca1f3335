package stacks

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/constructs-go/constructs/v10"

	"flashtap/infra/config"
	"flashtap/infra/observe"
	"flashtap/infra/policy"
)

// NewObservability makes the stack of what package observe defines: metric filters, alarms and the dashboard. It names what the
// other stacks make and refers to none of it; the log groups must be there before, so it is to depend on the control stack.
func NewObservability(scope constructs.Construct, cfg config.Config, s policy.Scope) awscdk.Stack {
	stack := newStack(scope, cfg, "observability", "metrics, alarms and dashboard")
	for _, f := range observe.Filters() {
		awslogs.NewCfnMetricFilter(stack, str(title(f.Function)+f.Metric), &awslogs.CfnMetricFilterProps{
			FilterName: str(f.Metric), LogGroupName: str(s.LogGroupName(f.Function)), FilterPattern: str(f.Pattern),
			MetricTransformations: list(&awslogs.CfnMetricFilter_MetricTransformationProperty{
				MetricNamespace: str(observe.Namespace(s)), MetricName: str(f.Metric), MetricValue: str(f.Value),
			}),
		})
	}
	topic := cfg.AlertTopic
	if topic == "" {
		topic = s.TopicARN()
	}
	for _, a := range observe.Alarms(s) {
		awscloudwatch.NewCfnAlarm(stack, str(title(a.Name)+"Alarm"), alarm(a, s, topic))
	}
	awscloudwatch.NewCfnDashboard(stack, str("Dashboard"), &awscloudwatch.CfnDashboardProps{
		DashboardName: str(s.Prefix), DashboardBody: str(must(observe.Dashboard(s, cfg.CaptureHourUSD))),
	})
	return stack
}

func alarm(a observe.Alarm, s policy.Scope, topic string) *awscloudwatch.CfnAlarmProps {
	props := &awscloudwatch.CfnAlarmProps{
		AlarmName: str(observe.AlarmName(s, a.Name)), AlarmDescription: str(a.Description),
		Namespace: str(a.Metric.Namespace), MetricName: str(a.Metric.Name), Statistic: str(a.Statistic), Period: num(a.Period),
		DatapointsToAlarm: num(a.At), EvaluationPeriods: num(a.Of), Threshold: num(int(a.Threshold)),
		ComparisonOperator: str("GreaterThanOrEqualToThreshold"), TreatMissingData: str(a.Missing),
		AlarmActions: &[]any{str(topic)},
	}
	if a.Below {
		props.ComparisonOperator = str("LessThanThreshold")
	}
	if a.Settles {
		props.OkActions = &[]any{str(topic)}
	}
	if len(a.Metric.Dimensions) > 0 {
		var dimensions []any
		for _, d := range a.Metric.Dimensions {
			dimensions = append(dimensions, &awscloudwatch.CfnAlarm_DimensionProperty{Name: str(d.Name), Value: str(d.Value)})
		}
		props.Dimensions = list(dimensions...)
	}
	return props
}
