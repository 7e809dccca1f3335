package stacks

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3assets"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsstepfunctions"
	"github.com/aws/jsii-runtime-go"

	"flashtap/infra"
	"flashtap/infra/config"
	"flashtap/infra/policy"
)

// functions makes the Lambdas, each with its role and its log group.
func (c *Control) functions() error {
	variables := map[string]*string{}
	env := config.Environment(c.Settings)
	for _, name := range slices.Sorted(maps.Keys(env)) {
		variables[name] = str(env[name])
	}
	for _, f := range config.Functions {
		folder := filepath.Join(c.cfg.BuildDir, f.Name)
		if _, err := os.Stat(filepath.Join(folder, "bootstrap")); err != nil {
			return fmt.Errorf("function %s: %w; run `make build` first", f.Name, err)
		}
		code := awss3assets.NewAsset(c.Stack, str(f.Title()+"Code"), &awss3assets.AssetProps{Path: str(folder)})
		logs := c.logGroup(f.Title()+"Logs", c.Scope.LogGroupName(f.Name))
		if _, made := c.Roles[f.Name]; !made {
			var fixed *string
			if slices.Contains(policy.Sealers, f.Name) {
				fixed = str(c.Scope.SealerName(f.Name))
			}
			c.Roles[f.Name] = newRole(c.Stack, c.cfg, c.Scope, f.Name, fixed)
		}
		c.Functions[f.Name] = awslambda.NewCfnFunction(c.Stack, str(f.Title()), &awslambda.CfnFunctionProps{
			FunctionName:  str(c.Scope.FunctionName(f.Name)),
			Description:   str("Flashtap " + c.cfg.Deployment + ": " + f.Name),
			Runtime:       str("provided.al2023"),
			Handler:       str("bootstrap"),
			Architectures: jsii.Strings("arm64"),
			Code:          &awslambda.CfnFunction_CodeProperty{S3Bucket: code.S3BucketName(), S3Key: code.S3ObjectKey()},
			Role:          c.Roles[f.Name].AttrArn(),
			MemorySize:    num(f.Memory), Timeout: num(f.Seconds),
			Environment:   &awslambda.CfnFunction_EnvironmentProperty{Variables: &variables},
			LoggingConfig: &awslambda.CfnFunction_LoggingConfigProperty{LogFormat: str("JSON"), LogGroup: logs.Ref()},
		})
	}
	c.mapping = awslambda.NewCfnEventSourceMapping(c.Stack, str("IntakeMapping"), &awslambda.CfnEventSourceMappingProps{
		EventSourceArn: c.Queues[policy.IntakeQueue].AttrArn(), FunctionName: c.Functions["intake"].Ref(),
		BatchSize: num(config.IntakeBatch), FunctionResponseTypes: jsii.Strings("ReportBatchItemFailures"), Enabled: jsii.Bool(!c.cfg.Paused),
	})
	// A sweep that failed is not worth repeating: the next one is due within minutes.
	awslambda.NewCfnEventInvokeConfig(c.Stack, str("SweepInvocations"), &awslambda.CfnEventInvokeConfigProps{
		FunctionName: c.Functions["sweep"].Ref(), Qualifier: str("$LATEST"), MaximumRetryAttempts: num(0), MaximumEventAgeInSeconds: num(60 * config.SweepMinutes),
	})
	return nil
}

// logGroup makes a log group. Logs go with the stack; evidence stays.
func (c *Control) logGroup(id, name string) awslogs.CfnLogGroup {
	group := awslogs.NewCfnLogGroup(c.Stack, str(id), &awslogs.CfnLogGroupProps{LogGroupName: str(name), RetentionInDays: num(c.cfg.LogDays)})
	group.ApplyRemovalPolicy(awscdk.RemovalPolicy_DESTROY, nil)
	return group
}

// machine makes the state machine from the file that is tested and that the local region runs.
func (c *Control) machine() {
	c.Roles["capture"] = newRole(c.Stack, c.cfg, c.Scope, "capture", nil)
	logs := c.logGroup("CaptureLogs", c.Scope.StateMachineLogGroupName())
	substitutions := map[string]any{}
	for name, value := range c.cfg.Substitutions() {
		substitutions[name] = value
	}
	c.Machine = awsstepfunctions.NewCfnStateMachine(c.Stack, str("Capture"), &awsstepfunctions.CfnStateMachineProps{
		StateMachineName: str(c.Scope.StateMachineName()), StateMachineType: str("STANDARD"),
		RoleArn:          c.Roles["capture"].AttrArn(),
		DefinitionString: str(infra.Capture), DefinitionSubstitutions: substitutions,
		// Names of states and errors; what was said in them is in the execution's own history and in the evidence.
		LoggingConfiguration: &awsstepfunctions.CfnStateMachine_LoggingConfigurationProperty{
			Level: str("ALL"), IncludeExecutionData: jsii.Bool(false),
			Destinations: list(&awsstepfunctions.CfnStateMachine_LogDestinationProperty{
				CloudWatchLogsLogGroup: &awsstepfunctions.CfnStateMachine_CloudWatchLogsLogGroupProperty{LogGroupArn: logs.AttrArn()},
			}),
		},
	})
}
