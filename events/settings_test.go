package events

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

// TestSettingsRoundTrip sets every field to something of its own, so that a field that is added is tested unasked.
func TestSettingsRoundTrip(t *testing.T) {
	var s Settings
	v := reflect.ValueOf(&s).Elem()
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		switch f := v.Field(i); f.Interface().(type) {
		case string:
			f.SetString("a " + name + "=x,y")
		case bool:
			f.SetBool(true)
		case int, int32, int64:
			f.SetInt(int64(1000 + i))
		case []string:
			f.Set(reflect.ValueOf([]string{name, "b", "c"}))
		case map[string]string:
			f.Set(reflect.ValueOf(map[string]string{ARM64: name, X86_64: "tools/b=="}))
		case *Filter:
			f.Set(reflect.ValueOf(&Filter{DNS: true, Rules: []FilterRule{{Number: 1, Direction: Egress, Action: Accept, Protocol: 6,
				SourceCIDR: "::/0", DestinationCIDR: "::/0", DestinationPorts: &PortRange{443, 444}}}}))
		default:
			t.Fatalf("setting %s has a kind that this test does not know", name)
		}
	}
	env := s.Environ()
	if len(env) != v.NumField() {
		t.Errorf("%d variables for %d settings: two share a name, or one has none", len(env), v.NumField())
	}
	got, err := ParseSettings(func(name string) string { return env[name] })
	if err != nil || !reflect.DeepEqual(got, s) {
		t.Errorf("%v; got\n%+v, want\n%+v", err, got, s)
	}
	for name := range env {
		if name != "AWS_REGION" && !strings.HasPrefix(name, "FLASHTAP_") { // Lambda itself sets AWS_REGION
			t.Errorf("variable %q is not named for us", name)
		}
	}
}

func TestSettingsDefaults(t *testing.T) {
	s, err := ParseSettings(func(string) string { return "" })
	if err != nil || !reflect.DeepEqual(s, DefaultSettings()) {
		t.Errorf("%+v, %v", s, err)
	}
	again, err := ParseSettings(func(name string) string { return s.Environ()[name] })
	if err != nil || !reflect.DeepEqual(again, s) {
		t.Errorf("the defaults do not survive a round trip: %+v, %v", again, err)
	}
	if err := s.Options(Options{}).Validate(); err != nil {
		t.Errorf("the defaults give options out of bounds: %v", err)
	}
	for _, kind := range s.InstanceTypes {
		if !strings.Contains(kind, ".") {
			t.Errorf("instance type %q has no size", kind)
		}
	}
}

func TestSettingsRefused(t *testing.T) {
	for name, row := range map[string]struct{ variable, text, says string }{
		"a word for a number":    {"FLASHTAP_MAX_CAPTURES", "many", "whole number"},
		"less than nothing":      {"FLASHTAP_DURATION_SECONDS", "-1", "0 or more"},
		"a fraction":             {"FLASHTAP_POLL_SECONDS", "1.5", "whole number"},
		"a number beyond all":    {"FLASHTAP_MAX_BYTES", "99999999999999999999", "whole number"},
		"neither true nor false": {"FLASHTAP_ALLOW_SAMPLES", "maybe", "true or false"},
		"a list where a map is":  {"FLASHTAP_IMAGES", "ami-1,ami-2", "name=value"},
		"more than 32 bits":      {"FLASHTAP_PACKET_LENGTH", "4294967336", "whole number"},
		"a filter in prose":      {"FLASHTAP_FILTER", "everything", "JSON"},
		"a filter with a typo":   {"FLASHTAP_FILTER", `{"dns":true,"rulse":[]}`, "rulse"},
	} {
		_, err := ParseSettings(func(v string) string {
			if v == row.variable {
				return row.text
			}
			return ""
		})
		checkSays(t, name, err, []string{row.variable, row.says})
	}
}

func TestSettingsRequire(t *testing.T) {
	s := Settings{Bucket: "b", Images: map[string]string{ARM64: "ami-1"}}
	if err := s.Require("FLASHTAP_BUCKET", "FLASHTAP_IMAGES"); err != nil {
		t.Error(err)
	}
	checkSays(t, "two are missing", s.Require("FLASHTAP_BUCKET", "FLASHTAP_DEPLOYMENT", "FLASHTAP_BINARY_KEYS"),
		[]string{"FLASHTAP_DEPLOYMENT", "FLASHTAP_BINARY_KEYS", "missing"})
	checkSays(t, "a variable that nobody sets", s.Require("FLASHTAP_BUCKTE"), []string{"FLASHTAP_BUCKTE"})
}

func TestSettingsOptions(t *testing.T) {
	s := DefaultSettings()
	o := s.Options(Options{})
	if o.DurationSeconds != s.DurationSeconds || o.MaxBytes != s.MaxBytes || !reflect.DeepEqual(*o.Filter, EverythingFilter()) {
		t.Errorf("nothing asked: %+v", o)
	}
	s.Filter, s.PacketLength = &Filter{DNS: true}, 200
	if o := s.Options(Options{}); !reflect.DeepEqual(o.Filter, s.Filter) || o.PacketLength != 200 {
		t.Errorf("the deployment's filter and packet length: %+v", o)
	}
	asked := Options{DurationSeconds: 60, MaxBytes: 5, PacketLength: 128, SessionNumber: 9, Filter: &Filter{DNS: true}}
	if o := s.Options(asked); !reflect.DeepEqual(o, asked) {
		t.Errorf("everything asked: %+v", o)
	}
	s.DurationSeconds = 10 * 86400
	if o := s.Options(Options{}); o.DurationSeconds != int(MaxDuration/time.Second) {
		t.Errorf("a deployment can't capture longer than a day, but %s", fmt.Sprint(o.DurationSeconds))
	}
}
