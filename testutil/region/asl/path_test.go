package asl

import (
	"strings"
	"testing"
)

const store = `{
  "book": [
    {"title": "A", "price": 8, "isbn": "1"},
    {"title": "B", "price": 12.5},
    {"title": "C", "price": 8.0, "isbn": null}
  ],
  "grid": [[1, 2], [3, 4]],
  "it's": {"a b": true, "ship-date": "x", "päivä": 1},
  "none": null,
  "deep": {"price": 1, "in": {"price": 2}}
}`

func mustDecode(t testing.TB, text string) any {
	t.Helper()
	v, err := decode([]byte(text))
	if err != nil {
		t.Fatalf("decode %s: %v", text, err)
	}
	return v
}

func TestPathFinds(t *testing.T) {
	doc := mustDecode(t, store)
	for _, row := range []struct{ rule, path, want string }{
		{"a dollar is the whole document", "$", string(encode(doc))},
		{"a name after a dot", "$.deep.in", `{"price":2}`},
		{"a name in brackets", "$['deep']['in']", `{"price":2}`},
		{"a name in double quotes", `$["deep"].in`, `{"price":2}`},
		{"a quote and a blank inside a name", `$['it\'s']['a b']`, `true`},
		{"a dot before a bracket", "$.deep.['in'].price", `2`},
		{"a hyphen in a name", "$['it\\'s'].ship-date", `"x"`},
		{"letters beyond ASCII in a name", "$['it\\'s'].päivä", `1`},
		{"null is found", "$.none", `null`},
		{"an index", "$.book[1].title", `"B"`},
		{"a negative index counts from the end", "$.book[-1].title", `"C"`},
		{"an index of an index", "$.grid[1][0]", `3`},
		{"a wildcard over an array", "$.book[*].title", `["A","B","C"]`},
		{"a wildcard over an object", "$.deep.*", `[1,{"price":2}]`},
		{"a wildcard over nothing", "$.absent[*].x", `[]`},
		{"a slice", "$.book[0:2].title", `["A","B"]`},
		{"a slice from the end", "$.book[-2:].title", `["B","C"]`},
		{"a slice up to", "$.book[:1].title", `["A"]`},
		{"a slice beyond the end", "$.book[2:9].title", `["C"]`},
		{"a slice the wrong way round", "$.book[2:1].title", `[]`},
		{"a slice of something missing", "$.absent[1:]", `[]`},
		{"a list of indexes", "$.book[0, 2].title", `["A","C"]`},
		{"an index beyond the end in a list", "$.book[0,7].title", `["A"]`},
		{"a descent by name", "$..price", `[8,12.5,8.0,1,2]`},
		{"a descent by wildcard", "$.deep..*", `[1,{"price":2},2]`},
		{"a descent by index", "$.grid..[0]", `[[1,2],1,3]`},
		{"a descent by name in brackets", "$.deep..['price']", `[1,2]`},
		{"one match of many is still a list", "$.book[?(@.price > 10)].title", `["B"]`},
		{"a filter that matches nothing", "$.book[?(@.price > 100)]", `[]`},
		{"a filter compares numbers by value", "$.book[?(@.price == 8)].title", `["A","C"]`},
		{"a filter for presence", "$.book[?(@.isbn)].title", `["A","C"]`},
		{"a filter for absence", "$.book[?(!@.isbn)].title", `["B"]`},
		{"a filter for null", "$.book[?(@.isbn == null)].title", `["C"]`},
		{"a filter for text", `$.book[?(@.title == 'B')].price`, `[12.5]`},
		{"a filter that orders text", `$.book[?(@.title >= "B")].title`, `["B","C"]`},
		{"a filter with and", "$.book[?(@.price < 10 && @.isbn == '1')].title", `["A"]`},
		{"a filter with or", "$.book[?(@.price > 10 || @.isbn == '1')].title", `["A","B"]`},
		{"a filter with parentheses and not", "$.book[?(!(@.price > 10 || @.isbn == '1'))].title", `["C"]`},
		{"a filter that compares two fields", "$.book[?(@.title != @.isbn)].title", `["A","B","C"]`},
		{"a filter on the element itself", "$.grid[0][?(@ > 1)]", `[2]`},
		{"a filter on an object tests the object", "$.deep[?(@.price == 1)].in.price", `[2]`},
		{"values of different types are not equal", "$.book[?(@.price == '8')].title", `[]`},
	} {
		t.Run(row.rule, func(t *testing.T) {
			p, err := parsePath(row.path)
			if err != nil {
				t.Fatal(err)
			}
			v, ok := p.find(doc)
			if !ok {
				t.Fatalf("%s finds nothing", row.path)
			}
			if got := string(encode(v)); got != row.want {
				t.Errorf("%s finds %s, not %s", row.path, got, row.want)
			}
		})
	}
}

