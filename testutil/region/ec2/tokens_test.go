package ec2

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// Every Create that takes a client token makes one resource for it, however often
// and however late it is asked.
func TestTokenMakesOneResource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLand(t, Config{Pending: 365 * 24 * time.Hour, EndpointDelay: time.Second})
		eni := l.collectorInterface("c7gn.large")
		target, filter := l.target(l.collectorInterface("c7gn.large")), l.filter()
		token := aws.String("capture-7-attempt-1")
		for _, row := range []struct {
			operation string
			create    func(change bool) (string, error)
		}{
			{"CreateTrafficMirrorTarget", func(change bool) (string, error) {
				in := &sdk.CreateTrafficMirrorTargetInput{NetworkInterfaceId: &eni, ClientToken: token}
				if change {
					in.Description = aws.String("changed")
				}
				out, err := l.api.CreateTrafficMirrorTarget(ctx, in)
				if err != nil {
					return "", err
				}
				return *out.TrafficMirrorTarget.TrafficMirrorTargetId, nil
			}},
			{"CreateTrafficMirrorFilter", func(change bool) (string, error) {
				in := &sdk.CreateTrafficMirrorFilterInput{ClientToken: token}
				if change {
					in.TagSpecifications = tagSpec("traffic-mirror-filter", "a", "b")
				}
				out, err := l.api.CreateTrafficMirrorFilter(ctx, in)
				if err != nil {
					return "", err
				}
				return *out.TrafficMirrorFilter.TrafficMirrorFilterId, nil
			}},
			{"CreateTrafficMirrorFilterRule", func(change bool) (string, error) {
				in := &sdk.CreateTrafficMirrorFilterRuleInput{TrafficMirrorFilterId: &filter, RuleNumber: aws.Int32(1), RuleAction: "accept", TrafficDirection: "egress",
					SourceCidrBlock: aws.String("0.0.0.0/0"), DestinationCidrBlock: aws.String("0.0.0.0/0"), ClientToken: token}
				if change {
					in.RuleAction = "reject"
				}
				out, err := l.api.CreateTrafficMirrorFilterRule(ctx, in)
				if err != nil {
					return "", err
				}
				return *out.TrafficMirrorFilterRule.TrafficMirrorFilterRuleId, nil
			}},
			{"CreateTrafficMirrorSession", func(change bool) (string, error) {
				in := &sdk.CreateTrafficMirrorSessionInput{NetworkInterfaceId: &l.source, TrafficMirrorTargetId: &target, TrafficMirrorFilterId: &filter, SessionNumber: aws.Int32(1), ClientToken: token}
				if change {
					in.VirtualNetworkId = aws.Int32(5)
				}
				out, err := l.api.CreateTrafficMirrorSession(ctx, in)
				if err != nil {
					return "", err
				}
				return *out.TrafficMirrorSession.TrafficMirrorSessionId, nil
			}},
			{"CreateNetworkInterface", func(change bool) (string, error) {
				in := &sdk.CreateNetworkInterfaceInput{SubnetId: &l.subnet, ClientToken: token}
				if change {
					in.Description = aws.String("changed")
				}
				out, err := l.api.CreateNetworkInterface(ctx, in)
				if err != nil {
					return "", err
				}
				return *out.NetworkInterface.NetworkInterfaceId, nil
			}},
			{"CreateVpcEndpoint", func(change bool) (string, error) {
				in := &sdk.CreateVpcEndpointInput{VpcId: &l.vpc, ServiceName: aws.String("com.amazonaws.us-east-1.s3"), ClientToken: token}
				if change {
					in.PolicyDocument = aws.String("{}")
				}
				out, err := l.api.CreateVpcEndpoint(ctx, in)
				if err != nil {
					return "", err
				}
				return *out.VpcEndpoint.VpcEndpointId, nil
			}},
			{"RunInstances", func(change bool) (string, error) {
				i, err := l.launch(func(in *sdk.RunInstancesInput) {
					in.ClientToken = token
					if change {
						in.UserData = aws.String("aGk=")
					}
				})
				if err != nil {
					return "", err
				}
				return *i.InstanceId, nil
			}},
		} {
			first, err := row.create(false)
			l.must(err)
			count := len(l.Resources())
			time.Sleep(10 * time.Minute)
			again, err := row.create(false)
			l.must(err)
			l.equal(row.operation+" again", again, first)
			_, err = row.create(true)
			l.refused(err, "IdempotentParameterMismatch")
			l.equal("resources after repetitions of "+row.operation, len(l.Resources()), count)
		}
	})
}

