// Package documents holds the SSM Automation documents of a deployment: forms in the console for people who start a capture,
// end one early, or want proof that nothing is left. Each is a JSON file, and a script that its only step runs.
package documents

import (
	"embed"
	"encoding/json"
	"fmt"
	"regexp"
)

//go:embed *.json *.py
var files embed.FS

// Names are what the documents name. All strings may hold CDK tokens.
type Names struct {
	AutomationRole  string // ARN of the role that the documents act with
	Deployment      string
	StateMachine    string // ARN
	InstanceProfile string // ARN of the collectors'
	Bucket          string
	Sweep           string // name or ARN of the function
}

// Document is one SSM document.
type Document struct {
	Name    string // what follows the deployment's prefix
	Content map[string]any
}

// All are all documents, with their placeholders filled in.
func All(n Names) ([]Document, error) {
	var list []Document
	for _, name := range []string{"capture", "stop", "prove"} {
		text, err := files.ReadFile(name + ".json")
		if err != nil {
			return nil, err
		}
		script, err := files.ReadFile(name + ".py")
		if err != nil {
			return nil, err
		}
		var content map[string]any
		if err := json.Unmarshal(text, &content); err != nil {
			return nil, fmt.Errorf("document %s: %w", name, err)
		}
		f := filler{names: map[string]string{
			"Script": string(script), "AutomationRole": n.AutomationRole, "Deployment": n.Deployment, "StateMachine": n.StateMachine,
			"InstanceProfile": n.InstanceProfile, "Bucket": n.Bucket, "Sweep": n.Sweep,
		}}
		content = f.fill(content).(map[string]any)
		if f.err != nil {
			return nil, fmt.Errorf("document %s: %w", name, f.err)
		}
		list = append(list, Document{Name: name, Content: content})
	}
	return list, nil
}

var placeholder = regexp.MustCompile(`\$\{[A-Za-z]+\}`)

// filler fills placeholders in values; what it fills in may hold anything, and is not looked at again.
type filler struct {
	names map[string]string
	err   error
}

func (f *filler) fill(v any) any {
	switch v := v.(type) {
	case string:
		return placeholder.ReplaceAllStringFunc(v, func(p string) string {
			value := f.names[p[2:len(p)-1]]
			if value == "" {
				f.err = fmt.Errorf("nothing is given for %s", p)
			}
			return value
		})
	case map[string]any:
		filled := map[string]any{}
		for key, member := range v {
			filled[key] = f.fill(member)
		}
		return filled
	case []any:
		filled := make([]any, len(v))
		for i, item := range v {
			filled[i] = f.fill(item)
		}
		return filled
	}
	return v
}
