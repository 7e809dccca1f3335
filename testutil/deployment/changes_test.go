package deployment_test

import (
	"maps"
	"slices"
	"strings"

	"flashtap/events"
	"flashtap/testutil/iam"
)

// change makes an allowed call one that must be denied, by one aspect.
type change struct {
	name string
	// to returns false for a request that has not that aspect. It may change the request, whose context is its own.
	to func(r *iam.Request) bool
	// alone asks about the changed requests only: AWS asks about them also in other calls, or the rest no longer fits.
	alone bool
	// of limits it to certain calls, by the name of the operation; nil for all.
	of []string
}

// change applies c to a call, nil when it does not concern it.
func (w *account) change(m made, c change) []iam.Request {
	if operation := m.what[strings.IndexByte(m.what, '.')+1:]; c.of != nil && !slices.Contains(c.of, operation) {
		return nil
	}
	var all, changed []iam.Request
	for _, r := range m.requests {
		r.Context = maps.Clone(r.Context)
		if c.to(&r) {
			changed = append(changed, r)
		}
		all = append(all, r)
	}
	if len(changed) == 0 || c.alone {
		return changed
	}
	return all
}

// with changes the value of a key that is there.
func with(key, value string) func(*iam.Request) bool {
	return func(r *iam.Request) bool {
		if _, there := r.Context[key]; !there {
			return false
		}
		r.Context[key] = []string{value}
		return true
	}
}

// without removes keys of which at least one is there.
func without(keys ...string) func(*iam.Request) bool {
	return func(r *iam.Request) bool {
		changed := false
		for _, key := range keys {
			if _, there := r.Context[key]; there {
				delete(r.Context, key)
				changed = true
			}
		}
		return changed
	}
}

// elsewhere replaces a part of the ARN.
func elsewhere(from, to string) func(*iam.Request) bool {
	return func(r *iam.Request) bool {
		before := r.Resource
		r.Resource = strings.ReplaceAll(r.Resource, from, to)
		return r.Resource != before
	}
}

// when limits a change to some actions.
func when(actions string, to func(*iam.Request) bool) func(*iam.Request) bool {
	return func(r *iam.Request) bool { return slices.Contains(strings.Fields(actions), r.Action) && to(r) }
}

// both makes two changes at once, for aspects that AWS shows in two keys.
func both(a, b func(*iam.Request) bool) func(*iam.Request) bool {
	return func(r *iam.Request) bool {
		first, second := a(r), b(r)
		return first || second
	}
}

const (
	resourceTag    = "aws:ResourceTag/" + events.TagDeployment
	ec2ResourceTag = "ec2:ResourceTag/" + events.TagDeployment
	requestTag     = "aws:RequestTag/" + events.TagDeployment
)

// changes are the aspects, most of them true of many calls.
func (w *account) changes() []change {
	return slices.Concat(w.tagChanges(), w.placeChanges(), w.launchChanges(), w.objectChanges())
}

// tagChanges are about whose the things of a call are.
func (w *account) tagChanges() []change {
	mirrors := []string{"CreateTrafficMirrorSession"}
	return []change{
		{name: "on a thing of another deployment", to: both(with(resourceTag, "other"), with(ec2ResourceTag, "other"))},
		{name: "on a thing without our tag", to: without(resourceTag, ec2ResourceTag)},
		{name: "making a thing of another deployment", to: with(requestTag, "other")},
		{name: "making a thing without tags", to: func(r *iam.Request) bool {
			_, tagged := r.Context[requestTag]
			for key := range r.Context {
				if key == "aws:TagKeys" || strings.HasPrefix(key, "aws:RequestTag/") {
					delete(r.Context, key)
				}
			}
			return tagged
		}},
		{name: "tagging afterwards", to: without("ec2:CreateAction"), alone: true},
		{name: "tagging in another call", to: with("ec2:CreateAction", "CreateVolume"), alone: true},
		{name: "tagging anything but a wish to stop", of: []string{"CreateTags"}, to: when("ec2:CreateTags", func(r *iam.Request) bool {
			r.Context["aws:TagKeys"], r.Context[requestTag] = []string{events.TagDeployment}, []string{"other"}
			return true
		})},
		{name: "on a suspect that opted out", of: mirrors, to: func(r *iam.Request) bool {
			suspect := strings.Contains(r.Resource, ":network-interface/")
			if suspect {
				r.Context["aws:ResourceTag/"+optOutTag], r.Context["ec2:ResourceTag/"+optOutTag] = []string{"true"}, []string{"true"}
			}
			return suspect
		}},
	}
}

