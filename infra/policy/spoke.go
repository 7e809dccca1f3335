package policy

import "flashtap/events"

// SpokeRole is a role that people of a central account assume in this one. Its name is fixed, since the central account has to
// know it.
type SpokeRole struct {
	Name   string // what follows the deployment's prefix
	About  string
	Policy func(Scope) Document
}

// SpokeRoles are the roles for a central account: one that reads evidence, one that asks for captures. Neither can do what the
// other does, nor start anything past the queue and its caps.
func SpokeRoles() []SpokeRole {
	return []SpokeRole{
		{"reader", "reads the evidence of captures", reader},
		{"requester", "asks for captures, and sees how they stand", requester},
	}
}

// SpokeRoleName is the name of a spoke role. IAM is global, so the Region is in it.
func (s Scope) SpokeRoleName(role string) string { return s.Prefix + "-" + role + "-" + s.Region }

// ExternalID must be given by whoever assumes a spoke role: the central account may serve others, who must not have it act
// here (IAM User Guide, "The confused deputy problem"). It is no secret.
func (s Scope) ExternalID() string { return s.Prefix }

// SpokeTrust lets a central account assume a spoke role; its own IAM policies say who there may.
func SpokeTrust(s Scope, account string) Document {
	return New(Statement{
		Effect: Allow, Principal: map[string][]string{"AWS": {"arn:" + s.Partition + ":iam::" + account + ":root"}},
		Action: []string{"sts:AssumeRole"}, Condition: where("StringEquals", "sts:ExternalId", s.ExternalID()),
	})
}

func reader(s Scope) Document {
	return New(
		allow("ReadEvidence", []string{"s3:GetObject", "s3:GetObjectVersion"}, s.objects(events.CapturesPrefix()+"*")),
		allow("ListEvidence", []string{"s3:ListBucket"}, []string{s.BucketARN}, where("StringLike", "s3:prefix", events.CapturesPrefix()+"*")),
		s.useKey("kms:Decrypt"))
}

func requester(s Scope) Document {
	return New(
		allow("RequestCaptures", []string{"events:PutEvents"}, []string{s.BusARN()}, only("events:source", events.RequestSource),
			only("events:detail-type", events.RequestDetailType)),
		allow("ListCaptures", []string{"states:ListExecutions"}, []string{s.StateMachineARN()}),
		allow("ReadCaptures", []string{"states:DescribeExecution", "states:GetExecutionHistory"}, []string{s.ExecutionARN("*")}))
}
