package plan

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"flashtap/events"
)

// statement is what we read of an IAM policy's statement.
type statement struct {
	Effect      string
	Action      oneOrMany[string]
	NotAction   oneOrMany[string]
	Resource    oneOrMany[string]
	NotResource oneOrMany[string]
	Condition   json.RawMessage
}

// need is one thing that the collector does in the bucket.
type need struct{ action, object string }

// admits says whether a gateway endpoint's policy lets the collector put evidence into the bucket and read its program.
// Conditions are not evaluated: a conditional Allow is taken to admit and a conditional Deny not to apply, since only a
// request could tell.
func admits(f Facts, id string) (bool, string) {
	i := slices.IndexFunc(f.Endpoints, func(e types.VpcEndpoint) bool { return aws.ToString(e.VpcEndpointId) == id })
	if i < 0 {
		return false, "endpoint " + id + " is not one of S3's"
	}
	text := aws.ToString(f.Endpoints[i].PolicyDocument)
	if text == "" {
		return true, "" // the default policy allows everything
	}
	if decoded, err := url.QueryUnescape(text); err == nil && strings.HasPrefix(strings.TrimSpace(decoded), "{") {
		text = decoded
	}
	var policy struct{ Statement oneOrMany[statement] }
	if err := json.Unmarshal([]byte(text), &policy); err != nil {
		return false, fmt.Sprintf("the policy of endpoint %s can't be read: %v", id, err)
	}
	needs := []need{{"s3:PutObject", events.CapturePrefix(f.Request.Capture) + "plan.json"}}
	for _, c := range configured(f.Settings) {
		needs = append(needs, need{"s3:GetObject", c.BinaryKey})
	}
	for _, n := range needs {
		allowed := false
		for _, s := range policy.Statement {
			if !s.covers(n.action, bucketARN(f.Settings)+"/"+n.object) {
				continue
			}
			if s.Effect == "Deny" && s.Condition == nil {
				return false, fmt.Sprintf("the policy of endpoint %s denies %s on %s/%s", id, n.action, f.Settings.Bucket, n.object)
			}
			allowed = allowed || s.Effect == "Allow"
		}
		if !allowed {
			return false, fmt.Sprintf("the policy of endpoint %s does not admit %s on %s/%s", id, n.action, f.Settings.Bucket, n.object)
		}
	}
	return true, ""
}

// covers says whether the statement is about an action on a resource.
func (s statement) covers(action, resource string) bool {
	return among(action, s.Action, s.NotAction, strings.ToLower) && among(resource, s.Resource, s.NotResource, func(s string) string { return s })
}

// among says whether a name is in the list of patterns or, when the statement gives the other list, out of that one.
func among(name string, in, out []string, fold func(string) string) bool {
	listed := func(patterns []string) bool {
		return slices.ContainsFunc(patterns, func(p string) bool { return matches(fold(p), fold(name)) })
	}
	if len(out) > 0 {
		return !listed(out)
	}
	return listed(in)
}

// matches says whether an IAM pattern covers a name: * stands for anything, ? for any one character (IAM User Guide,
// "IAM JSON policy elements: Resource").
func matches(pattern, name string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return len(name) == len(pattern) && begins(name, pattern)
	}
	first, last := parts[0], parts[len(parts)-1]
	if !begins(name, first) {
		return false
	}
	name = name[len(first):]
	for _, part := range parts[1 : len(parts)-1] { // the leftmost place leaves most to what follows
		for !begins(name, part) {
			if name == "" {
				return false
			}
			name = name[1:]
		}
		name = name[len(part):]
	}
	return len(name) >= len(last) && begins(name[len(name)-len(last):], last)
}

// begins says whether a name begins like a pattern without stars.
func begins(name, pattern string) bool {
	if len(name) < len(pattern) {
		return false
	}
	for i := range len(pattern) {
		if pattern[i] != '?' && pattern[i] != name[i] {
			return false
		}
	}
	return true
}

// oneOrMany reads what IAM writes as a single value or as a list.
type oneOrMany[T any] []T

func (o *oneOrMany[T]) UnmarshalJSON(data []byte) error {
	var many []T
	if json.Unmarshal(data, &many) == nil {
		*o = many
		return nil
	}
	var one T
	if err := json.Unmarshal(data, &one); err != nil {
		return err
	}
	*o = oneOrMany[T]{one}
	return nil
}
