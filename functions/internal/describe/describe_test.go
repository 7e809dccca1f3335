package describe

import (
	"reflect"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// TestTagSpecification: EC2 compares parameters when it sees a client token again, so the same tags must always be in
// the same order.
func TestTagSpecification(t *testing.T) {
	tags := map[string]string{}
	for _, key := range []string{"e", "b", "d", "a", "c", "Name", "flashtap:capture"} {
		tags[key] = "value of " + key
	}
	first := TagSpecification(types.ResourceTypeInstance, tags)
	for range 50 {
		if again := TagSpecification(types.ResourceTypeInstance, tags); !reflect.DeepEqual(first, again) {
			t.Fatalf("%v, and %v", first.Tags, again.Tags)
		}
	}
	if len(first.Tags) != len(tags) || first.ResourceType != types.ResourceTypeInstance {
		t.Errorf("%+v", first)
	}
	for key, value := range tags {
		if got := Tag(first.Tags, key); got != value {
			t.Errorf("tag %s is %q", key, got)
		}
	}
	if got := Tag([]types.Tag{{}, {Key: aws.String("x")}}, "a"); got != "" {
		t.Errorf("a tag that is not there is %q", got)
	}
}
