package pattern

import (
	"strings"
	"testing"
)

// Pages of the EventBridge user guide, and the README of AWS's own engine, that a row takes its expectation from.
const (
	operators = "eb-create-pattern-operators"
	syntax    = "eb-create-pattern"
	arrays    = "eb-event-patterns-arrays"
	nulls     = "eb-event-patterns-null-values"
	ruler     = "event-ruler README"
)

const instanceStopped = `{
	"version": "0", "id": "6a7e8feb-b491-4cf7-a9f1-bf3703467718", "detail-type": "EC2 Instance State-change Notification",
	"source": "aws.ec2", "account": "111122223333", "time": "2017-10-02T18:43:48Z", "region": "us-west-1",
	"resources": ["arn:aws:ec2:us-west-1:123456789012:instance/i-1234567890abcdef0", "arn:aws:ec2:us-west-1:123456789012:volume/vol-1"],
	"detail": {
		"instance-id": "i-1234567890abcdef0", "state": "terminated", "c-count": 5, "d-count": 3, "x-limit": 301.8,
		"source-ip": "10.0.0.33", "source-ip6": "2001:db8::1", "FileName": "dir/photo.png", "service": "EventBridge",
		"eventVersion": "", "responseElements": null, "ok": true, "literal": "a*b\\c"
	}
}`

// scans tells of two connections; a pattern about one of them must not be met half by each.
const scans = `{
	"detail": {
		"severity": 8,
		"connections": [
			{"port": 22, "remote": {"country": "NL", "tags": ["tor", "scan"]}, "hops": [{"asn": 1}, {"asn": 2}]},
			{"port": 443, "remote": {"country": "US", "tags": ["cdn"]}, "hops": [{"asn": 3, "last": true}]}
		],
		"nested": [["a", "b"], [{"deep": 1}, {"deep": 2, "side": "x"}]],
		"none": []
	}
}`

