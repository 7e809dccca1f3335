package asl

import (
	"fmt"
	"strings"
	"testing"
)

// decideRule evaluates one rule, written as JSON without its Next, on a document.
func decideRule(t *testing.T, rule, doc string) (bool, error) {
	t.Helper()
	m := mustParse(t, one(`"Type":"Choice","Choices":[{`+rule+`,"Next":"Y"}]`))
	return m.States["X"].Choices[0].decide(scope{mustDecode(t, doc), obj("Execution", obj("Name", "run-1"))})
}

func TestChoiceRules(t *testing.T) {
	const doc = `{"s": "foo23.log", "n": 5, "f": 5.0, "b": true, "nul": null, "at": "2016-03-14T01:59:00Z", "other": "foo23.log", "six": 6,
		"later": "2016-03-14T03:00:00+01:00", "list": [1, 2], "obj": {}, "star": "a*b\\c", "date": "2016-03-14"}`
	for _, row := range []struct {
		rule, json string
		want       bool
	}{
		{"equal texts", `"Variable":"$.s","StringEquals":"foo23.log"`, true},
		{"texts that differ in case", `"Variable":"$.s","StringEquals":"FOO23.log"`, false},
		{"a number is no text", `"Variable":"$.n","StringEquals":"5"`, false},
		{"text before", `"Variable":"$.s","StringLessThan":"goo"`, true},
		{"text not before itself", `"Variable":"$.s","StringLessThan":"foo23.log"`, false},
		{"text before or equal", `"Variable":"$.s","StringLessThanEquals":"foo23.log"`, true},
		{"text after", `"Variable":"$.s","StringGreaterThan":"foo"`, true},
		{"text after or equal", `"Variable":"$.s","StringGreaterThanEquals":"foo24"`, false},
		{"texts of two paths", `"Variable":"$.s","StringEqualsPath":"$.other"`, true},
		{"order of texts of two paths", `"Variable":"$.s","StringLessThanPath":"$.at"`, false},
		{"a path to a number is no text", `"Variable":"$.s","StringEqualsPath":"$.n"`, false},

		{"equal numbers, written otherwise", `"Variable":"$.f","NumericEquals":5`, true},
		{"a text is no number", `"Variable":"$.s","NumericEquals":5`, false},
		{"null is no number", `"Variable":"$.nul","NumericEquals":0`, false},
		{"number before", `"Variable":"$.n","NumericLessThan":5.5`, true},
		{"number not before itself", `"Variable":"$.n","NumericLessThan":5`, false},
		{"number before or equal", `"Variable":"$.n","NumericLessThanEquals":5`, true},
		{"number after", `"Variable":"$.n","NumericGreaterThan":-5`, true},
		{"number after or equal", `"Variable":"$.n","NumericGreaterThanEquals":6`, false},
		{"numbers of two paths", `"Variable":"$.n","NumericEqualsPath":"$.f"`, true},
		{"order of numbers of two paths", `"Variable":"$.n","NumericLessThanPath":"$.six"`, true},

		{"equal booleans", `"Variable":"$.b","BooleanEquals":true`, true},
		{"booleans of two paths", `"Variable":"$.b","BooleanEqualsPath":"$.b"`, true},
		{"null is not false", `"Variable":"$.nul","BooleanEquals":false`, false},

		{"equal instants in different zones", `"Variable":"$.at","TimestampEquals":"2016-03-14T02:59:00+01:00"`, true},
		{"a date is no timestamp", `"Variable":"$.date","TimestampEquals":"2016-03-14T00:00:00Z"`, false},
		{"instant before", `"Variable":"$.at","TimestampLessThan":"2016-03-14T01:59:00.5Z"`, true},
		{"instant before or equal", `"Variable":"$.at","TimestampLessThanEquals":"2016-03-14T01:59:00Z"`, true},
		{"instant after", `"Variable":"$.at","TimestampGreaterThan":"2016-03-14T01:59:00Z"`, false},
		{"instant after or equal", `"Variable":"$.at","TimestampGreaterThanEquals":"2016-03-14T01:58:59Z"`, true},
		{"instants of two paths", `"Variable":"$.at","TimestampLessThanPath":"$.later"`, true},

		{"a pattern with a star at the start", `"Variable":"$.s","StringMatches":"*.log"`, true},
		{"a pattern with a star inside", `"Variable":"$.s","StringMatches":"foo*.log"`, true},
		{"a pattern with two stars", `"Variable":"$.s","StringMatches":"f*2*g"`, true},
		{"a pattern that is a star", `"Variable":"$.s","StringMatches":"*"`, true},
		{"a pattern without a star", `"Variable":"$.s","StringMatches":"foo"`, false},
		{"pieces do not overlap", `"Variable":"$.s","StringMatches":"foo23.log*log"`, false},
		{"inner pieces do not overlap the last", `"Variable":"$.s","StringMatches":"f*log*log"`, false},
		{"pieces in another order", `"Variable":"$.s","StringMatches":"*log*foo*"`, false},
		{"an escaped star and backslash", `"Variable":"$.star","StringMatches":"a\\*b\\\\*"`, true},
		{"an escaped star is no wildcard", `"Variable":"$.s","StringMatches":"foo\\*"`, false},
		{"a number matches no pattern", `"Variable":"$.n","StringMatches":"*"`, false},

		{"null is null", `"Variable":"$.nul","IsNull":true`, true},
		{"a number is not null", `"Variable":"$.n","IsNull":false`, true},
		{"null is present", `"Variable":"$.nul","IsPresent":true`, true},
		{"a missing field is not present", `"Variable":"$.x.y","IsPresent":true`, false},
		{"a missing field is absent", `"Variable":"$.x.y","IsPresent":false`, true},
		{"a wildcard without a match is absent", `"Variable":"$.obj[*]","IsPresent":false`, true},
		{"a number is numeric", `"Variable":"$.f","IsNumeric":true`, true},
		{"a text is not numeric", `"Variable":"$.s","IsNumeric":true`, false},
		{"a text is a string", `"Variable":"$.s","IsString":true`, true},
		{"a boolean is boolean", `"Variable":"$.b","IsBoolean":true`, true},
		{"a list is not boolean", `"Variable":"$.list","IsBoolean":false`, true},
		{"a timestamp is one", `"Variable":"$.later","IsTimestamp":true`, true},
		{"a date alone is no timestamp", `"Variable":"$.date","IsTimestamp":true`, false},

		{"the Context Object", `"Variable":"$$.Execution.Name","StringEquals":"run-1"`, true},
		{"And of truths", `"And":[{"Variable":"$.b","BooleanEquals":true},{"Variable":"$.n","NumericEquals":5}]`, true},
		{"And with an untruth", `"And":[{"Variable":"$.b","BooleanEquals":true},{"Variable":"$.n","NumericEquals":6}]`, false},
		{"And stops at the first untruth", `"And":[{"Variable":"$.x","IsPresent":true},{"Variable":"$.x","NumericEquals":6}]`, false},
		{"Or of one truth", `"Or":[{"Variable":"$.n","NumericEquals":6},{"Variable":"$.b","BooleanEquals":true}]`, true},
		{"Or stops at the first truth", `"Or":[{"Variable":"$.b","BooleanEquals":true},{"Variable":"$.x","NumericEquals":6}]`, true},
		{"Or of untruths", `"Or":[{"Variable":"$.n","NumericEquals":6}]`, false},
		{"Not", `"Not":{"Variable":"$.b","BooleanEquals":true}`, false},
		{"Not of Or", `"Not":{"Or":[{"Variable":"$.n","NumericEquals":6}]}`, true},
	} {
		t.Run(row.rule, func(t *testing.T) {
			got, err := decideRule(t, row.json, doc)
			if err != nil {
				t.Fatal(err)
			}
			if got != row.want {
				t.Errorf("%s is %v", row.json, got)
			}
		})
	}
}

