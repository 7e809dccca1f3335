package service

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"
)

// Simulation asks IAM what it would decide if a principal called each of the actions on each of the resources.
type Simulation struct {
	Principal string // ARN of a role
	Actions   []string
	Resources []string // ARNs
	Context   map[string][]string
}

// Decision is what IAM would decide about one action on one resource.
type Decision struct {
	Action, Resource string
	Decision         string   // allowed, explicitDeny or implicitDeny
	Organizations    string   // "", or whether the organization's policies (SCPs) allow it: true or false
	Boundary         string   // "", or whether the role's permissions boundary allows it: true or false
	Missing          []string // context keys of a matching statement for which no value was given
}

// maxSimulated is how many evaluations one page may hold (IAM API Reference, SimulatePrincipalPolicy, MaxItems).
const maxSimulated = 1000

// Simulate returns one decision for each pair of action and resource.
func (c Client) Simulate(ctx context.Context, s Simulation) ([]Decision, error) {
	in := &iam.SimulatePrincipalPolicyInput{PolicySourceArn: &s.Principal, ActionNames: s.Actions, ResourceArns: s.Resources, MaxItems: aws.Int32(maxSimulated)}
	for _, key := range slices.Sorted(maps.Keys(s.Context)) {
		kind := types.ContextKeyTypeEnumString
		if values := s.Context[key]; len(values) == 1 && (values[0] == "true" || values[0] == "false") {
			kind = types.ContextKeyTypeEnumBoolean
		}
		in.ContextEntries = append(in.ContextEntries, types.ContextEntry{ContextKeyName: aws.String(key), ContextKeyType: kind, ContextKeyValues: s.Context[key]})
	}
	api := iam.NewFromConfig(c.Config, func(o *iam.Options) { o.Retryer = patiently(o.Retryer) })
	var decisions []Decision
	pages := iam.NewSimulatePrincipalPolicyPaginator(api, in)
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("simulate %s: %w", s.Principal, err)
		}
		for _, r := range page.EvaluationResults {
			decisions = append(decisions, decided(r)...)
		}
	}
	return decisions, nil
}

// decided are the decisions about one action: on each resource, where IAM tells them apart.
func decided(r types.EvaluationResult) []Decision {
	d := Decision{Action: aws.ToString(r.EvalActionName), Resource: aws.ToString(r.EvalResourceName), Decision: string(r.EvalDecision), Missing: r.MissingContextValues}
	if o := r.OrganizationsDecisionDetail; o != nil {
		d.Organizations = strconv.FormatBool(o.AllowedByOrganizations)
	}
	if b := r.PermissionsBoundaryDecisionDetail; b != nil {
		d.Boundary = strconv.FormatBool(b.AllowedByPermissionsBoundary)
	}
	if len(r.ResourceSpecificResults) == 0 {
		return []Decision{d}
	}
	var list []Decision
	for _, on := range r.ResourceSpecificResults {
		one := d
		one.Resource, one.Decision, one.Missing = aws.ToString(on.EvalResourceName), string(on.EvalResourceDecision), on.MissingContextValues
		if b := on.PermissionsBoundaryDecisionDetail; b != nil {
			one.Boundary = strconv.FormatBool(b.AllowedByPermissionsBoundary)
		}
		list = append(list, one)
	}
	return list
}
