package policy

import (
	"slices"

	"flashtap/events"
)

// steps are the Lambdas that the state machine calls.
var steps = []string{"guard", "launch", "mirror", "preflight", "seal", "teardown", "watch"}

// capture is the state machine's own role.
func capture(s Scope) Document {
	var arns []string
	for _, step := range steps {
		arns = append(arns, s.FunctionARN(step))
	}
	log := allow("DeliverLogs", []string{
		"logs:CreateLogDelivery", "logs:DeleteLogDelivery", "logs:DescribeLogGroups", "logs:DescribeResourcePolicies",
		"logs:GetLogDelivery", "logs:ListLogDeliveries", "logs:PutResourcePolicy", "logs:UpdateLogDelivery",
	}, []string{"*"})
	log.Reason = logDeliveries
	return New(allow("RunSteps", []string{"lambda:InvokeFunction"}, arns), s.publish(), log)
}

// schedules is the role that schedules act with: they call two Lambdas, or delete a session without any code of ours.
func schedules(s Scope) Document {
	return New(
		allow("RemoveAndSweep", []string{"lambda:InvokeFunction"}, []string{s.FunctionARN("sweep"), s.FunctionARN("teardown")}),
		allow("EndSession", []string{"ec2:DeleteTrafficMirrorSession"}, []string{s.ec2ARN("traffic-mirror-session/*")}, s.ours()))
}

// collector is the role of the instance that parses what an attacker shaped. All captures share the role, so the
// folder is the one that carries this very instance's id: IAM fills in aws:userid, "<role id>:<instance id>".
func collector(s Scope) Document {
	return New(
		allow("CreateOwnEvidence", []string{"s3:PutObject"}, s.objects(events.CollectorPrefix(anyCapture, "${aws:userid}")+"*"), createOnly),
		allow("ReadOwnProgram", []string{"s3:GetObject"}, s.objects(tools)),
		s.useKey("kms:Decrypt", "kms:GenerateDataKey")) // Decrypt is for the program
}

// automation is the role of the SSM Automation documents (infra/documents): one starts a capture, one ends a capture early,
// one sweeps.
func automation(s Scope) Document {
	return New(
		allow("StartCaptures", []string{"states:StartExecution"}, []string{s.StateMachineARN()}),
		allow("SeeOwnCaptures", []string{"states:DescribeExecution"}, []string{s.ExecutionARN("by-document-*")}),
		s.describe("Instances"), s.askToStop(),
		allow("RecordActs", []string{"s3:PutObject"}, s.objects(custody("operator")), createOnly),
		s.useKey("kms:GenerateDataKey"),
		allow("Sweep", []string{"lambda:InvokeFunction"}, []string{s.FunctionARN("sweep")}))
}

// Operator is what people need for the flashtap command: start, watch, stop, and read evidence. No role of the deployment
// has it; it is for whoever grants it.
func Operator(s Scope) Document {
	return New(slices.Concat(
		s.evidence(records{create: []string{custody("operator")}, read: []string{events.CapturePrefix(anyCapture) + "*"}, list: true}),
		s.survey(), []Statement{
			allow("StartCaptures", []string{"states:StartExecution"}, []string{s.StateMachineARN()}),
			allow("SeeCaptures", []string{"states:DescribeExecution", "states:GetExecutionHistory"}, []string{s.ExecutionARN("*")}),
			s.listSchedules(),
			allow("ReadSchedules", []string{"scheduler:GetSchedule"}, []string{s.ScheduleARN("*")}),
			s.askToStop(),
			allow("ReadSettings", []string{"ssm:GetParameter"}, []string{s.arn("ssm", "parameter"+s.ParameterName("settings"))}),
		})...)
}
