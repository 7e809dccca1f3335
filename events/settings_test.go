package events

import (
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
	filter, other := &Filter{DNS: true}, &Filter{Rules: EverythingFilter().Rules}
	defaults := DefaultSettings()
	with := func(change func(*Settings)) Settings { s := DefaultSettings(); change(&s); return s }
	for name, row := range map[string]struct {
		s     Settings
		asked Options
		want  Options
		own   bool // duration and size are the row's
	}{
		"nothing asked": {s: defaults, want: Options{Profile: ProfileEverything}},
		"everything asked": {s: with(func(s *Settings) {
			s.Filter, s.Profile, s.PacketLength, s.ControlCIDRs = other, ProfileHeaders, 64, []string{"10.0.0.0/8"}
		}),
			asked: Options{DurationSeconds: 60, MaxBytes: 5, PacketLength: 128, SessionNumber: 9, Filter: filter, Profile: ProfileCustom, ControlCIDRs: []string{"192.0.2.0/24"}, AllowTemporaryEndpoint: true},
			want:  Options{DurationSeconds: 60, MaxBytes: 5, PacketLength: 128, SessionNumber: 9, Filter: filter, Profile: ProfileCustom, ControlCIDRs: []string{"192.0.2.0/24"}, AllowTemporaryEndpoint: true}, own: true},
		"a filter alone is the profile custom":             {s: defaults, asked: Options{Filter: filter}, want: Options{Filter: filter, Profile: ProfileCustom}},
		"the deployment's filter alone, too":               {s: with(func(s *Settings) { s.Filter, s.PacketLength = filter, 200 }), want: Options{Filter: filter, Profile: ProfileCustom, PacketLength: 200}},
		"a filter has the deployment's length":             {s: with(func(s *Settings) { s.PacketLength = 200 }), asked: Options{Filter: filter}, want: Options{Filter: filter, Profile: ProfileCustom, PacketLength: 200}},
		"the request's filter before the deployment's":     {s: with(func(s *Settings) { s.Filter = other }), asked: Options{Filter: filter}, want: Options{Filter: filter, Profile: ProfileCustom}},
		"custom asked, by the deployment's filter":         {s: with(func(s *Settings) { s.Filter, s.Profile = filter, ProfileFinding }), asked: Options{Profile: ProfileCustom}, want: Options{Filter: filter, Profile: ProfileCustom}},
		"custom asked, and nobody has a filter":            {s: defaults, asked: Options{Profile: ProfileCustom}, want: Options{Profile: ProfileCustom}},
		"the deployment's profile":                         {s: with(func(s *Settings) { s.Filter, s.Profile, s.PacketLength = filter, ProfileFinding, 200 }), want: Options{Profile: ProfileFinding, PacketLength: 200}},
		"another profile brings its own length":            {s: with(func(s *Settings) { s.PacketLength = 200 }), asked: Options{Profile: ProfileHeaders}, want: Options{Profile: ProfileHeaders}},
		"a profile asked, and the deployment has a filter": {s: with(func(s *Settings) { s.Filter = filter }), asked: Options{Profile: ProfileEverything}, want: Options{Profile: ProfileEverything}},
		"where operators come from, and endpoints": {s: with(func(s *Settings) { s.ControlCIDRs, s.AllowTemporaryEndpoint = []string{"10.0.0.0/8"}, true }),
			want: Options{Profile: ProfileEverything, ControlCIDRs: []string{"10.0.0.0/8"}, AllowTemporaryEndpoint: true}},
		"a deployment can't capture longer than a day": {s: with(func(s *Settings) { s.DurationSeconds = 10 * 86400 }),
			want: Options{Profile: ProfileEverything, DurationSeconds: int(MaxDuration / time.Second), MaxBytes: defaults.MaxBytes}, own: true},
	} {
		if !row.own {
			row.want.DurationSeconds, row.want.MaxBytes = defaults.DurationSeconds, defaults.MaxBytes
		}
		o := row.s.Options(row.asked)
		if !reflect.DeepEqual(o, row.want) {
			t.Errorf("%s: %+v, want %+v", name, o, row.want)
		}
		if err := o.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
