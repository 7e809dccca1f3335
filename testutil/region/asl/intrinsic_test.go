package asl

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
)

const intrinsicInput = `{
  "name": "Foo", "n": 5, "f": 1.5, "t": true, "nul": null, "template": "Hello, {}!",
  "arr": [1, 2, 3, 4, 5, 6, 7, 8, 9], "dup": [1, 1.0, "1", null, null, {"a": 1, "b": 2}, {"b": 2, "a": 1}, []],
  "o1": {"a": {"a1": 1, "a2": 2}, "b": 2, "d": 3}, "o2": {"a": {"a3": 1, "a4": 2}, "c": 3, "d": 4},
  "json": "{\"Arg1\": 1, \"Arg2\": []}", "b64": "RGF0YSB0byBlbmNvZGU=", "(odd, name)": "odd", "csv": "1,2,,3"
}`

func intrinsicScope(t testing.TB) scope {
	return scope{mustDecode(t, intrinsicInput), obj("Execution", obj("Name", "run-1"))}
}

// Where the documents leave something open, the expected value is what the service answered in the
// executions recorded by LocalStack's test suite (tests/aws/services/stepfunctions, intrinsic_functions).
func TestIntrinsicFunctions(t *testing.T) {
	in := intrinsicScope(t)
	for _, row := range []struct{ rule, call, want string }{
		{"Format fills a hole", "States.Format('Your name is {}, year {}', $.name, 2020)", `"Your name is Foo, year 2020"`},
		{"Format takes its pattern from a path", "States.Format($.template, $.name)", `"Hello, Foo!"`},
		{"Format takes its pattern from a function", "States.Format(States.Format('\\{\\}!'), 'a')", `"a!"`},
		{"Format without holes", "States.Format('plain')", `"plain"`},
		{"Format writes null, booleans and numbers plainly", "States.Format('{} {} {} {}', $.nul, $.t, $.f, 7)", `"null true 1.5 7"`},
		{"Format keeps escaped braces", `States.Format('\{\} {}', 1)`, `"{} 1"`},
		{"Format keeps escaped quotes and backslashes", `States.Format('\'{}\' \\', 1)`, `"'1' \\"`},
		{"Format reads the Context Object", "States.Format('{}', $$.Execution.Name)", `"run-1"`},
		{"StringToJson reads an object", "States.StringToJson($.json)", `{"Arg1":1,"Arg2":[]}`},
		{"StringToJson reads a blank text as null", "States.StringToJson(' ')", `null`},
		{"StringToJson takes bare braces", `States.StringToJson('{"a": "false"}')`, `{"a":"false"}`},
		{"JsonToString writes an object in order", "States.JsonToString($.o1)", `"{\"a\":{\"a1\":1,\"a2\":2},\"b\":2,\"d\":3}"`},
		{"JsonToString quotes a text", "States.JsonToString($.name)", `"\"Foo\""`},
		{"Array of mixed values", "States.Array('Foo', 2020, $.o1.b, null, true)", `["Foo",2020,2,null,true]`},
		{"Array of nothing", "States.Array()", `[]`},
		{"ArrayPartition leaves a rest", "States.ArrayPartition($.arr, 4)", `[[1,2,3,4],[5,6,7,8],[9]]`},
		{"ArrayPartition of an empty array", "States.ArrayPartition(States.Array(), 4)", `[]`},
		{"ArrayPartition rounds the size", "States.ArrayPartition($.arr, 4.6)", `[[1,2,3,4,5],[6,7,8,9]]`},
		{"ArrayContains finds a number", "States.ArrayContains($.arr, $.n)", `true`},
		{"ArrayContains finds an object", "States.ArrayContains($.dup, States.StringToJson('{\"b\":2,\"a\":1}'))", `true`},
		{"ArrayContains does not mix types", "States.ArrayContains($.arr, '5')", `false`},
		{"ArrayRange includes its end", "States.ArrayRange(1, 9, 2)", `[1,3,5,7,9]`},
		{"ArrayRange stops before its end", "States.ArrayRange(0, 10, 3)", `[0,3,6,9]`},
		{"ArrayRange counts down", "States.ArrayRange(3, 1, -1)", `[3,2,1]`},
		{"ArrayRange the wrong way is empty", "States.ArrayRange(3, 1, 1)", `[]`},
		{"ArrayGetItem counts from 0", "States.ArrayGetItem($.arr, 5)", `6`},
		{"ArrayLength", "States.ArrayLength($.arr)", `9`},
		{"ArrayUnique compares by value", "States.ArrayUnique($.dup)", `[1,"1",null,{"a":1,"b":2},[]]`},
		{"Base64Encode", "States.Base64Encode('Data to encode')", `"RGF0YSB0byBlbmNvZGU="`},
		{"Base64Decode", "States.Base64Decode($.b64)", `"Data to encode"`},
		{"Hash by MD5", "States.Hash('input data', 'MD5')", `"812f45842bc6d66ee14572ce20db8e86"`},
		{"Hash by SHA-1", "States.Hash('input data', 'SHA-1')", `"aaff4a450a104cd177d28d18d74485e8cae074b7"`},
		{"Hash by SHA-256", "States.Hash('input data', 'SHA-256')", `"b4a697a057313163aee33cd8d40c66e9f0f177e00cac2de32475ffff6169c3e3"`},
		{"Hash of a value that is no text", "States.Hash($.n, 'MD5')", `"e4da3b7fbbce2345d7772b0674a318d5"`},
		{"JsonMerge is shallow", "States.JsonMerge($.o1, $.o2, false)", `{"a":{"a3":1,"a4":2},"b":2,"d":4,"c":3}`},
		{"MathAdd", "States.MathAdd($.n, -1)", `4`},
		{"MathAdd rounds a half up", "States.MathAdd(2.5, 0)", `3`},
		{"MathAdd rounds a negative half up", "States.MathAdd(-1.5, 0)", `-1`},
		{"MathAdd rounds each number", "States.MathAdd(1.49, 1.50)", `3`},
		{"StringSplit drops empty pieces", "States.StringSplit($.csv, ',')", `["1","2","3"]`},
		{"StringSplit cuts at each character", "States.StringSplit('This.is+a,test=string', '.+,=')", `["This","is","a","test","string"]`},
		{"StringSplit of separators alone", "States.StringSplit(',,,', ',')", `[]`},
		{"StringSplit keeps blanks", "States.StringSplit(' , ', ',')", `[" "," "]`},
		{"functions nest", "States.ArrayGetItem(States.StringSplit($.csv, ','), States.MathAdd(0, 1))", `"2"`},
		{"blanks around arguments", "States.Array( 1 ,\n $.n )", `[1,5]`},
		{"a comma and a parenthesis inside a path", "States.Array($['(odd, name)'], $.arr[?(@ > 7 && (@ < 9))])", `["odd",[8]]`},
		{"a list path without a match", "States.Array($.arr[?(@ > 99)])", `[[]]`},
	} {
		t.Run(row.rule, func(t *testing.T) {
			c, err := parseCall(row.call)
			if err != nil {
				t.Fatal(err)
			}
			v, err := c.eval(in)
			if err != nil {
				t.Fatal(err)
			}
			if got := string(encode(v)); got != row.want {
				t.Errorf("%s is %s, not %s", row.call, got, row.want)
			}
		})
	}
}

