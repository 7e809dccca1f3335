package policy

import "flashtap/events"

// administer allows the account, and through it whoever its IAM policies name, to keep a key in order, and neither to use
// it nor to destroy it. There is no kms:*, which AWS's default policy has.
func (s Scope) administer() Statement {
	return s.onKey("Administer", []string{
		"kms:CancelKeyDeletion", "kms:CreateAlias", "kms:DeleteAlias", "kms:DescribeKey", "kms:EnableKey", "kms:EnableKeyRotation",
		"kms:GetKeyPolicy", "kms:GetKeyRotationStatus", "kms:ListGrants", "kms:ListKeyPolicies", "kms:ListKeyRotations", "kms:ListResourceTags",
		"kms:PutKeyPolicy", "kms:TagResource", "kms:UntagResource", "kms:UpdateAlias", "kms:UpdateKeyDescription",
	})
}

// destroy allows the principals for emergencies what ends a key, and with it everything that it encrypted.
func (s Scope) destroy() []Statement {
	if len(s.BreakGlass) == 0 {
		return nil
	}
	return []Statement{s.onKey("Destroy", []string{"kms:DisableKey", "kms:ScheduleKeyDeletion"}, where("ArnLike", "aws:PrincipalArn", s.BreakGlass...))}
}

// onKey is a statement of a key's policy for the account. What it does not allow, no IAM policy can.
func (s Scope) onKey(sid string, actions []string, conditions ...Condition) Statement {
	st := allow(sid, actions, []string{"*"}, conditions...)
	st.Principal, st.Reason = s.account(), thisKey
	return st
}

// account is the account itself, which stands for whomever its IAM policies allow.
func (s Scope) account() map[string][]string {
	return map[string][]string{"AWS": {"arn:" + s.Partition + ":iam::" + s.Account + ":root"}}
}

// EvidenceKey is the policy of the key that encrypts the evidence bucket: it serves S3, and nothing else. It does not
// name the bucket, which names the key; the roles' own policies do.
func EvidenceKey(s Scope) Document {
	use := s.onKey("UseThroughS3", []string{"kms:Decrypt", "kms:GenerateDataKey"},
		where("StringEquals", "kms:CallerAccount", s.Account), where("StringEquals", "kms:ViaService", s.viaS3()))
	return New(append([]Statement{s.administer(), use}, s.destroy()...)...)
}

// SigningKey is the policy of the key that signs manifests. Anybody in the account may check a signature; only who seals may
// sign, and nothing but digests.
func SigningKey(s Scope) Document {
	sign := s.onKey("Sign", []string{"kms:Sign"}, where("ArnEquals", "aws:PrincipalArn", s.sealers()...), onlyDigests)
	check := s.onKey("CheckSignatures", []string{"kms:GetPublicKey", "kms:Verify"}, where("StringEquals", "kms:CallerAccount", s.Account))
	return New(append([]Statement{s.administer(), check, sign}, s.destroy()...)...)
}

// onlyDigests is a signature as docs/evidence.md has it (section 9).
var onlyDigests = all(where("StringEquals", "kms:SigningAlgorithm", "ECDSA_SHA_256"), where("StringEquals", "kms:MessageType", "DIGEST"))

// Queue is the policy of one of Queues.
func Queue(s Scope, queue string) Document {
	arn := []string{s.QueueARN(queue)}
	list := []Statement{deny("OnlyTLS", []string{"sqs:*"}, arn, insecure)}
	if queue == IntakeQueue || queue == WaitingDeadLetter { // where rules send, and where they leave what they could not send
		send := allow("Rules", []string{"sqs:SendMessage"}, arn, where("ArnLike", "aws:SourceArn", s.ruleARNs()...),
			where("StringEquals", "aws:SourceAccount", s.Account))
		send.Principal = map[string][]string{"Service": {"events.amazonaws.com"}}
		list = append(list, send)
	}
	return New(list...)
}

// Topic is the policy of the alert topic.
func Topic(s Scope) Document {
	arn, publish := []string{s.TopicARN()}, []string{"sns:Publish"}
	alarms := allow("Alarms", publish, arn, where("ArnLike", "aws:SourceArn", s.arn("cloudwatch", "alarm:"+s.Prefix+"-*")),
		where("StringEquals", "aws:SourceAccount", s.Account))
	alarms.Principal = map[string][]string{"Service": {"cloudwatch.amazonaws.com"}}
	// "You can't use Condition blocks in Amazon SNS topic policies for EventBridge" (EventBridge User Guide, "Using
	// resource-based policies").
	rules := allow("EventRules", publish, arn)
	rules.Principal = map[string][]string{"Service": {"events.amazonaws.com"}}
	return New(deny("OnlyTLS", publish, arn, insecure), alarms, rules)
}

// Bus is the policy of the event bus, on which people ask for captures and the deployment tells of them. The account's IAM
// policies say who may; nobody else may, whatever another statement says.
func Bus(s Scope) Document {
	arn, put := []string{s.BusARN()}, []string{"events:PutEvents"}
	return New(
		deny("OnlyThisAccount", put, arn, where("StringNotEquals", "aws:PrincipalAccount", s.Account)),
		deny("OnlyOurEvents", put, arn, where("ForAnyValue:StringNotEquals", "events:source", events.RequestSource)))
}