func TestDocumentedExamples(t *testing.T) {
	for _, row := range []struct {
		name, page, pattern, event string
		want                       bool
	}{
		{"three requirements are all met", "eb-event-patterns", `{"source":["aws.ec2"],"detail-type":["EC2 Instance State-change Notification"],"detail":{"state":["terminated"]}}`, instanceStopped, true},
		{"one of two fields does not match", syntax, `{"source":["aws.ec2"],"region":["us-east-1"]}`, instanceStopped, false},
		{"one of two values matches", syntax, `{"source":["aws.ec2","aws.fargate"]}`, instanceStopped, true},
		{"a field that is not there", syntax, `{"detail":{"nothing":["x"]}}`, instanceStopped, false},
		{"strings are not folded", syntax, `{"source":["AWS.EC2"]}`, instanceStopped, false},
		{"true matches true", syntax, `{"detail":{"ok":[true]}}`, instanceStopped, true},
		{"true does not match 1", syntax, `{"a":[true]}`, `{"a":1}`, false},
		{"1 does not match true", syntax, `{"a":[1]}`, `{"a":true}`, false},
		{"a number is no string", syntax, `{"a":["5"]}`, `{"a":5}`, false},
		{"300 is 300", syntax, `{"a":[300]}`, `{"a":300}`, true},
		{"300.0 is not 300", syntax, `{"a":[300]}`, `{"a":300.0}`, false},
		{"3.0e2 is not 300", syntax, `{"a":[300]}`, `{"a":3.0e2}`, false},
		{"the last of two equal keys counts", syntax, `{"source":["aws.s3"],"source":["aws.sns"]}`, `{"source":"aws.sns"}`, true},
		{"the first of two equal keys does not", syntax, `{"source":["aws.s3"],"source":["aws.sns"]}`, `{"source":"aws.s3"}`, false},
		{"the last of two equal keys of the event counts", syntax, `{"source":["aws.sns"]}`, `{"source":"aws.s3","source":"aws.sns"}`, true},
		{"dots in the pattern's key, none in the event", syntax, `{"detail":{"state.status":["running"]}}`, `{"detail":{"state":{"status":"running"}}}`, true},
		{"dots in the event's key, none in the pattern", syntax, `{"detail":{"state":{"status":["running"]}}}`, `{"detail":{"state.status":"running"}}`, true},

		{"prefix", operators, `{"time":[{"prefix":"2017-10-02"}]}`, instanceStopped, true},
		{"another prefix", operators, `{"time":[{"prefix":"2017-10-03"}]}`, instanceStopped, false},
		{"prefix is for strings", operators, `{"detail":{"c-count":[{"prefix":"5"}]}}`, instanceStopped, false},
		{"prefix with case ignored", operators, `{"detail":{"service":[{"prefix":{"equals-ignore-case":"EVENTb"}}]}}`, instanceStopped, true},
		{"a prefix longer than the value", operators, `{"a":[{"prefix":{"equals-ignore-case":"ab"}}]}`, `{"a":"A"}`, false},
		{"suffix", operators, `{"detail":{"FileName":[{"suffix":".png"}]}}`, instanceStopped, true},
		{"another suffix", operators, `{"detail":{"FileName":[{"suffix":".PNG"}]}}`, instanceStopped, false},
		{"suffix with case ignored", operators, `{"detail":{"FileName":[{"suffix":{"equals-ignore-case":".PNG"}}]}}`, instanceStopped, true},
		{"letters whose cases differ in length", operators, `{"a":[{"suffix":{"equals-ignore-case":"K"}}]}`, `{"a":"300 \u212a"}`, true},
		{"equals with case ignored", operators, `{"detail-type":[{"equals-ignore-case":"ec2 instance state-change notification"}]}`, instanceStopped, true},
		{"equals with case ignored is not a prefix", operators, `{"detail-type":[{"equals-ignore-case":"ec2 instance"}]}`, instanceStopped, false},

		{"anything but a string", operators, `{"detail":{"state":[{"anything-but":"initializing"}]}}`, instanceStopped, true},
		{"anything but that very string", operators, `{"detail":{"state":[{"anything-but":"terminated"}]}}`, instanceStopped, false},
		{"anything but a number", operators, `{"detail":{"x-limit":[{"anything-but":123}]}}`, instanceStopped, true},
		{"anything but that very number", operators, `{"detail":{"c-count":[{"anything-but":5}]}}`, instanceStopped, false},
		{"anything but a list of strings", operators, `{"detail":{"state":[{"anything-but":["stopped","overloaded"]}]}}`, instanceStopped, true},
		{"anything but a list with that string", operators, `{"detail":{"state":[{"anything-but":["stopped","terminated"]}]}}`, instanceStopped, false},
		{"anything but a list of numbers", operators, `{"detail":{"x-limit":[{"anything-but":[100,200,300]}]}}`, instanceStopped, true},
		{"anything but a list with that number", operators, `{"detail":{"c-count":[{"anything-but":[4,5,6]}]}}`, instanceStopped, false},
		{"anything but needs a field", syntax, `{"detail":{"nothing":[{"anything-but":"x"}]}}`, instanceStopped, false},
		{"null is something else", operators, `{"detail":{"responseElements":[{"anything-but":"x"}]}}`, instanceStopped, true},
		{"anything but with case ignored", operators, `{"detail":{"state":[{"anything-but":{"equals-ignore-case":"TERMINATED"}}]}}`, instanceStopped, false},
		{"anything but a list with case ignored", operators, `{"detail":{"state":[{"anything-but":{"equals-ignore-case":["initializing","STOPPED"]}}]}}`, instanceStopped, true},
		{"anything but a prefix", operators, `{"detail":{"state":[{"anything-but":{"prefix":"term"}}]}}`, instanceStopped, false},
		{"anything but a list of prefixes", operators, `{"detail":{"state":[{"anything-but":{"prefix":["init","stop"]}}]}}`, instanceStopped, true},
		{"anything but a suffix", operators, `{"detail":{"FileName":[{"anything-but":{"suffix":".txt"}}]}}`, instanceStopped, true},
		{"anything but a list of suffixes", operators, `{"detail":{"FileName":[{"anything-but":{"suffix":[".txt",".png"]}}]}}`, instanceStopped, false},
		{"anything but a wildcard", operators, `{"detail":{"FileName":[{"anything-but":{"wildcard":"*/lib/*"}}]}}`, instanceStopped, true},
		{"anything but a list of wildcards", operators, `{"detail":{"FileName":[{"anything-but":{"wildcard":["*/lib/*","dir/*"]}}]}}`, instanceStopped, false},

		{"a range with its upper end", operators, `{"detail":{"c-count":[{"numeric":[">",0,"<=",5]}]}}`, instanceStopped, true},
		{"a range without its upper end", operators, `{"detail":{"c-count":[{"numeric":[">",0,"<",5]}]}}`, instanceStopped, false},
		{"a range without its lower end", operators, `{"detail":{"c-count":[{"numeric":[">",5,"<=",9]}]}}`, instanceStopped, false},
		{"less than", operators, `{"detail":{"d-count":[{"numeric":["<",10]}]}}`, instanceStopped, true},
		{"at least", operators, `{"detail":{"d-count":[{"numeric":[">=",3]}]}}`, instanceStopped, true},
		{"equal though written otherwise", operators, `{"detail":{"x-limit":[{"numeric":["=",3.018e2]}]}}`, instanceStopped, true},
		{"numeric is for numbers", operators, `{"a":[{"numeric":["=",5]}]}`, `{"a":"5"}`, false},
		{"the largest integer that is exact", operators, `{"a":[{"numeric":[">",0]}]}`, `{"a":9007199254740992}`, true},
		{"an integer that no double holds is not a number", operators, `{"a":[{"numeric":[">",0]}]}`, `{"a":9007199254740993}`, false},
		{"a number beyond every double", operators, `{"a":[{"numeric":[">",0]}]}`, `{"a":1e999}`, false},
		{"a number with a monstrous exponent", operators, `{"a":[{"numeric":[">=",0]}]}`, `{"a":1e-99999999999999999999}`, false},
		{"a tenth is as exact as doubles are", operators, `{"a":[{"numeric":["=",0.1]}]}`, `{"a":0.10}`, true},

		{"an address in the network", operators, `{"detail":{"source-ip":[{"cidr":"10.0.0.0/24"}]}}`, instanceStopped, true},
		{"an address outside", operators, `{"detail":{"source-ip":[{"cidr":"10.0.1.0/24"}]}}`, instanceStopped, false},
		{"a network written with host bits", ruler, `{"detail":{"source-ip":[{"cidr":"10.0.0.7/24"}]}}`, instanceStopped, true},
		{"an IPv6 address", operators, `{"detail":{"source-ip6":[{"cidr":"2001:db8::/32"}]}}`, instanceStopped, true},
		{"a string that is no address", operators, `{"detail":{"state":[{"cidr":"0.0.0.0/0"}]}}`, instanceStopped, false},

		{"a field exists", operators, `{"detail":{"state":[{"exists":true}]}}`, instanceStopped, true},
		{"a field does not exist", operators, `{"detail":{"state":[{"exists":true}]}}`, `{"detail":{"c-count":{"c1":100}}}`, false},
		{"absence of a field", operators, `{"detail":{"nothing":[{"exists":false}]}}`, instanceStopped, true},
		{"null exists", operators, `{"detail":{"responseElements":[{"exists":true}]}}`, instanceStopped, true},
		{"an object is no leaf", ruler, `{"detail":{"c-count":[{"exists":false}]}}`, `{"detail":{"c-count":{"c1":100}}}`, true},
		{"absent, or one of the values", operators, `{"detail":{"nothing":[{"exists":false},"x"]}}`, instanceStopped, true},
		{"present with the other value", operators, `{"detail":{"state":[{"exists":false},"terminated"]}}`, instanceStopped, true},

		{"wildcard", operators, `{"detail":{"FileName":[{"wildcard":"dir/*.png"}]}}`, instanceStopped, true},
		{"wildcard is tied to both ends", operators, `{"detail":{"FileName":[{"wildcard":"photo*"}]}}`, instanceStopped, false},
		{"several wildcards", operators, `{"resources":[{"wildcard":"arn:aws:*:us-west-1:*:instance/*"}]}`, instanceStopped, true},
		{"a piece is not used twice", operators, `{"a":[{"wildcard":"ab*ba"}]}`, `{"a":"aba"}`, false},
		{"an empty piece at the end", operators, `{"a":[{"wildcard":"ab*"}]}`, `{"a":"ab"}`, true},
		{"escaped star and backslash", operators, `{"detail":{"literal":[{"wildcard":"a\\*b\\\\*"}]}}`, instanceStopped, true},
		{"an escaped star is only a star", operators, `{"a":[{"wildcard":"a\\*"}]}`, `{"a":"ab"}`, false},
		{"a star after an escaped star", operators, `{"a":[{"wildcard":"a\\**"}]}`, `{"a":"a*xyz"}`, true},

		{"the empty string", nulls, `{"detail":{"eventVersion":[""]}}`, instanceStopped, true},
		{"null", nulls, `{"detail":{"responseElements":[null]}}`, instanceStopped, true},
		{"the empty string is not null", nulls, `{"detail":{"responseElements":[""]}}`, instanceStopped, false},
		{"null is not the empty string", nulls, `{"detail":{"eventVersion":[null]}}`, instanceStopped, false},

		{"or over fields", operators, `{"detail":{"$or":[{"c-count":[{"numeric":[">",7,"<=",9]}]},{"d-count":[{"numeric":["<",10]}]},{"x-limit":[{"numeric":["=",3.0e2]}]}]}}`, instanceStopped, true},
		{"or over fields, none of them", operators, `{"detail":{"$or":[{"c-count":[{"numeric":[">",7]}]},{"d-count":[{"numeric":[">",10]}]}]}}`, instanceStopped, false},
		{"or and a field beside it", ruler, `{"source":["aws.s3"],"$or":[{"detail":{"state":["terminated"]}},{"region":["us-west-1"]}]}`, instanceStopped, false},
		{"a field after the or", ruler, `{"$or":[{"account":["1"]},{"region":["us-west-1"]}],"source":["aws.s3"]}`, instanceStopped, false},
		{"two ors, both met", ruler, `{"$or":[{"source":["aws.s3"]},{"region":["us-west-1"]}],"detail":{"$or":[{"state":["running"]},{"ok":[true]}]}}`, instanceStopped, true},
		{"two ors, one met", ruler, `{"$or":[{"source":["aws.s3"]},{"region":["us-west-1"]}],"detail":{"$or":[{"state":["running"]},{"ok":[false]}]}}`, instanceStopped, false},
		{"or within or", ruler, `{"$or":[{"source":["aws.s3"]},{"region":["us-west-1"],"$or":[{"account":["1"]},{"detail":{"ok":[true]}}]}]}`, instanceStopped, true},
		{"and within or", ruler, `{"$or":[{"source":["aws.s3"]},{"region":["us-west-1"],"account":["1"]}]}`, instanceStopped, false},

		{"an array of the event meets an array of the pattern", arrays, `{"resources":["arn:aws:ec2:us-west-1:123456789012:instance/i-1234567890abcdef0","arn:x"]}`, instanceStopped, true},
		{"an operator on one element of an array", arrays, `{"resources":[{"suffix":"vol-1"}]}`, instanceStopped, true},
		{"anything but is met by one other element", ruler, `{"a":[{"anything-but":"x"}]}`, `{"a":["x","y"]}`, true},
		{"an array without the value", arrays, `{"a":["z"]}`, `{"a":["x","y"]}`, false},
		{"an array of objects", ruler, `{"detail":{"connections":{"port":[22]}}}`, scans, true},
		{"two fields of one element", ruler, `{"detail":{"connections":{"port":[22],"remote":{"country":["NL"]}}}}`, scans, true},
		{"two fields of different elements", ruler, `{"detail":{"connections":{"port":[22],"remote":{"country":["US"]}}}}`, scans, false},
		{"an array within an element", ruler, `{"detail":{"connections":{"port":[22],"remote":{"tags":["scan"]}}}}`, scans, true},
		{"an array within the other element", ruler, `{"detail":{"connections":{"port":[22],"remote":{"tags":["cdn"]}}}}`, scans, false},
		{"two fields of an inner element", ruler, `{"detail":{"connections":{"hops":{"asn":[3],"last":[true]}}}}`, scans, true},
		{"fields of two inner elements", ruler, `{"detail":{"connections":{"hops":{"asn":[1],"last":[true]}}}}`, scans, false},
		{"an inner and an outer field", ruler, `{"detail":{"connections":{"port":[443],"hops":{"asn":[3]}}}}`, scans, true},
		{"an inner field of another outer element", ruler, `{"detail":{"connections":{"port":[443],"hops":{"asn":[2]}}}}`, scans, false},
		{"a field outside joins any element", ruler, `{"detail":{"severity":[{"numeric":[">=",7]}],"connections":{"port":[443]}}}`, scans, true},
		{"a field that one element lacks exists", ruler, `{"detail":{"connections":{"hops":{"last":[{"exists":true}]}}}}`, scans, true},
		{"a field that one element has is not absent", ruler, `{"detail":{"connections":{"hops":{"last":[{"exists":false}]}}}}`, scans, false},
		{"an array of arrays", ruler, `{"detail":{"nested":["b"]}}`, scans, true},
		{"an element of an array of arrays", ruler, `{"detail":{"nested":{"deep":[2],"side":["x"]}}}`, scans, true},
		{"fields of two elements of an array of arrays", ruler, `{"detail":{"nested":{"deep":[1],"side":["x"]}}}`, scans, false},
		{"an empty array has no value", ruler, `{"detail":{"none":[{"exists":false}]}}`, scans, true},
	} {
		t.Run(row.page+": "+row.name, func(t *testing.T) {
			p, err := Compile([]byte(row.pattern))
			if err != nil {
				t.Fatal(err)
			}
			got, err := p.Match([]byte(row.event))
			if err != nil {
				t.Fatal(err)
			}
			if got != row.want {
				t.Errorf("%s gives %v for %s", row.pattern, got, row.event)
			}
		})
	}
}

