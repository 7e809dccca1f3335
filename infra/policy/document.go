// Package policy holds every IAM statement that a deployment contains, as plain data: the CDK app deploys it, and tests
// read it without CDK.
package policy

import (
	"encoding/json"
	"fmt"
)

// Document is a policy in IAM's JSON grammar (IAM User Guide, "Grammar of the IAM JSON policy language").
type Document struct {
	Version   string
	Statement []Statement
}

// Statement is one statement. Lists are always lists, so that two documents can be compared.
type Statement struct {
	Sid       string              `json:",omitempty"`
	Effect    string              // Allow or Deny
	Principal map[string][]string `json:",omitempty"` // resource policies: by AWS, Service, Federated; AWS "*" is everybody
	Action    []string
	Resource  []string  `json:",omitempty"` // none in an assume-role policy
	Condition Condition `json:",omitempty"`

	// Reason says why Resource is "*". It is for readers and for the table of roles, and is not deployed.
	Reason string `json:"-"`
}

// Condition holds values by operator and key.
type Condition map[string]map[string][]string

// Effects.
const (
	Allow = "Allow"
	Deny  = "Deny"
)

// New makes a document of statements.
func New(statements ...Statement) Document {
	return Document{Version: "2012-10-17", Statement: statements}
}

// Map is the document as the values that encoding/json makes, which is how CDK takes it.
func (d Document) Map() (map[string]any, error) {
	text, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("policy document: %w", err)
	}
	var m map[string]any
	if err := json.Unmarshal(text, &m); err != nil {
		return nil, fmt.Errorf("policy document: %w", err)
	}
	return m, nil
}