func TestIntrinsicFunctionsFail(t *testing.T) {
	in := intrinsicScope(t)
	long := strings.Repeat("x", 10_001)
	for _, row := range []struct{ rule, call, want string }{
		{"a path without a value", "States.Format('{}', $.absent)", "no value at $.absent"},
		{"an index beyond the end", "States.Array($.arr[99])", "no value at $.arr[99]"},
		{"Format of an object", "States.Format('{}', $.o1)", "object cannot be formatted"},
		{"Format of an array", "States.Format('{}', $.arr)", "array cannot be formatted"},
		{"Format with a pattern that is no text", "States.Format($.n)", "no string but number"},
		{"Format with too few values for a pattern from the input", "States.Format($.template)", "0 values for 1"},
		{"StringToJson of no JSON", "States.StringToJson('nope')", "no JSON"},
		{"StringToJson of a number", "States.StringToJson($.n)", "number is no string"},
		{"ArrayPartition into nothing", "States.ArrayPartition($.arr, 0)", "chunk size 0"},
		{"ArrayPartition of an object", "States.ArrayPartition($.o1, 1)", "object is no array"},
		{"ArrayRange with step 0", "States.ArrayRange(1, 2, 0)", "step 0"},
		{"ArrayRange beyond 1000 elements", "States.ArrayRange(0, 1000, 1)", "more than 1000"},
		{"ArrayGetItem beyond the end", "States.ArrayGetItem($.arr, 9)", "no element 9"},
		{"ArrayGetItem before the start", "States.ArrayGetItem($.arr, -1)", "no element -1"},
		{"ArrayLength of a text", "States.ArrayLength($.name)", "string is no array"},
		{"Base64Encode of a long text", "States.Base64Encode('" + long + "')", "more than 10000"},
		{"Base64Decode of no Base64", "States.Base64Decode('?')", "illegal base64"},
		{"Base64Decode of bytes that are no text", "States.Base64Decode('/w==')", "no text"},
		{"Hash by an unknown algorithm", "States.Hash('x', 'md5')", `"md5" is unknown`},
		{"Hash of a long text", "States.Hash('" + long + "', 'MD5')", "more than 10000"},
		{"JsonMerge in depth", "States.JsonMerge($.o1, $.o2, true)", "shallow"},
		{"JsonMerge of an array", "States.JsonMerge($.o1, $.arr, false)", "not both objects"},
		{"MathAdd of a text", "States.MathAdd($.name, 1)", "string is no number"},
		{"MathAdd beyond 32 bits", "States.MathAdd(2147483648, 1)", "out of range"},
		{"MathRandom of an empty range", "States.MathRandom(5, 5)", "no number from 5 to 5"},
		{"StringSplit of a number", "States.StringSplit($.n, ',')", "number is no string"},
	} {
		t.Run(row.rule, func(t *testing.T) {
			c, err := parseCall(row.call)
			if err != nil {
				t.Fatal(err)
			}
			v, err := c.eval(in)
			if err == nil {
				t.Fatalf("%s is %s", row.call, encode(v))
			}
			if !strings.Contains(err.Error(), row.want) {
				t.Errorf("%v does not say %q", err, row.want)
			}
		})
	}
}