func TestPathFindsNothing(t *testing.T) {
	doc := mustDecode(t, store)
	for _, row := range []struct{ rule, path string }{
		{"a missing name", "$.absent"},
		{"a name below a missing name", "$.absent.x"},
		{"a name of an array", "$.book.title"},
		{"an index of an object", "$.deep[0]"},
		{"an index beyond the end", "$.book[3]"},
		{"an index before the start", "$.book[-4]"},
		{"a name of null", "$.none.x"},
	} {
		t.Run(row.rule, func(t *testing.T) {
			p, err := parsePath(row.path)
			if err != nil {
				t.Fatal(err)
			}
			if v, ok := p.find(doc); ok {
				t.Errorf("%s finds %s", row.path, encode(v))
			}
		})
	}
}

func TestPathIsRefused(t *testing.T) {
	for _, row := range []struct{ rule, path, want string }{
		{"no dollar", "a.b", "does not begin with $"},
		{"a variable", "$name.x", "variables are not supported"},
		{"a trailing dot", "$.a.", "a name is missing"},
		{"a name that begins with a digit", "$.1a", "needs brackets"},
		{"a blank in a name", "$.a b", "is not understood"},
		{"an escape outside quotes", `$.a\.b`, "is not understood"},
		{"an open bracket", "$.a[0", "is not closed"},
		{"an open quote", "$['a", "quote is not closed"},
		{"an unknown escape in quotes", `$['a\n']`, "backslash"},
		{"an empty name", "$['']", "empty name"},
		{"empty brackets", "$.a[]", "is not understood"},
		{"a list of names", "$['a','b']", "list of names is not supported"},
		{"a slice with a step", "$.a[0:4:2]", "step is not supported"},
		{"a slice without bounds", "$.a[:]", "needs a bound"},
		{"an index too large", "$.a[99999999999999999999]", "not understood"},
		{"a list that ends in a comma", "$.a[0,]", "an index is missing"},
		{"a second list of indexes", "$.a[0,1][0,1]", "second list"},
		{"too many indexes", "$.a[" + strings.Repeat("0,", 200) + "0]", "more than 100"},
		{"a second descent", "$..a..b", "second recursive descent"},
		{"a function", "$.a.length()", "function length() is not supported"},
		{"a filter without parentheses", "$.a[?@.b]", "needs parentheses"},
		{"a filter with a regular expression", "$.a[?(@.b =~ /x/)]", "regular expression"},
		{"a filter with a word operator", "$.a[?(@.b in ['x'])]", "not closed"},
		{"a filter that reads the document", "$.a[?(@.b == $.c)]", "not understood"},
		{"a filter with a wildcard path", "$.a[?(@.b[*] == 1)]", "only names and indexes"},
		{"a filter of a literal alone", "$.a[?(1)]", "compares nothing"},
		{"a filter that is not closed", "$.a[?(@.b == 1", "not closed"},
		{"a filter nested too deep", "$.a[?(" + strings.Repeat("(", 50) + "@.b", "nested deeper"},
	} {
		t.Run(row.rule, func(t *testing.T) {
			_, err := parsePath(row.path)
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("%s: error %v does not say %q", row.path, err, row.want)
			}
		})
	}
}

