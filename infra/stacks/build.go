// Package stacks is the deployment as CDK makes it: one file for each thing that lives and dies together. All decisions are in
// packages config and policy.
package stacks

import (
	"fmt"
	"maps"
	"slices"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"flashtap/events"
	"flashtap/infra/config"
)

// Deployment is all stacks of one deployment.
type Deployment struct {
	Evidence      *Evidence
	Collector     *Collector
	Control       *Control
	Observability awscdk.Stack
	Spoke         awscdk.Stack // nil without a central account
}

// Build makes the stacks. They name no account and no Region: one set of templates serves all.
func Build(app constructs.Construct, cfg config.Config) (*Deployment, error) {
	place := config.Place{Partition: *awscdk.Aws_PARTITION(), Region: *awscdk.Aws_REGION(), Account: *awscdk.Aws_ACCOUNT_ID()}
	d := &Deployment{}
	d.Evidence = NewEvidence(app, cfg, &place)
	d.Collector = NewCollector(app, cfg, &place)
	var err error
	if d.Control, err = NewControl(app, cfg, place); err != nil {
		return nil, err
	}
	if err := AddDocuments(d.Control); err != nil {
		return nil, err
	}
	d.Observability = NewObservability(app, cfg, d.Control.Scope)
	d.Observability.AddStackDependency(d.Control.Stack, str("its filters read the log groups"))
	if cfg.HubAccount != "" {
		d.Spoke = NewSpoke(app, cfg, d.Control.Scope)
	}
	return d, nil
}

// newStack makes a stack with the deployment's name and tags.
func newStack(scope constructs.Construct, cfg config.Config, kind, description string) awscdk.Stack {
	stack := awscdk.NewStack(scope, str(kind), &awscdk.StackProps{
		StackName: str(cfg.Stack(kind)), Description: str("Flashtap " + cfg.Deployment + ": " + description),
	})
	// Dashboards take tags only where CloudFormation knows of that already.
	props := &awscdk.TagProps{ExcludeResourceTypes: jsii.Strings("AWS::CloudWatch::Dashboard")}
	tags := awscdk.Tags_Of(stack)
	tags.Add(str(events.TagDeployment), str(cfg.Deployment), props)
	for _, key := range slices.Sorted(maps.Keys(cfg.Tags)) {
		tags.Add(str(key), str(cfg.Tags[key]), props)
	}
	return stack
}

// output makes a value of a stack visible to people and scripts.
func output(stack awscdk.Stack, id, description string, value *string) {
	awscdk.NewCfnOutput(stack, str(id), &awscdk.CfnOutputProps{Value: value, Description: str(description)})
}

func str(s string) *string  { return jsii.String(s) }
func num(n int) *float64    { return jsii.Number(float64(n)) }
func yes() *bool            { return jsii.Bool(true) }
func list(items ...any) any { return &items }

// must is for what can only fail by a mistake in this program; CDK panics in such cases, too.
func must[T any](v T, err error) T {
	if err != nil {
		panic(fmt.Errorf("stacks: %w", err))
	}
	return v
}