func TestIntrinsicFunctionIsRefused(t *testing.T) {
	for _, row := range []struct{ rule, call, want string }{
		{"an unknown function", "States.Sqrt(4)", `"States.Sqrt" is unknown`},
		{"no function at all", "hello", `"hello" is unknown`},
		{"no arguments", "States.Array", "lacks its arguments"},
		{"an open parenthesis", "States.Array(1", "is not closed"},
		{"text after the function", "States.Array(1) ", "after the function"},
		{"a comma too many", "States.Array(1,)", "is not understood"},
		{"an open text", "States.Array('x)", "text is not closed"},
		{"an unknown escape", `States.Format('He said \"{}\"', 'x')`, "backslash before"},
		{"an open escape", `States.Format('x\`, "backslash before"},
		{"a bad path", "States.Array($.a.length())", "length() is not supported"},
		{"a bare word", "States.Array(nil)", "is not understood"},
		{"too few arguments", "States.MathAdd(1)", "takes not 1 arguments"},
		{"too many arguments", "States.UUID(1)", "takes not 1 arguments"},
		{"more values than holes", "States.Format('{}', 1, 2)", "2 values for 1 {}"},
		{"fewer values than holes", "States.Format('{} {}', 1)", "1 values for 2 {}"},
		{"an escaped hole is no hole", `States.Format('\{}', 1)`, "1 values for 0 {}"},
		{"a pattern that is a number", "States.Format(1)", "no text"},
		{"JsonToString of a literal", "States.JsonToString('x')", "no path"},
		{"an eleventh function", strings.Repeat("States.Array(", 11) + strings.Repeat(")", 11), "more than 10"},
	} {
		t.Run(row.rule, func(t *testing.T) {
			_, err := parseCall(row.call)
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("error %v does not say %q", err, row.want)
			}
		})
	}
}

func TestMathRandomStaysInRange(t *testing.T) {
	c, err := parseCall("States.MathRandom(-2, 1)")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for range 200 {
		v, err := c.eval(scope{})
		if err != nil {
			t.Fatal(err)
		}
		seen[string(v.(json.Number))] = true
	}
	if len(seen) != 3 || !seen["-2"] || !seen["-1"] || !seen["0"] {
		t.Errorf("numbers %v, not -2, -1 and 0", seen)
	}
	c, err = parseCall("States.MathRandom(0, 1000000, 42)")
	if err != nil {
		t.Fatal(err)
	}
	a, _ := c.eval(scope{})
	if b, _ := c.eval(scope{}); a != b {
		t.Errorf("the same seed gives %v and %v", a, b)
	}
}

func TestUUIDIsOfVersion4(t *testing.T) {
	c, err := parseCall("States.UUID()")
	if err != nil {
		t.Fatal(err)
	}
	a, _ := c.eval(scope{})
	b, _ := c.eval(scope{})
	if !regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(a.(string)) {
		t.Errorf("%v is no UUID of version 4", a)
	}
	if a == b {
		t.Errorf("%v twice", a)
	}
}

func FuzzIntrinsic(f *testing.F) {
	for _, seed := range []string{
		"States.UUID()", "States.Array('Foo', 2022, $.o1, null)", `States.Format('\{{}\'\\', $.name)`, "States.Format($.template, 1)",
		"States.StringToJson('{\"a\":1}')", "States.JsonToString($.arr)", "States.ArrayPartition($.arr,4)", "States.ArrayContains($.arr, 5)",
		"States.ArrayRange(1, 9, 2)", "States.ArrayGetItem(States.StringSplit($.csv, ','), 0)", "States.ArrayUnique($.dup)", "States.Base64Decode($.b64)",
		"States.Hash($.name, 'SHA-512')", "States.JsonMerge($.o1, $.o2, false)", "States.MathRandom(1, 9, 3)", "States.MathAdd(-1.5, 1e300)",
		"States.Array($.arr[?(@ > 7)], $['(odd, name)'])", "States.Array(", "States.", "",
	} {
		f.Add(seed)
	}
	in := intrinsicScope(f)
	f.Fuzz(func(t *testing.T, source string) {
		c, err := parseCall(source)
		if err != nil {
			return
		}
		if c.source != source {
			t.Fatalf("function forgets its source %q: %q", source, c.source)
		}
		v, err := c.eval(in)
		if err != nil {
			return
		}
		if again := mustDecode(t, string(encode(v))); !equal(v, again) {
			t.Fatalf("%s reads back as %s", encode(v), encode(again))
		}
	})
}
