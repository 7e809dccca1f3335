package events

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestCaptureID(t *testing.T) {
	start := time.Date(2026, 11, 22, 4, 4, 5, 999, time.FixedZone("CET", 3600))
	c := NewCaptureID(start, "eni-0a1b2c3d4e5f60718")
	if c != "20261122T030405Z-eni-0a1b2c3d4e5f60718" {
		t.Errorf("capture id %s", c)
	}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	if c.NetworkInterfaceID() != "eni-0a1b2c3d4e5f60718" {
		t.Errorf("interface %s", c.NetworkInterfaceID())
	}
	if at, err := c.Start(); err != nil || !at.Equal(start.Truncate(time.Second)) {
		t.Errorf("start %s, %v", at, err)
	}
	// Names of Step Functions executions, EventBridge schedules and EC2 tags all admit these (API references of each).
	if !regexp.MustCompile(`^[0-9a-zA-Z-]{1,80}$`).MatchString(string(c)) {
		t.Errorf("%s can't be the name of an execution", c)
	}
}

func TestCaptureIDRefused(t *testing.T) {
	for name, id := range map[string]string{
		"empty":                          "",
		"no interface":                   "20261122T030405Z",
		"interface alone":                "eni-0a1b2c3d4e5f60718",
		"a path out of the folder":       "../20261122T030405Z-eni-0a1b2c3d",
		"a path in the interface":        "20261122T030405Z-eni-0a1b2c3d/..",
		"a fraction of a second":         "20261122T030405.5Z-eni-0a1b2c3d",
		"a fraction after a comma":       "20261122T030405,5Z-eni-0a1b2c3d",
		"a day that is none":             "20260230T030405Z-eni-0a1b2c3d",
		"an hour that is none":           "20261122T250405Z-eni-0a1b2c3d",
		"another time zone":              "20261122T030405+01-eni-0a1b2c3d",
		"digits in upper case":           "20261122T030405Z-eni-0A1B2C3D",
		"too few digits":                 "20261122T030405Z-eni-0a1b2c3",
		"neither 8 nor 17 digits":        "20261122T030405Z-eni-0a1b2c3d4",
		"a line break":                   "20261122T030405Z-eni-0a1b2c3d\n",
		"an instance instead":            "20261122T030405Z-i-0a1b2c3d",
		"extended ISO 8601, with colons": "2026-11-22T03:04:05Z-eni-0a1b2c3d",
	} {
		c := CaptureID(id)
		if err := c.Validate(); err == nil {
			t.Errorf("%s: %q is accepted", name, id)
		}
		if c.NetworkInterfaceID() != "" {
			t.Errorf("%s: %q has an interface", name, id)
		}
	}
}

// FuzzCaptureID: there is exactly one way to write each capture id, or two captures could share a name somewhere.
func FuzzCaptureID(f *testing.F) {
	f.Add("20261122T030405Z-eni-0a1b2c3d4e5f60718")
	f.Fuzz(func(t *testing.T, id string) {
		c := CaptureID(id)
		if c.Validate() != nil {
			return
		}
		start, err := c.Start()
		if err != nil {
			t.Fatal(err)
		}
		if again := NewCaptureID(start, c.NetworkInterfaceID()); again != c {
			t.Errorf("%q is another way to write %q", c, again)
		}
		if len(c) > 80 || strings.ContainsAny(id, "/ \n.,") {
			t.Errorf("%q does not fit everywhere", id)
		}
	})
}

func TestClientToken(t *testing.T) {
	const a, b = CaptureID("20261122T030405Z-eni-0a1b2c3d"), CaptureID("20261122T030406Z-eni-0a1b2c3d")
	seen := map[string]string{}
	for _, c := range []CaptureID{a, b} {
		for attempt := 1; attempt <= 12; attempt++ {
			for _, resource := range []string{"instance", "target", "filter", "session", "guard", "rule ingress 1", "rule ingress 11", "rule egress 1"} {
				token := ClientToken(c, attempt, resource)
				if token != ClientToken(c, attempt, resource) {
					t.Fatal("the same call twice gives two tokens")
				}
				// EC2 takes up to 64 ASCII characters; Scheduler 1 to 64 of these (API references).
				if !regexp.MustCompile(`^[a-zA-Z0-9-_]{1,64}$`).MatchString(token) {
					t.Errorf("token %q is none", token)
				}
				what := fmt.Sprintf("%s attempt %d %s", c, attempt, resource)
				if other, taken := seen[token]; taken {
					t.Errorf("%s and %s share a token", what, other)
				}
				seen[token] = what
			}
		}
	}
}