func TestMalformedPatternsAreRefusedWithTheirPath(t *testing.T) {
	for _, row := range []struct{ name, pattern, want string }{
		{"no JSON", `{"a":`, "not valid JSON"},
		{"more than one value", `{"a":["x"]} {}`, "not valid JSON"},
		{"no object", `["x"]`, "not a JSON object"},
		{"nothing asked", `{}`, "pattern: empty objects"},
		{"nothing asked of a field", `{"a":{"b":{}}}`, "a.b: empty objects"},
		{"no value given", `{"a":{"b":[]}}`, "a.b: empty arrays"},
		{"a bare value", `{"a":{"b":"x"}}`, "a.b: must be an object or an array"},
		{"a null for an array", `{"a":null}`, "a: must be an object or an array"},
		{"an array in an array", `{"a":[["x"]]}`, "a[0]: must be"},
		{"an unknown operator", `{"detail":{"state":["x",{"regex":"y"}]}}`, "detail.state[1].regex: unknown operator"},
		{"no operator", `{"a":[{}]}`, "a[0]: must have exactly one operator"},
		{"two operators", `{"a":[{"prefix":"x","suffix":"y"}]}`, "a[0]: must have exactly one operator"},
		{"a prefix that is a number", `{"a":[{"prefix":1}]}`, "a[0].prefix: must be a string"},
		{"a prefix that is a list", `{"a":[{"prefix":["x"]}]}`, "a[0].prefix: must be a string"},
		{"an operator that a prefix cannot hold", `{"a":[{"prefix":{"wildcard":"x"}}]}`, "a[0].prefix.wildcard: unknown operator"},
		{"an equality that is a list", `{"a":[{"equals-ignore-case":["x"]}]}`, "a[0].equals-ignore-case: must be a string"},
		{"exists is a string", `{"a":[{"exists":"true"}]}`, "a[0].exists: must be true or false"},
		{"exists is a list", `{"a":[{"exists":[true]}]}`, "a[0].exists: must be true or false"},
		{"a network without a mask", `{"a":[{"cidr":"10.0.0.0"}]}`, "a[0].cidr: "},
		{"a network of one address", `{"a":[{"cidr":"10.0.0.1/32"}]}`, "a[0].cidr: the mask"},
		{"numeric is no array", `{"a":[{"numeric":5}]}`, "a[0].numeric: must be an array"},
		{"numeric without a limit", `{"a":[{"numeric":[">"]}]}`, "a[0].numeric: must have"},
		{"an unknown comparison", `{"a":[{"numeric":["!=",1]}]}`, "a[0].numeric[0]: unknown comparison"},
		{"a limit that is a string", `{"a":[{"numeric":[">","1"]}]}`, "a[0].numeric[1]: must be a number"},
		{"a range upside down", `{"a":[{"numeric":["<",5,">",1]}]}`, "a[0].numeric: a range"},
		{"a range with nothing in it", `{"a":[{"numeric":[">",5,"<",5]}]}`, "a[0].numeric: the lower end"},
		{"a limit that no double holds", `{"a":[{"numeric":["=",9007199254740993]}]}`, "a[0].numeric[1]: 9007199254740993 cannot"},
		{"anything but null", `{"a":[{"anything-but":null}]}`, "a[0].anything-but: must be"},
		{"anything but nothing", `{"a":[{"anything-but":[]}]}`, "a[0].anything-but: must be"},
		{"anything but a mixture", `{"a":[{"anything-but":["x",1]}]}`, "a[0].anything-but: must be"},
		{"anything but an unknown operator", `{"a":[{"anything-but":{"cidr":"10.0.0.0/8"}}]}`, "a[0].anything-but.cidr: unknown operator"},
		{"anything but the empty prefix", `{"a":[{"anything-but":{"prefix":""}}]}`, "a[0].anything-but.prefix: must not be empty"},
		{"anything but no prefix at all", `{"a":[{"anything-but":{"prefix":[]}}]}`, "a[0].anything-but.prefix: empty arrays"},
		{"two stars", `{"a":[{"wildcard":"x**"}]}`, "a[0].wildcard: consecutive"},
		{"an escape of something else", `{"a":[{"wildcard":"x\\y"}]}`, "a[0].wildcard: a backslash"},
		{"an escape of nothing", `{"a":[{"wildcard":"x\\"}]}`, "a[0].wildcard: a backslash"},
		{"or is no array", `{"a":{"$or":{"b":["x"]}}}`, "a.$or: must be an array"},
		{"or of one", `{"a":{"$or":[{"b":["x"]}]}}`, "a.$or: must have at least 2"},
		{"or of something else", `{"$or":[{"b":["x"]},"y"]}`, "$or[1]: must be an object"},
		{"or of nothing", `{"$or":[{"b":["x"]},{}]}`, "pattern: empty objects"},
		{"an operator as a field of or", `{"$or":[{"prefix":["x"]},{"b":["y"]}]}`, "prefix: prefix is an operator"},
		{"too many combinations", `{` + strings.Repeat(`"$or":[{"a":["x"]},{"b":["y"]}],`, 1) +
			nest(11) + `}`, "more than 1000 rule combinations"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := Compile([]byte(row.pattern))
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("got %v, want something about %q", err, row.want)
			}
		})
	}
}

