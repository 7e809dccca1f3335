// Package authorization holds IAM policies against what AWS says of its actions: which exist, on which types of resources
// they act, and which condition keys they know. IAM itself accepts any of it and then silently denies.
package authorization

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Data is a part of AWS's Service Authorization Reference. infra/policy/testdata/SOURCES.md says where it is from.
type Data struct {
	Source  string `json:"source"`
	Version string `json:"version"`

	Global   map[string]string   `json:"global"` // types of the condition keys that every service knows
	Services map[string]*Service `json:"services"`
}

// Service is one service, by the prefix of its actions.
type Service struct {
	Actions       map[string]*Action       `json:"actions"`
	ResourceTypes map[string]*ResourceType `json:"resourceTypes"`
	ConditionKeys map[string]string        `json:"conditionKeys"` // their types
}

// Action is one action.
type Action struct {
	Access        string   `json:"access"` // Read, List, Write, Tagging or Permissions management
	ConditionKeys []string `json:"conditionKeys,omitempty"`
	On            []On     `json:"on,omitempty"` // none: only Resource "*" matches
}

// On is a type of resource on which an action acts.
type On struct {
	Type          string   `json:"type"`
	Required      bool     `json:"required,omitempty"`
	ConditionKeys []string `json:"conditionKeys,omitempty"`
}

// ResourceType is a type of resource.
type ResourceType struct {
	ARN           string   `json:"arn"` // with ${placeholders}
	ConditionKeys []string `json:"conditionKeys,omitempty"`
}

// file is where the data lies in the module.
const file = "infra/policy/testdata/authorization.json"

// Load reads the data of the module in which a test runs.
func Load() (*Data, error) {
	root, err := ModuleRoot()
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(file)))
	if err != nil {
		return nil, err
	}
	var d Data
	if err := json.Unmarshal(text, &d); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return &d, nil
}

// ModuleRoot is the folder with go.mod, from the working folder upwards.
func ModuleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		_, err := os.Stat(filepath.Join(dir, "go.mod"))
		if err == nil {
			return dir, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("no go.mod above the working folder")
		}
		dir = parent
	}
}

// action finds an action by its name, such as ec2:RunInstances; IAM does not mind the case, but we do, for the reader.
func (d *Data) action(name string) (*Service, *Action) {
	prefix, verb, _ := strings.Cut(name, ":")
	service := d.Services[prefix]
	if service == nil {
		return nil, nil
	}
	return service, service.Actions[verb]
}

// on is what the action says of a type; nil when it does not act on it.
func (a *Action) on(kind string) *On {
	for i := range a.On {
		if a.On[i].Type == kind {
			return &a.On[i]
		}
	}
	return nil
}

// types are the types on which an action acts that an ARN or a pattern of ARNs may mean.
func (s *Service) types(a *Action, resource string) []string {
	var list []string
	for _, on := range a.On {
		if kind := s.ResourceTypes[on.Type]; kind != nil && overlaps(resource, kind.ARN) {
			list = append(list, on.Type)
		}
	}
	return list
}

// Tags in requests and on resources look like keys that every service knows, but each action says for itself on which
// resources it knows them.
var tagKeys = []string{"aws:RequestTag/${TagKey}", "aws:ResourceTag/${TagKey}", "aws:TagKeys"}

// globalType is the type of a condition key that every service knows; "" when it is none.
func (d *Data) globalType(key string) string {
	if matchesAny(key, tagKeys) {
		return ""
	}
	return typeOf(key, d.Global)
}

// keyType is the type of a condition key for a service.
func (d *Data) keyType(s *Service, key string) string {
	if t := typeOf(key, s.ConditionKeys); t != "" {
		return t
	}
	return typeOf(key, d.Global)
}

func typeOf(key string, types map[string]string) string {
	for name, t := range types {
		if matchesKey(key, name) {
			return t
		}
	}
	return ""
}

func matchesAny(key string, names []string) bool {
	for _, name := range names {
		if matchesKey(key, name) {
			return true
		}
	}
	return false
}