func TestOptions(t *testing.T) {
	for name, row := range map[string]struct {
		o    Options
		says []string // of the error: the field and its bounds; none when the options are good
	}{
		"nothing: the defaults":               {Options{}, nil},
		"the shortest":                        {Options{DurationSeconds: 5}, nil},
		"a second less":                       {Options{DurationSeconds: 4}, []string{"durationSeconds 4", "5 to 86400"}},
		"a day":                               {Options{DurationSeconds: 86400}, nil},
		"a second more":                       {Options{DurationSeconds: 86401}, []string{"durationSeconds 86401", "5 to 86400"}},
		"negative":                            {Options{DurationSeconds: -60}, []string{"durationSeconds -60", "5 to 86400"}},
		"ten seconds after an overflow":       {Options{DurationSeconds: 18446744084}, []string{"durationSeconds 18446744084", "5 to 86400"}},
		"the largest number":                  {Options{DurationSeconds: math.MaxInt}, []string{"durationSeconds", "5 to 86400"}},
		"bytes negative":                      {Options{MaxBytes: -1}, []string{"maxBytes -1", "0"}},
		"headers of IPv4":                     {Options{PacketLength: 35}, nil},
		"less than headers":                   {Options{PacketLength: 34}, []string{"packetLength 34", "35 to 8947"}},
		"the longest packet":                  {Options{PacketLength: 8947}, nil},
		"longer than the longest":             {Options{PacketLength: 8948}, []string{"packetLength 8948", "35 to 8947"}},
		"packet length negative":              {Options{PacketLength: -1}, []string{"packetLength -1", "35 to 8947"}},
		"the first session":                   {Options{SessionNumber: 1}, nil},
		"the last session":                    {Options{SessionNumber: 32766}, nil},
		"after the last session":              {Options{SessionNumber: 32767}, []string{"sessionNumber 32767", "1 to 32766"}},
		"session number negative":             {Options{SessionNumber: -1}, []string{"sessionNumber -1", "1 to 32766"}},
		"a filter that mirrors nothing":       {Options{Filter: &Filter{}}, []string{"filter mirrors nothing"}},
		"a filter and no profile":             {Options{Filter: &Filter{DNS: true}}, nil},
		"a filter of the profile custom":      {Options{Filter: &Filter{DNS: true}, Profile: ProfileCustom}, nil},
		"custom, the deployment may have one": {Options{Profile: ProfileCustom}, nil},
		"a profile that is none":              {Options{Profile: "most"}, []string{`profile "most"`, "everything, finding, headers or custom"}},
		"a filter of another profile":         {Options{Filter: &Filter{DNS: true}, Profile: ProfileHeaders}, []string{"profile headers", "leave out the filter"}},
		"where operators come from":           {Options{ControlCIDRs: []string{"192.0.2.0/24", "2001:db8::/48"}}, nil},
		"an address without a length":         {Options{ControlCIDRs: []string{"192.0.2.0/24", "192.0.2.1"}}, []string{"controlCidrs", "192.0.2.1"}},
		"two mistakes, both named":            {Options{DurationSeconds: 1, SessionNumber: -2}, []string{"durationSeconds 1", "sessionNumber -2"}},
	} {
		checkSays(t, name, row.o.Validate(), row.says)
	}
}

func checkSays(t *testing.T, name string, err error, says []string) {
	t.Helper()
	if (err == nil) != (len(says) == 0) {
		t.Errorf("%s: %v, want an error that says %q", name, err, says)
		return
	}
	for _, s := range says {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("%s: %v, want it to say %q", name, err, s)
		}
	}
}

