package deployment_test

import (
	"reflect"
	"slices"
	"testing"

	"flashtap/events"
	"flashtap/testutil/deployment"
)

// TestLocalSettingsAreTheDeployments: a deployment on one machine differs from one in an account only in its haste, and
// infra/stacks tests that what is deployed is what infra/config says.
func TestLocalSettingsAreTheDeployments(t *testing.T) {
	hasty := []string{
		"DurationSeconds", "DrainSeconds", "ReadySeconds", "ProofSeconds", "SegmentBytes", "SegmentSeconds", "CheckpointSeconds",
		"CollectorPollSeconds", "PollSeconds", "SlowPollSeconds", "SpoolBytes",
	}
	s := set(t, deployment.SceneConfig{})
	got, want := s.Settings, s.Deployed()
	for i := range reflect.TypeFor[events.Settings]().NumField() {
		name := reflect.TypeFor[events.Settings]().Field(i).Name
		same := reflect.DeepEqual(reflect.ValueOf(got).Field(i).Interface(), reflect.ValueOf(want).Field(i).Interface())
		if !same && !slices.Contains(hasty, name) {
			t.Errorf("%s is %v here, and %v in an account", name, reflect.ValueOf(got).Field(i), reflect.ValueOf(want).Field(i))
		}
	}
}
