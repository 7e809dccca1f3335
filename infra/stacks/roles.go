package stacks

import (
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/constructs-go/constructs/v10"

	"flashtap/infra/config"
	"flashtap/infra/policy"
)

// newRole makes one of policy.Roles with its statements and no others. CDK's own constructs would add some.
func newRole(scope constructs.Construct, cfg config.Config, s policy.Scope, name string, physical *string) awsiam.CfnRole {
	role, known := policy.RoleOf(name)
	if !known {
		panic("stacks: no role " + name + " in infra/policy")
	}
	return awsiam.NewCfnRole(scope, str(strings.ToUpper(name[:1])+name[1:]+"Role"), &awsiam.CfnRoleProps{
		RoleName:                 physical,
		Description:              str("Flashtap " + cfg.Deployment + ": " + name),
		AssumeRolePolicyDocument: document(role.Trust(s)),
		Policies: list(&awsiam.CfnRole_PolicyProperty{
			PolicyName: str(name), PolicyDocument: document(role.Policy(s)),
		}),
		PermissionsBoundary: boundary(cfg, s),
	})
}

// document is a policy as the template has it. A condition's only value stands without a list around it, which means the same
// to IAM; the checks of others look for it so.
func document(d policy.Document) map[string]any {
	doc := must(d.Map())
	statements, _ := doc["Statement"].([]any)
	for _, st := range statements {
		statement, _ := st.(map[string]any)
		condition, _ := statement["Condition"].(map[string]any)
		for _, keys := range condition {
			values, _ := keys.(map[string]any)
			for key, value := range values {
				if list, isList := value.([]any); isList && len(list) == 1 {
					values[key] = list[0]
				}
			}
		}
	}
	return doc
}

// boundary is the permissions boundary of every role, nil when there is none.
func boundary(cfg config.Config, s policy.Scope) *string {
	switch b := cfg.PermissionsBoundary; {
	case b == "":
		return nil
	case strings.HasPrefix(b, "arn:"):
		return str(b)
	default:
		return str("arn:" + s.Partition + ":iam::" + s.Account + ":policy/" + b)
	}
}
