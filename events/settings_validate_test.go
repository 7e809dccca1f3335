package events

import (
	"strings"
	"testing"
)

func TestSettingsThatNeverWaitAreRefused(t *testing.T) {
	if err := DefaultSettings().Validate(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
	s, err := ParseSettings(func(name string) string {
		if name == "FLASHTAP_POLL_SECONDS" {
			return "0"
		}
		return ""
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Validate(); err == nil || !strings.Contains(err.Error(), "FLASHTAP_POLL_SECONDS is 0") {
		t.Errorf("error %v", err)
	}
}
