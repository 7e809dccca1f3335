package stacks

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/constructs-go/constructs/v10"

	"flashtap/infra/config"
	"flashtap/infra/policy"
)

// NewSpoke makes the stack of the roles that the central account cfg.HubAccount assumes here. It stands alone, so that
// whoever removes it takes away nothing but the access.
func NewSpoke(scope constructs.Construct, cfg config.Config, s policy.Scope) awscdk.Stack {
	stack := newStack(scope, cfg, "spoke", "roles for the central account "+cfg.HubAccount)
	for _, r := range policy.SpokeRoles() {
		role := awsiam.NewCfnRole(stack, str(title(r.Name)+"Role"), &awsiam.CfnRoleProps{
			RoleName:                 str(s.SpokeRoleName(r.Name)),
			Description:              str("Flashtap " + cfg.Deployment + ": " + r.About),
			AssumeRolePolicyDocument: document(policy.SpokeTrust(s, cfg.HubAccount)),
			Policies:                 list(&awsiam.CfnRole_PolicyProperty{PolicyName: str(r.Name), PolicyDocument: document(r.Policy(s))}),
			MaxSessionDuration:       num(3600),
			PermissionsBoundary:      boundary(cfg, s),
		})
		output(stack, title(r.Name)+"RoleArn", "For the central account: "+r.About, role.AttrArn())
	}
	output(stack, "ExternalId", "What the central account must give as external id", str(s.ExternalID()))
	return stack
}
