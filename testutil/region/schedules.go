package region

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"flashtap/testutil/region/model"
	"flashtap/testutil/region/schedule"
)

// ec2Target begins the ARNs of Scheduler's universal targets for EC2 (EventBridge Scheduler User Guide, "Using universal
// targets").
const ec2Target = "arn:aws:scheduler:::aws-sdk:ec2:"

// fire invokes the target of a schedule: a Lambda function, or an EC2 operation.
func (r *Region) fire(ctx context.Context, t schedule.Target) error {
	operation, universal := strings.CutPrefix(t.ARN, ec2Target)
	if !universal {
		result, err := r.Lambda.Invoke(ctx, t.ARN, []byte(t.Input))
		if err == nil && result.FunctionError != "" {
			err = fmt.Errorf("function %s: %s", t.ARN, result.Payload)
		}
		return err
	}
	var params map[string]any
	if err := json.Unmarshal([]byte(t.Input), &params); err != nil {
		return fmt.Errorf("target %s: input: %w", t.ARN, err)
	}
	call := &model.Call{Service: "ec2", Operation: strings.ToUpper(operation[:1]) + operation[1:], Params: params}
	_, err := r.EC2.Handle(call, "scheduler")
	return err
}
