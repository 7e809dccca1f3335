package stacks

import (
	"github.com/aws/aws-cdk-go/awscdk/v2/awsssm"

	"flashtap/infra/documents"
)

// AddDocuments adds the forms with which people start a capture, end one early and prove that nothing is left, and the role
// that these act with.
func AddDocuments(c *Control) error {
	c.Roles["automation"] = newRole(c.Stack, c.cfg, c.Scope, "automation", nil)
	all, err := documents.All(documents.Names{
		AutomationRole: *c.Roles["automation"].AttrArn(), Deployment: c.cfg.Deployment, StateMachine: c.Scope.StateMachineARN(),
		InstanceProfile: c.Scope.InstanceProfileARN, Bucket: c.Settings.Bucket, Sweep: c.Scope.FunctionName("sweep"),
	})
	if err != nil {
		return err
	}
	for _, d := range all {
		awsssm.NewCfnDocument(c.Stack, str(title(d.Name)+"Document"), &awsssm.CfnDocumentProps{
			Name: str(c.Scope.DocumentName(d.Name)), DocumentType: str("Automation"), DocumentFormat: str("JSON"),
			UpdateMethod: str("NewVersion"), Content: d.Content,
		})
	}
	return nil
}
