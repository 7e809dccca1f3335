package asl

import (
	"strings"
	"testing"
)

func TestDecodeKeepsTheText(t *testing.T) {
	for _, row := range []struct{ rule, text, want string }{
		{"the order of members", `{"b":1,"a":{"d":2,"c":3}}`, `{"b":1,"a":{"d":2,"c":3}}`},
		{"blanks go", ` { "a" : [ 1 , 2 ] } `, `{"a":[1,2]}`},
		{"the digits of a number", `[1.0, 1e2, 12345678901234567890, -0]`, `[1.0,1e2,12345678901234567890,-0]`},
		{"only what must be escaped is escaped", `"<&>\u2028\/\u0007\n\"\\é"`, "\"<&>\u2028/\\u0007\\n\\\"\\\\é\""},
		{"empty things", `[{},[],"",null,true,false]`, `[{},[],"",null,true,false]`},
	} {
		t.Run(row.rule, func(t *testing.T) {
			if got := string(encode(mustDecode(t, row.text))); got != row.want {
				t.Errorf("got %s, not %s", got, row.want)
			}
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, row := range []struct{ rule, text string }{
		{"nothing", ""},
		{"blanks alone", " \n"},
		{"two values", "1 2"},
		{"a name twice", `{"a":1,"a":2}`},
		{"an open object", `{"a":1`},
		{"an open array", `[1,`},
		{"a comma too many", `[1,]`},
		{"a bare word", `nope`},
		{"text that is not UTF-8", "\"\xff\""},
		{"nesting without end", strings.Repeat("[", 2000) + strings.Repeat("]", 2000)},
	} {
		t.Run(row.rule, func(t *testing.T) {
			if v, err := decode([]byte(row.text)); err == nil {
				t.Errorf("read as %s", encode(v))
			}
		})
	}
}

func TestEqual(t *testing.T) {
	for _, row := range []struct {
		rule, a, b string
		want       bool
	}{
		{"numbers by value", `1`, `1.0`, true},
		{"numbers that differ", `1`, `2`, false},
		{"objects whatever their order", `{"a":1,"b":[2]}`, `{"b":[2.0],"a":1}`, true},
		{"objects with another field", `{"a":1}`, `{"b":1}`, false},
		{"arrays in order", `[1,2]`, `[2,1]`, false},
		{"a number is no text", `1`, `"1"`, false},
		{"null is not false", `null`, `false`, false},
		{"an array is no object", `[]`, `{}`, false},
		{"null and an array", `null`, `[]`, false},
	} {
		t.Run(row.rule, func(t *testing.T) {
			a, b := mustDecode(t, row.a), mustDecode(t, row.b)
			if equal(a, b) != row.want || equal(b, a) != row.want {
				t.Errorf("%s and %s", row.a, row.b)
			}
		})
	}
}