func TestRequest(t *testing.T) {
	const eni, in = "eni-0a1b2c3d4e5f60718", "i-0a1b2c3d4e5f60718"
	for name, row := range map[string]struct {
		r    Request
		says []string
	}{
		"an interface":                {Request{NetworkInterfaceID: eni}, nil},
		"an instance":                 {Request{InstanceID: in}, nil},
		"both":                        {Request{NetworkInterfaceID: eni, InstanceID: in}, nil},
		"old short ids":               {Request{NetworkInterfaceID: "eni-0a1b2c3d", InstanceID: "i-0a1b2c3d"}, nil},
		"neither":                     {Request{}, []string{"networkInterfaceId", "instanceId"}},
		"an interface id that is not": {Request{NetworkInterfaceID: "eth0"}, []string{`networkInterfaceId "eth0"`, "eni-"}},
		"an instance id that is not":  {Request{InstanceID: "web-1"}, []string{`instanceId "web-1"`, "i-"}},
		"its own capture":             {Request{NetworkInterfaceID: eni, Capture: "20261122T030405Z-" + eni}, nil},
		"a capture of another":        {Request{NetworkInterfaceID: eni, Capture: "20261122T030405Z-eni-0a1b2c3d"}, []string{"another interface"}},
		"a capture that is none":      {Request{NetworkInterfaceID: eni, Capture: "mine"}, []string{`"mine"`}},
		"options out of bounds":       {Request{NetworkInterfaceID: eni, Options: Options{PacketLength: 1}}, []string{"packetLength 1", "35"}},
		"a reason like a novel":       {Request{NetworkInterfaceID: eni, Reason: strings.Repeat("x", 2000)}, []string{"reason", "2000", "1024"}},
		"a case like a novel":         {Request{NetworkInterfaceID: eni, Case: strings.Repeat("x", 2000)}, []string{"case", "2000", "1024"}},
		"a case that is an ARN":       {Request{NetworkInterfaceID: eni, Case: "arn:aws:securityhub:" + strings.Repeat("x", 480)}, nil},
	} {
		checkSays(t, name, row.r.Validate(), row.says)
	}
}

// TestRequestByHand: what a person may write into an event, and what they are told when it is wrong.
func TestRequestByHand(t *testing.T) {
	for name, row := range map[string]struct {
		detail string
		says   []string
	}{
		"the least":             {`{"instanceId":"i-0a1b2c3d"}`, nil},
		"with everything":       {`{"networkInterfaceId":"eni-0a1b2c3d","case":"C-1","reason":"beacons","durationSeconds":600,"maxBytes":1000,"packetLength":128,"sessionNumber":7,"severity":9,"filter":{"dns":true,"rules":[]},"profile":"custom","controlCidrs":["192.0.2.0/24"],"allowTemporaryEndpoint":true}`, nil},
		"keys in another case":  {`{"InstanceId":"i-0a1b2c3d"}`, nil},
		"nobody":                {`{}`, []string{"networkInterfaceId", "instanceId"}},
		"a word misspelt":       {`{"instanceId":"i-0a1b2c3d","durationSecond":60}`, []string{`"durationSecond"`}},
		"a number in quotes":    {`{"instanceId":"i-0a1b2c3d","durationSeconds":"60"}`, []string{"durationSeconds", "int"}},
		"too long":              {`{"instanceId":"i-0a1b2c3d","durationSeconds":90000}`, []string{"durationSeconds 90000", "86400"}},
		"names its own capture": {`{"networkInterfaceId":"eni-0a1b2c3d","capture":"20261122T030405Z-eni-0a1b2c3d"}`, []string{"capture", "leave it out"}},
		"a rule without ports":  {`{"instanceId":"i-0a1b2c3d","filter":{"rules":[{"number":1,"direction":"ingress","action":"accept","sourceCidr":"10.0.0.0/8","destinationCidr":"10.0.0.0/8","protocol":1,"destinationPorts":{"from":1,"to":2}}]}}`, []string{"filter rule 1", "protocol 6"}},
		"several mistakes":      {`{"instanceId":"x","sessionNumber":40000}`, []string{`instanceId "x"`, "sessionNumber 40000", "; "}},
	} {
		for kind, event := range map[string]string{
			"event": `{"source":"flashtap","detail-type":"Capture Request","account":"111122223333","region":"eu-central-1","detail":` + row.detail + `}`,
			"bare":  row.detail,
		} {
			if kind == "bare" && !strings.Contains(strings.ToLower(row.detail), `"instanceid"`) && !strings.Contains(row.detail, `"networkInterfaceId"`) {
				continue // without an id nothing tells that it is a request
			}
			f, err := ParseFinding([]byte(event))
			checkSays(t, name+", "+kind, err, row.says)
			var refusal *Refusal
			if err != nil && (!errors.As(err, &refusal) || refusal.Reason != BadRequest || strings.Contains(refusal.Detail, "\n")) {
				t.Errorf("%s, %s: %v, want a BadRequest on one line", name, kind, err)
			}
			if err == nil && (f.Origin != "request" || len(f.Suspects) != 1) {
				t.Errorf("%s, %s: %+v", name, kind, f)
			}
		}
	}
}