// placeChanges are about where: which deployment, Region, account, VPC.
func (w *account) placeChanges() []change {
	const region, other = "ap-southeast-4", "999999999999"
	vpc := "arn:aws:ec2:" + w.scope.Region + ":" + w.scope.Account + ":vpc/vpc-0999999999999999"
	notS3 := func(to func(*iam.Request) bool) func(*iam.Request) bool {
		return func(r *iam.Request) bool { return !strings.HasPrefix(r.Resource, "arn:aws:s3:") && to(r) }
	}
	return []change{
		{name: "the same of another deployment", to: elsewhere(w.scope.Prefix, "flashtap-other")},
		{name: "in another Region", alone: true, to: notS3(func(r *iam.Request) bool {
			here := with("aws:RequestedRegion", region)(r)
			elsewhere(":"+w.scope.Region+":", ":"+region+":")(r)
			return here && (r.Resource != "*" || !strings.HasPrefix(r.Action, "logs:"))
		})},
		{name: "in another account", alone: true, to: elsewhere(":"+w.scope.Account+":", ":"+other+":")},
		{name: "in a VPC that is not ours to look into", of: []string{"RunInstances", "CreateTrafficMirrorSession", "CreateSecurityGroup"}, to: func(r *iam.Request) bool {
			if strings.Contains(r.Resource, ":vpc/") {
				r.Resource = vpc
				return true
			}
			return with("ec2:Vpc", vpc)(r)
		}},
		{name: "without TLS", alone: true, to: when("s3:PutObject s3:GetObject s3:ListBucket sqs:SendMessage sqs:ReceiveMessage sqs:DeleteMessage",
			func(r *iam.Request) bool { // of CDK's bucket its own policy says that
				return !strings.HasPrefix(r.Resource, w.scope.AssetBucketARN) && with("aws:SecureTransport", "false")(r)
			})},
		{name: "with an old TLS", alone: true, to: func(r *iam.Request) bool {
			return strings.HasPrefix(r.Resource, w.scope.BucketARN) && with("s3:TlsVersion", "1.1")(r)
		}},
		{name: "passing another role", to: when("iam:PassRole", elsewhere(":role/", ":role/other-"))},
		{name: "passing the role to another service", to: with("iam:PassedToService", "lambda.amazonaws.com")},
		{name: "an event in the name of AWS", to: with("events:source", "aws.guardduty")},
		{name: "an event in nobody's name", to: without("events:source")},
	}
}

// launchChanges are about the instance that a launch makes.
func (w *account) launchChanges() []change {
	launches := []string{"RunInstances"}
	template := "arn:aws:ec2:" + w.scope.Region + ":" + w.scope.Account + ":launch-template/lt-0999999999999999"
	return []change{
		{name: "without a launch template", of: launches, to: without("ec2:LaunchTemplate", "ec2:IsLaunchTemplateResource")},
		{name: "by another launch template", of: launches, to: both(elsewhere(w.scope.LaunchTemplateID, "lt-0999999999999999"), with("ec2:LaunchTemplate", template))},
		{name: "with the old metadata service", of: launches, to: with("ec2:MetadataHttpTokens", "optional")},
		{name: "with another profile", of: launches, to: with("ec2:InstanceProfile", w.scope.InstanceProfileARN+"-2")},
		{name: "without a profile", of: launches, to: without("ec2:InstanceProfile")},
		{name: "with an open volume", of: launches, to: with("ec2:Encrypted", "false")},
		{name: "with a public address", of: launches, to: with("ec2:AssociatePublicIpAddress", "true")},
		{name: "of somebody's image", of: launches, to: with("ec2:Owner", "999999999999")},
		{name: "an instance of another profile", of: []string{"TerminateInstances"}, to: with("ec2:InstanceProfile", w.scope.InstanceProfileARN+"-2")},
	}
}

