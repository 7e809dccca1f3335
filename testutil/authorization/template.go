package authorization

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"flashtap/infra/policy"
)

// Templates are CloudFormation templates by the names of their stacks.
type Templates map[string]map[string]any

// ReadTemplates reads the templates of a folder that cdk synth has written.
func ReadTemplates(dir string) (Templates, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.template.json"))
	if err != nil {
		return nil, err
	}
	t := Templates{}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		var template map[string]any
		if err := json.Unmarshal(text, &template); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		t[strings.TrimSuffix(filepath.Base(name), ".template.json")] = template
	}
	return t, nil
}

// Policies are all policies in the templates. What only a deployment would know has example values in the account and
// Region of s.
func (t Templates) Policies(s policy.Scope) ([]Named, error) {
	var list []Named
	o := OptionsFor(s)
	o.Reasons = false // they are not deployed
	for _, stack := range slices.Sorted(maps.Keys(t)) {
		r := resolver{templates: t, scope: s, stack: stack}
		resources := object(t[stack]["Resources"])
		for _, id := range slices.Sorted(maps.Keys(resources)) {
			resource := object(resources[id])
			found, err := r.policies(id, resource, o)
			if err != nil {
				return nil, fmt.Errorf("%s: %s %s: %w", stack, resource["Type"], id, err)
			}
			list = append(list, found...)
		}
	}
	return list, nil
}

// policies are those of one resource.
func (r resolver) policies(id string, resource map[string]any, o Options) ([]Named, error) {
	var list []Named
	properties := object(resource["Properties"])
	take := func(what string, raw any, kind Kind, self string) error {
		value, err := r.value(raw)
		if err != nil {
			return err
		}
		d, err := Parse(value)
		if err != nil {
			return err
		}
		o := o
		o.Kind, o.Self = kind, self
		list = append(list, Named{strings.TrimSpace(r.stack + " " + id + " " + what), d, o})
		return nil
	}
	switch resource["Type"] {
	case "AWS::IAM::Role":
		if managed, _ := properties["ManagedPolicyArns"].([]any); len(managed) > 0 {
			return nil, fmt.Errorf("managed policies %v, whose statements nobody here has read", managed)
		}
		if err := take("trust", properties["AssumeRolePolicyDocument"], Trust, ""); err != nil {
			return nil, err
		}
		inline, _ := properties["Policies"].([]any)
		for _, p := range inline {
			name, _ := object(p)["PolicyName"].(string)
			if err := take(name, object(p)["PolicyDocument"], Identity, ""); err != nil {
				return nil, err
			}
		}
	case "AWS::IAM::Policy", "AWS::IAM::ManagedPolicy":
		err := take("", properties["PolicyDocument"], Identity, "")
		return list, err
	case "AWS::S3::BucketPolicy", "AWS::SQS::QueuePolicy", "AWS::SNS::TopicPolicy", "AWS::EC2::VPCEndpoint":
		if properties["PolicyDocument"] == nil {
			return nil, nil
		}
		err := take("", properties["PolicyDocument"], Resource, "")
		return list, err
	case "AWS::KMS::Key":
		self, err := r.attribute(id, "Arn")
		if err == nil {
			err = take("", properties["KeyPolicy"], Resource, self)
		}
		return list, err
	case "AWS::Events::EventBusPolicy":
		err := take("", map[string]any{"Version": "2012-10-17", "Statement": properties["Statement"]}, Resource, "")
		return list, err
	case "AWS::Events::EventBus":
		if properties["Policy"] != nil {
			err := take("", properties["Policy"], Resource, "")
			return list, err
		}
	}
	return list, nil
}

// Parse reads a document as encoding/json has it. In templates, values may stand alone where policy.Document has lists.
func Parse(document any) (policy.Document, error) {
	d := policy.Document{}
	raw := object(document)
	d.Version, _ = raw["Version"].(string)
	var err error
	for _, item := range many(raw["Statement"]) {
		st := policy.Statement{}
		for key, value := range object(item) {
			switch key {
			case "Sid":
				st.Sid, _ = value.(string)
			case "Effect":
				st.Effect, _ = value.(string)
			case "Action":
				st.Action, err = texts(value)
			case "Resource":
				st.Resource, err = texts(value)
			case "Principal":
				if value == "*" {
					value = map[string]any{"AWS": "*"}
				}
				st.Principal, err = lists(value)
			case "Condition":
				for operator, keys := range object(value) {
					if st.Condition == nil {
						st.Condition = policy.Condition{}
					}
					if st.Condition[operator], err = lists(keys); err != nil {
						return d, err
					}
				}
			default:
				return d, fmt.Errorf("statement %q: %s is not used by any policy of ours", st.Sid, key)
			}
			if err != nil {
				return d, fmt.Errorf("statement: %s: %w", key, err)
			}
		}
		d.Statement = append(d.Statement, st)
	}
	return d, nil
}

func object(v any) map[string]any {
	m, _ := v.(map[string]any)
	return m
}

func many(v any) []any {
	if list, ok := v.([]any); ok {
		return list
	}
	return []any{v}
}

func texts(v any) ([]string, error) {
	var list []string
	for _, item := range many(v) {
		switch item := item.(type) {
		case string:
			list = append(list, item)
		case bool:
			list = append(list, fmt.Sprint(item))
		default:
			return nil, fmt.Errorf("%v is no text", item)
		}
	}
	return list, nil
}

func lists(v any) (map[string][]string, error) {
	m := map[string][]string{}
	for key, value := range object(v) {
		list, err := texts(value)
		if err != nil {
			return nil, err
		}
		m[key] = list
	}
	return m, nil
}
