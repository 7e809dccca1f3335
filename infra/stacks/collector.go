package stacks

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsec2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"flashtap/infra/config"
)

// Collector is the stack of what every collector instance is made from. No instance and no VPC belongs to it: they are
// made for a capture, in the suspect's own VPC.
type Collector struct {
	awscdk.Stack
	Role     awsiam.CfnRole
	Template awsec2.CfnLaunchTemplate
}

// NewCollector makes the stack and says in place what its template and role are.
func NewCollector(scope constructs.Construct, cfg config.Config, place *config.Place) *Collector {
	c := &Collector{Stack: newStack(scope, cfg, "collector", "role and launch template of collectors")}
	s := cfg.Scope(*place)
	c.Role = newRole(c.Stack, cfg, s, "collector", str(s.CollectorName()))
	profile := awsiam.NewCfnInstanceProfile(c.Stack, str("InstanceProfile"), &awsiam.CfnInstanceProfileProps{
		InstanceProfileName: str(s.CollectorName()), Roles: &[]any{c.Role.Ref()},
	})
	c.Template = awsec2.NewCfnLaunchTemplate(c.Stack, str("LaunchTemplate"), &awsec2.CfnLaunchTemplateProps{
		LaunchTemplateName: str(s.LaunchTemplateName()),
		LaunchTemplateData: &awsec2.CfnLaunchTemplate_LaunchTemplateDataProperty{},
	})
	// As an override it stays what the local region has, letter for letter; CDK's own type would spell the members anew.
	c.Template.AddPropertyOverride(jsii.String("LaunchTemplateData"), cfg.LaunchTemplate(s.InstanceProfileARN))
	c.Template.AddResourceDependency(profile, str("instances get it"))
	place.LaunchTemplateID, place.CollectorRoleID = *c.Template.Ref(), *c.Role.AttrRoleId()
	return c
}