func TestTokenOfATerminatedInstance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLand(t, Config{ShuttingDown: time.Minute})
		token := func(in *sdk.RunInstancesInput) { in.ClientToken = aws.String("one") }
		made, err := l.launch(token)
		l.must(err)
		time.Sleep(time.Second)
		_, err = l.api.TerminateInstances(ctx, &sdk.TerminateInstancesInput{InstanceIds: []string{*made.InstanceId}})
		l.must(err)
		again, err := l.launch(token)
		l.must(err)
		l.equal("the instance again", []any{*again.InstanceId, again.State.Name}, []any{*made.InstanceId, "shutting-down"})
		time.Sleep(2 * time.Minute)
		_, err = l.launch(token)
		l.refused(err, "IdempotentInstanceTerminated")
		time.Sleep(2 * time.Hour) // when it is no longer described
		_, err = l.launch(token)
		l.refused(err, "IdempotentInstanceTerminated")
		l.equal("instances", len(l.Instances()), 1)
	})
}

func TestTokenOfALaunchCountsInItsZone(t *testing.T) {
	l := newLand(t, Config{Pending: time.Hour})
	token := aws.String("one")
	first, err := l.launch(func(in *sdk.RunInstancesInput) { in.ClientToken = token })
	l.must(err)
	second, err := l.launch(func(in *sdk.RunInstancesInput) { in.ClientToken, in.SubnetId = token, &l.other })
	l.must(err)
	if *first.InstanceId == *second.InstanceId {
		t.Error("one instance answers for two zones")
	}
}

// A token goes on standing for what was deleted: a retry then names something
// that is gone, and only another token makes a new one.
func TestTokenOfADeletedResource(t *testing.T) {
	l := newLand(t, Config{})
	eni := l.collectorInterface("c7gn.large")
	in := &sdk.CreateTrafficMirrorTargetInput{NetworkInterfaceId: &eni, ClientToken: aws.String("one")}
	made, err := l.api.CreateTrafficMirrorTarget(ctx, in)
	l.must(err)
	_, err = l.api.DeleteTrafficMirrorTarget(ctx, &sdk.DeleteTrafficMirrorTargetInput{TrafficMirrorTargetId: made.TrafficMirrorTarget.TrafficMirrorTargetId})
	l.must(err)
	again, err := l.api.CreateTrafficMirrorTarget(ctx, in)
	l.must(err)
	l.equal("the target again", *again.TrafficMirrorTarget.TrafficMirrorTargetId, *made.TrafficMirrorTarget.TrafficMirrorTargetId)
	l.equal("left", l.Left(), "[]")
}

func TestTokenOfAFailedCallIsFree(t *testing.T) {
	l := newLand(t, Config{Pending: time.Hour})
	l.SetCapacity("c7gn.large", "us-east-1a", 0)
	token := func(in *sdk.RunInstancesInput) { in.ClientToken = aws.String("one") }
	_, err := l.launch(token)
	l.refused(err, "InsufficientInstanceCapacity")
	l.SetCapacity("c7gn.large", "us-east-1a", -1)
	_, err = l.launch(token)
	l.must(err)
}

func TestTokenForm(t *testing.T) {
	l := newLand(t, Config{})
	for reason, token := range map[string]string{"65 characters": strings.Repeat("x", 65), "not ASCII": "é", "a line break": "a\nb"} {
		_, err := l.api.CreateTrafficMirrorFilter(ctx, &sdk.CreateTrafficMirrorFilterInput{ClientToken: &token})
		l.refused(err, "InvalidParameterValue")
		if t.Failed() {
			t.Fatal(reason)
		}
	}
	_, err := l.api.CreateTrafficMirrorFilter(ctx, &sdk.CreateTrafficMirrorFilterInput{ClientToken: aws.String(strings.Repeat("x", 64))})
	l.must(err)
}

