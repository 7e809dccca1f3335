package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"unicode"

	"flashtap/events"
)

var words = regexp.MustCompile(`'[^']*'|\S+`)

// TestExamplesAreRight has every example of the help understood by the command it explains.
func TestExamplesAreRight(t *testing.T) {
	for _, c := range commands() {
		if len(c.examples) == 0 || c.summary == "" || c.about == "" {
			t.Errorf("%s lacks a summary, an explanation or an example", c.name)
		}
		for _, e := range c.examples {
			line, _, _ := strings.Cut(e.line, " <") // what the shell keeps for itself
			args := words.FindAllString(line, -1)
			for i := range args {
				args[i] = strings.Trim(args[i], "'")
			}
			if len(args) < 2 || args[0] != "flashtap" || commandNamed(args[1]) == nil {
				t.Errorf("example %q names no command", e.line)
				continue
			}
			shown := commandNamed(args[1])
			flags, _ := shown.flagSet(&tool{output: outputText})
			operands, err := parse(flags, args[2:])
			if err != nil && !errors.Is(err, flag.ErrHelp) {
				t.Errorf("example %q: %v", e.line, err)
			}
			if err == nil && (len(operands) < shown.least || len(operands) > shown.most) {
				t.Errorf("example %q has operands %q", e.line, operands)
			}
		}
	}
}

func TestFlagsAndOperandsInAnyOrder(t *testing.T) {
	for name, row := range map[string]struct {
		args []string
		want []string
	}{
		"flags first":                      {[]string{"--case", "7", "eni-1"}, []string{"eni-1"}},
		"flags last":                       {[]string{"eni-1", "--case", "7"}, []string{"eni-1"}},
		"in between":                       {[]string{"a", "--case=7", "b", "-wait", "c"}, []string{"a", "b", "c"}},
		"a dash is an operand":             {[]string{"-", "--case", "7"}, []string{"-"}},
		"two dashes end the flags":         {[]string{"--case", "7", "--", "--wait", "b"}, []string{"--wait", "b"}},
		"two dashes after an operand":      {[]string{"a", "--case", "7", "--", "--wait"}, []string{"a", "--wait"}},
		"flags alone":                      {[]string{"--case", "7"}, nil},
		"a negative value belongs to flag": {[]string{"--case", "-7"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			flags := newFlagSet("test")
			id := flags.String("case", "7", "")
			flags.Bool("wait", false, "")
			got, err := parse(flags, row.args)
			if err != nil || !reflect.DeepEqual(got, row.want) || strings.TrimPrefix(*id, "-") != "7" {
				t.Errorf("operands %q, case %q, %v; want %q", got, *id, err, row.want)
			}
		})
	}
}

func TestExplain(t *testing.T) {
	const sdk = "operation error EC2: DescribeInstances, exceeded maximum number of attempts, 5, https response error StatusCode: 503, RequestID: abc-1, api error RequestLimitExceeded: slow down"
	p := explain(fmt.Errorf("describe the collector of x: %w", errors.New(sdk)))
	if want := "describe the collector of x: EC2 DescribeInstances (request abc-1): RequestLimitExceeded: slow down"; p.what() != want || p.code != exitFailed {
		t.Errorf("%q with code %d, want %q", p.what(), p.code, want)
	}
	if p := explain(fmt.Errorf("list: %w", notFound("look elsewhere", "no bucket"))); p.code != exitNotFound || p.fix != "look elsewhere" {
		t.Errorf("a wrapped problem lost its code or fix: %+v", p)
	}
	p = explain(errors.New("operation error S3: ListObjectsV2, get identity: get credentials: no EC2 IMDS role found"))
	if !strings.Contains(p.fix, "AWS_PROFILE") {
		t.Errorf("missing credentials are explained by %q", p.fix)
	}
}

// FuzzFinding has any bytes read as an event: there is always an answer, it never moves the terminal, and a capture
// always has a source.
func FuzzFinding(f *testing.F) {
	f.Add([]byte(`{"networkInterfaceId": "eni-0a1b2c3d4e5f60718", "durationSeconds": 60}`))
	f.Add([]byte(`{"detail-type": "GuardDuty Finding", "detail": {"type": "T\u001b[2J", "title": "\u202e", "resource": {"instanceDetails": {"instanceId": "i-99999999"}}}}`))
	f.Add([]byte("\xff"))
	f.Fuzz(func(t *testing.T, event []byte) {
		r, err := readFinding(event, events.DefaultSettings())
		if err != nil {
			t.Fatalf("an error that is no refusal: %v", err)
		}
		if r.Captures != (len(r.Sources) > 0) || r.Captures == (r.Refusal != nil) {
			t.Errorf("captures %t with %d sources and refusal %v", r.Captures, len(r.Sources), r.Refusal)
		}
		for _, form := range []string{outputText, outputJSON} {
			var out bytes.Buffer
			tool := &tool{out: &out, output: form}
			if err := tool.show(r); err != nil {
				t.Fatal(err)
			}
			if form == outputText && strings.ContainsFunc(out.String(), func(c rune) bool { return c != '\n' && (unicode.IsControl(c) || unicode.Is(unicode.Cf, c)) }) {
				t.Errorf("text %q has control characters", out.String())
			}
		}
	})
}