// nest makes n fields that each hold a choice of two.
func nest(n int) string {
	var fields []string
	for i := range n {
		fields = append(fields, `"f`+string(rune('a'+i))+`":{"$or":[{"x":[1]},{"y":[2]}]}`)
	}
	return strings.Join(fields, ",")
}

func TestAsManyCombinationsAsAWSAllows(t *testing.T) {
	if _, err := Compile([]byte(`{` + nest(9) + `}`)); err != nil {
		t.Errorf("512 combinations are refused: %v", err)
	}
}

func TestEventsThatAreNoObjects(t *testing.T) {
	p, err := Compile([]byte(`{"a":["x"]}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, event := range []string{``, `[]`, `"x"`, `{"a":`, `{"a":"x"}{}`} {
		if _, err := p.Match([]byte(event)); err == nil {
			t.Errorf("%q passed as an event", event)
		}
	}
}

func FuzzPattern(f *testing.F) {
	f.Add(`{"detail":{"connections":{"port":[22,{"numeric":[">",0,"<=",5]}],"remote":{"country":[{"prefix":"N"}]}}}}`, scans)
	f.Add(`{"$or":[{"a":[{"wildcard":"*a\\*"}]},{"b":[{"anything-but":{"suffix":["x"]}}]}]}`, instanceStopped)
	f.Add(`{"a.b":[null,{"exists":false}],"a":{"b":[{"cidr":"10.0.0.0/8"}]}}`, `{"a":[{"b":1},[{"b":"10.1.1.1"}]]}`)
	f.Fuzz(func(t *testing.T, pattern, event string) {
		p, err := Compile([]byte(pattern))
		if err != nil {
			return
		}
		first, err := p.Match([]byte(event))
		if err != nil {
			return
		}
		// What a pattern does not ask about cannot make a match or undo one.
		if object := strings.TrimSpace(event); !strings.Contains(pattern, "unasked") && object != "" && !strings.HasSuffix(object, "{}") {
			more := `{"unasked":[{"a":1},[{"b":2}]],` + strings.TrimPrefix(object, "{")
			if got, err := p.Match([]byte(more)); err == nil && got != first {
				t.Errorf("%s on %s gives %v, but on %s it gives %v", pattern, event, first, more, got)
			}
		}
		// A choice between a pattern and itself is the pattern.
		if twice, err := Compile([]byte(`{"$or":[` + pattern + `,` + pattern + `]}`)); err == nil {
			if got, err := twice.Match([]byte(event)); err != nil || got != first {
				t.Errorf("%s on %s gives %v, but twice it gives %v, %v", pattern, event, first, got, err)
			}
		}
	})
}

func FuzzValue(f *testing.F) {
	f.Add("running", "run")
	f.Add("a*b\\", "\u212a")
	f.Fuzz(func(t *testing.T, v, w string) {
		event := []byte(`{"a":` + quote(v) + `}`)
		match := func(test string) bool {
			p, err := Compile([]byte(`{"a":[` + test + `]}`))
			if err != nil {
				t.Fatalf("%s: %v", test, err)
			}
			ok, err := p.Match(event)
			if err != nil {
				t.Fatal(err)
			}
			return ok
		}
		q := quote(w)
		// A value either passes a test or everything but it.
		for _, op := range []string{"", "prefix", "suffix", "equals-ignore-case"} {
			plain, but := q, `{"anything-but":`+q+`}`
			if op != "" {
				plain, but = `{"`+op+`":`+q+`}`, `{"anything-but":{"`+op+`":`+q+`}}`
			}
			if w == "" && (op == "prefix" || op == "suffix") {
				continue // refused by anything-but
			}
			if match(plain) == match(but) {
				t.Errorf("%q passes or fails both %s and %s", v, plain, but)
			}
		}
		escaped := strings.NewReplacer(`\`, `\\`, `*`, `\*`).Replace(w)
		for _, pair := range [][2]string{
			{`{"wildcard":` + quote(escaped) + `}`, q},
			{`{"wildcard":` + quote(escaped+"*") + `}`, `{"prefix":` + q + `}`},
			{`{"wildcard":` + quote("*"+escaped) + `}`, `{"suffix":` + q + `}`},
		} {
			if w == "" {
				continue // consecutive nothing
			}
			if match(pair[0]) != match(pair[1]) {
				t.Errorf("%q tells %s from %s", v, pair[0], pair[1])
			}
		}
		if match(`{"prefix":`+q+`}`) && !match(`{"prefix":{"equals-ignore-case":`+q+`}}`) {
			t.Errorf("%q has the prefix %q only when case counts", v, w)
		}
		if match(`{"suffix":`+q+`}`) && !match(`{"suffix":{"equals-ignore-case":`+q+`}}`) {
			t.Errorf("%q has the suffix %q only when case counts", v, w)
		}
	})
}