func TestTagsOnCreate(t *testing.T) {
	l := newLand(t, Config{})
	many := func(n int) []types.TagSpecification {
		var pairs []string
		for i := range n {
			pairs = append(pairs, "key-"+strings.Repeat("i", i), "v")
		}
		return tagSpec("traffic-mirror-filter", pairs...)
	}
	for _, row := range []struct {
		reason string
		tags   []types.TagSpecification
		code   string
	}{
		{"of its type", tagSpec("traffic-mirror-filter", "case", "7", "empty", ""), ""},
		{"of another type", tagSpec("traffic-mirror-session", "case", "7"), "InvalidParameterValue"},
		{"of one type twice", append(tagSpec("traffic-mirror-filter", "a", ""), tagSpec("traffic-mirror-filter", "b", "")...), "InvalidParameterValue"},
		{"of no type", tagSpec("", "a", ""), "MissingParameter"},
		{"one key twice", tagSpec("traffic-mirror-filter", "a", "1", "a", "2"), "InvalidParameterValue"},
		{"an empty key", tagSpec("traffic-mirror-filter", "", "1"), "InvalidParameterValue"},
		{"a key of AWS", tagSpec("traffic-mirror-filter", "aws:x", "1"), "InvalidParameterValue"},
		{"a key of AWS in capitals", tagSpec("traffic-mirror-filter", "AWS:x", "1"), "InvalidParameterValue"},
		{"a key of 128", tagSpec("traffic-mirror-filter", strings.Repeat("ä", 128), "1"), ""},
		{"a key of 129", tagSpec("traffic-mirror-filter", strings.Repeat("k", 129), "1"), "InvalidParameterValue"},
		{"a value of 256", tagSpec("traffic-mirror-filter", "k", strings.Repeat("v", 256)), ""},
		{"a value of 257", tagSpec("traffic-mirror-filter", "k", strings.Repeat("v", 257)), "InvalidParameterValue"},
		{"50 tags", many(50), ""},
		{"51 tags", many(51), "TagLimitExceeded"},
	} {
		t.Run(row.reason, func(t *testing.T) {
			l.t = t
			out, err := l.api.CreateTrafficMirrorFilter(ctx, &sdk.CreateTrafficMirrorFilterInput{TagSpecifications: row.tags})
			if row.code != "" {
				l.refused(err, row.code)
				return
			}
			l.must(err)
			l.equal("tags", len(out.TrafficMirrorFilter.Tags), len(row.tags[0].Tags))
		})
	}
}

func TestTagsLater(t *testing.T) {
	var told []map[string]string
	l := newLand(t, Config{Pending: time.Hour, Hooks: Hooks{Tagged: func(_ string, tags map[string]string) { told = append(told, tags) }}})
	made, err := l.launch()
	l.must(err)
	id := *made.InstanceId
	tag := func(key, value string) []types.Tag { return []types.Tag{{Key: &key, Value: &value}} }
	_, err = l.api.CreateTags(ctx, &sdk.CreateTagsInput{Resources: []string{id, l.source}, Tags: tag("stop", "now")})
	l.must(err)
	l.equal("told", []any{len(told), told[0]["stop"], told[0]["app"]}, []any{1, "now", "flashtap"})
	l.equal("the interface's tag", l.Tags(l.source)["stop"], "now")
	_, err = l.api.CreateTags(ctx, &sdk.CreateTagsInput{Resources: []string{id}, Tags: tag("a/b", "")})
	l.refused(err, "InvalidParameterValue") // its tags are shown by IMDS
	_, err = l.api.CreateTags(ctx, &sdk.CreateTagsInput{Resources: []string{l.source}, Tags: tag("a/b", "")})
	l.must(err)
	_, err = l.api.CreateTags(ctx, &sdk.CreateTagsInput{Resources: []string{"i-0123456789abcdef0"}, Tags: tag("a", "")})
	l.refused(err, "InvalidInstanceID.NotFound")
	_, err = l.api.CreateTags(ctx, &sdk.CreateTagsInput{Resources: []string{"thing-1"}, Tags: tag("a", "")})
	l.refused(err, "InvalidID")

	_, err = l.api.DeleteTags(ctx, &sdk.DeleteTagsInput{Resources: []string{id}, Tags: tag("stop", "later")})
	l.must(err)
	l.equal("tag after the deletion of another value", l.Tags(id)["stop"], "now")
	_, err = l.api.DeleteTags(ctx, &sdk.DeleteTagsInput{Resources: []string{id}, Tags: []types.Tag{{Key: aws.String("stop")}}})
	l.must(err)
	_, err = l.api.DeleteTags(ctx, &sdk.DeleteTagsInput{Resources: []string{id}, Tags: []types.Tag{{Key: aws.String("aws:ec2launchtemplate:id")}}})
	l.refused(err, "InvalidParameterValue")
	if _, there := l.Tags(id)["stop"]; there {
		t.Error("the tag is still there")
	}
	out, err := l.api.DescribeTags(ctx, &sdk.DescribeTagsInput{Filters: append(filterOf("resource-type", "instance"), filterOf("key", "app")...)})
	l.must(err)
	l.equal("described", []any{len(out.Tags), *out.Tags[0].ResourceId}, []any{1, id})
	out, err = l.api.DescribeTags(ctx, &sdk.DescribeTagsInput{Filters: filterOf("tag:app", "flash*")})
	l.must(err)
	l.equal("described by tag:", len(out.Tags), 1)
	l.SetTags(id, map[string]string{"deadline": "1"})
	l.equal("told of a tag from outside", told[len(told)-1]["deadline"], "1")
}