func TestReferencePathTakesOnlyOnePlace(t *testing.T) {
	for _, row := range []struct{ rule, path string }{
		{"a wildcard", "$.a[*]"},
		{"a slice", "$.a[1:]"},
		{"a list", "$.a[0,1]"},
		{"a descent", "$..a"},
		{"a filter", "$.a[?(@.b)]"},
		{"a negative index", "$.a[-1]"},
	} {
		t.Run(row.rule, func(t *testing.T) {
			if _, err := parsePath(row.path); err != nil {
				t.Fatal(err)
			}
			if _, err := parseReference(row.path); err == nil {
				t.Errorf("%s is taken as a reference path", row.path)
			}
		})
	}
}

func TestReferencePathPuts(t *testing.T) {
	for _, row := range []struct{ rule, doc, path, want string }{
		{"the whole document", `{"a":1}`, "$", `9`},
		{"a new field", `{"a":1}`, "$.b", `{"a":1,"b":9}`},
		{"a field that is there keeps its place", `{"a":1,"b":2}`, "$.a", `{"a":9,"b":2}`},
		{"missing objects in between are made", `{"a":1}`, "$.b.c.d", `{"a":1,"b":{"c":{"d":9}}}`},
		{"an element of an array", `{"a":[1,2]}`, "$.a[1]", `{"a":[1,9]}`},
		{"a field of an element", `{"a":[{"b":1}]}`, "$.a[0].c", `{"a":[{"b":1,"c":9}]}`},
		{"no element is added", `{"a":[1]}`, "$.a[1]", ""},
		{"no array is made", `{}`, "$.a[0]", ""},
		{"a number is not replaced by an object", `{"a":1}`, "$.a.b", ""},
		{"a text takes no field", `"foo"`, "$.x", ""},
		{"null takes no field", `null`, "$.x", ""},
	} {
		t.Run(row.rule, func(t *testing.T) {
			doc := mustDecode(t, row.doc)
			p, err := parseReference(row.path)
			if err != nil {
				t.Fatal(err)
			}
			v, err := p.put(doc, number(9))
			if (err != nil) != (row.want == "") {
				t.Fatalf("error %v", err)
			}
			if err == nil && string(encode(v)) != row.want {
				t.Errorf("got %s, not %s", encode(v), row.want)
			}
			if !equal(doc, mustDecode(t, row.doc)) {
				t.Error("the old document was changed")
			}
		})
	}
}

func FuzzPath(f *testing.F) {
	for _, seed := range []string{
		"$", "$$", "$.a", "$['a b']", `$["a"][0]`, "$.book[-1:]", "$.book[0,1]", "$..price", "$..*", "$.*", "$.book[?(@.price > 10 && !(@.isbn == 'x'))]",
		"$.book[?(@.isbn)].title", "$.a[0:1:2]", "$.length()", "$.['a'].b", "$name", "$.book[:", "$$.Map.Item.Value", "$.it\\'s", "$.grid[*][0]",
	} {
		f.Add(seed)
	}
	doc := mustDecode(f, store)
	f.Fuzz(func(t *testing.T, source string) {
		p, err := parsePath(source)
		if err != nil {
			return
		}
		if p.source != source {
			t.Fatalf("path forgets its source %q", source)
		}
		v, found := p.find(doc)
		if !p.definite {
			if _, ok := v.([]any); !ok || !found {
				t.Fatalf("%q finds no list", source)
			}
		}
		if found {
			mustDecode(t, string(encode(v)))
		}
		ref, err := parseReference(source)
		if err != nil {
			return
		}
		changed, err := ref.put(doc, "new")
		if err != nil {
			return
		}
		if got, _ := ref.find(changed); got != "new" {
			t.Fatalf("%q does not find what it put but %s", source, encode(got))
		}
	})
}