func TestChoiceOfAMissingFieldFails(t *testing.T) {
	for _, rule := range []string{
		`"Variable":"$.x","StringEquals":"a"`,
		`"Variable":"$.x","IsNull":true`,
		`"Variable":"$.n","NumericEqualsPath":"$.x"`,
		`"Not":{"Variable":"$.x","BooleanEquals":true}`,
	} {
		t.Run(rule, func(t *testing.T) {
			_, err := decideRule(t, rule, `{"n":1}`)
			if err == nil || !strings.Contains(err.Error(), "Invalid path '$.x': The choice state's condition path references an invalid value.") {
				t.Errorf("error %v", err)
			}
		})
	}
}

// Every operator of the specification's list must be known, so that none can be forgotten.
func TestEveryOperatorIsKnown(t *testing.T) {
	names := []string{"StringMatches", "IsNull", "IsPresent", "IsNumeric", "IsString", "IsBoolean", "IsTimestamp", "BooleanEquals", "BooleanEqualsPath"}
	for _, family := range []string{"String", "Numeric", "Timestamp"} {
		for _, relation := range []string{"Equals", "LessThan", "GreaterThan", "LessThanEquals", "GreaterThanEquals"} {
			names = append(names, family+relation, family+relation+"Path")
		}
	}
	if len(names) != 39 {
		t.Fatalf("%d operators", len(names))
	}
	operand := func(name string) string {
		switch {
		case strings.HasSuffix(name, "Path"):
			return `"$.x"`
		case strings.HasPrefix(name, "Is"), strings.HasPrefix(name, "Boolean"):
			return "true"
		case strings.HasPrefix(name, "Numeric"):
			return "1"
		}
		return `"2016-03-14T01:59:00Z"`
	}
	for _, name := range names {
		mustParse(t, one(fmt.Sprintf(`"Type":"Choice","Choices":[{"Variable":"$","%s":%s,"Next":"Y"}]`, name, operand(name))))
	}
}
