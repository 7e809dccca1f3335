package main

import (
	"context"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"

	"flashtap/events"
)

// needs say how a person gives what a command can't do without. The names are those of the functions' environment.
var needs = map[string]struct{ what, fix string }{
	"FLASHTAP_BUCKET":            {"which bucket holds the evidence", "give --bucket NAME or set FLASHTAP_BUCKET"},
	"FLASHTAP_STATE_MACHINE_ARN": {"which state machine captures", "give --state-machine ARN or set FLASHTAP_STATE_MACHINE_ARN"},
	"FLASHTAP_DEPLOYMENT":        {"which deployment this is about", "give --deployment NAME or set FLASHTAP_DEPLOYMENT"},
	"FLASHTAP_SCHEDULE_GROUP":    {"which group holds the deployment's schedules", "set FLASHTAP_SCHEDULE_GROUP"},

	"FLASHTAP_ACCOUNT":            {"which account the deployment serves", "set FLASHTAP_ACCOUNT"},
	"AWS_REGION":                  {"which AWS Region the deployment is in", "set AWS_REGION"},
	"FLASHTAP_LAUNCH_TEMPLATE_ID": {"which launch template collectors have", "set FLASHTAP_LAUNCH_TEMPLATE_ID"},
	"FLASHTAP_COLLECTOR_ROLE_ID":  {"which role collectors have", "set FLASHTAP_COLLECTOR_ROLE_ID"},
	"FLASHTAP_IMAGES":             {"which images collectors have", "set FLASHTAP_IMAGES"},
	"FLASHTAP_BINARY_KEYS":        {"where the collector's programs are", "set FLASHTAP_BINARY_KEYS"},
	"FLASHTAP_BINARY_DIGESTS":     {"which collector's programs are meant", "set FLASHTAP_BINARY_DIGESTS"},
}

// settings reads the environment as the functions do, lets flags override it, and demands those named.
func (t *tool) settings(required ...string) (events.Settings, error) {
	s, err := events.ParseSettings(t.getenv)
	if err != nil {
		return s, usage(strings.ReplaceAll(err.Error(), "\n", "; "), "correct or unset the variable")
	}
	for from, to := range map[*string]*string{&t.bucket: &s.Bucket, &t.stateMachine: &s.StateMachineARN, &t.deployment: &s.Deployment} {
		if *from != "" {
			*to = *from
		}
	}
	env := s.Environ()
	var missing, fixes []string
	for _, name := range required {
		if env[name] == "" {
			missing = append(missing, needs[name].what)
			fixes = append(fixes, needs[name].fix)
		}
	}
	switch {
	case len(missing) > 3:
		return s, usage("not said: "+strings.Join(missing, ", nor "), "load the deployment's settings: the README, \"Drill\", shows how to get them from Parameter Store")
	case len(missing) > 0:
		return s, usage("not said: "+strings.Join(missing, ", nor "), strings.Join(fixes, "; ")+"; the deployment's functions have the same variables")
	}
	return s, nil
}

// connect reads the AWS configuration: environment, shared profiles, and AWS_ENDPOINT_URL for the clients.
func connect(ctx context.Context) (aws.Config, error) {
	cfg, err := config.LoadDefaultConfig(ctx, config.WithRetryMaxAttempts(5))
	if err != nil {
		return cfg, usage("AWS configuration: "+err.Error(), "check AWS_PROFILE and the files under ~/.aws")
	}
	if cfg.Region == "" {
		return cfg, usage("not said: which AWS Region the deployment is in", "set AWS_REGION")
	}
	return cfg, nil
}