// objectChanges are about objects and the key that encrypts them.
func (w *account) objectChanges() []change {
	const keyHeader, sse = "s3:x-amz-server-side-encryption-aws-kms-key-id", "s3:x-amz-server-side-encryption"
	bucket := w.scope.BucketARN + "/"
	put := []string{"PutObject"}
	// at writes another key; ours says whether it is one that the caller may write all the same.
	at := func(key func(before string) string) func(*iam.Request) bool {
		return when("s3:PutObject", func(r *iam.Request) bool {
			before := strings.TrimPrefix(r.Resource, bucket)
			after := key(before)
			r.Resource = bucket + after
			return after != "" && after != before
		})
	}
	segment := "segments/000001-" + strings.Repeat("b", 64) + ".pcap"
	folder := func(key string) (string, bool) { // of the capture
		parts := strings.SplitN(key, "/", 3)
		if len(parts) < 3 || parts[0] != "captures" {
			return "", false
		}
		return parts[0] + "/" + parts[1] + "/", true
	}
	return []change{
		{name: "an overwriting", to: when("s3:PutObject", without("s3:if-none-match"))},
		{name: "a deletion", of: put, to: when("s3:PutObject", func(r *iam.Request) bool { r.Action = "s3:DeleteObject"; return true }), alone: true},
		{name: "a lock", of: put, to: when("s3:PutObject", func(r *iam.Request) bool { r.Action = "s3:PutObjectRetention"; return true }), alone: true},
		{name: "another bucket", to: when("s3:PutObject s3:GetObject s3:ListBucket", both(elsewhere(w.scope.BucketARN, "arn:aws:s3:::customer-data"), elsewhere(w.scope.AssetBucketARN, "arn:aws:s3:::customer-data"))), alone: true},
		{name: "by another key", of: put, to: when("s3:PutObject", func(r *iam.Request) bool {
			r.Context[sse], r.Context[keyHeader] = []string{"aws:kms"}, []string{otherKey(w.scope)}
			return true
		})},
		{name: "by no key of KMS", of: put, to: when("s3:PutObject", func(r *iam.Request) bool { r.Context[sse] = []string{"AES256"}; return true })},
		{name: "by a key in the request", of: put, to: when("s3:PutObject", func(r *iam.Request) bool {
			r.Context["s3:x-amz-server-side-encryption-customer-algorithm"] = []string{"AES256"}
			return true
		})},
		{name: "beside the captures", of: put, to: at(func(before string) string { return "elsewhere/" + before })},
		{name: "in the place of the program", of: put, to: at(func(before string) string {
			if strings.HasPrefix(before, "tools/") {
				return "" // setup's own
			}
			return "tools/collector-arm64-" + strings.Repeat("b", 64)
		})},
		{name: "as a collector", of: put, to: at(func(before string) string {
			capture, ok := folder(before)
			if !ok {
				return ""
			}
			return capture + "collectors/" + w.roleID + ":" + otherInstance + "9/" + segment
		})},
		{name: "as another actor", of: put, to: at(func(before string) string {
			if capture, ok := folder(before); ok {
				return capture + "custody/somebody-did.json"
			}
			return ""
		})},
		{name: "as the plan", of: put, to: at(func(before string) string {
			if capture, ok := folder(before); ok && !strings.HasSuffix(before, "/plan.json") && !strings.Contains(before, "custody/preflight") {
				return capture + "plan.json"
			}
			return ""
		})},
		{name: "reading what it wrote", of: put, alone: true, to: when("s3:PutObject", func(r *iam.Request) bool {
			r.Action = "s3:GetObject"
			return strings.Contains(r.Resource, "/collectors/")
		})},
		{name: "listing where it writes", of: put, alone: true, to: when("s3:PutObject", func(r *iam.Request) bool {
			collector := strings.Contains(r.Resource, "/collectors/")
			r.Action, r.Resource = "s3:ListBucket", w.scope.BucketARN
			return collector
		})},
		{name: "the key by itself", to: without("kms:ViaService"), alone: true},
		{name: "the key through another service", to: with("kms:ViaService", "sqs."+w.scope.Region+".amazonaws.com"), alone: true},
		{name: "the key for another bucket", to: with("kms:EncryptionContext:aws:s3:arn", "arn:aws:s3:::customer-data"), alone: true},
		{name: "another KMS key", to: elsewhere(w.scope.BucketKeyARN, otherKey(w.scope)), alone: true},
		{name: "signing", alone: true, to: when("kms:GenerateDataKey kms:Decrypt", func(r *iam.Request) bool { r.Action = "kms:Sign"; return true })},
	}
}
