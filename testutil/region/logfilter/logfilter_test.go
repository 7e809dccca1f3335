package logfilter

import "testing"

const line = `{"time":"2026-11-22T03:04:05Z","level":"INFO","msg":"sealed","step":"seal","verdict":"complete, truncated as asked or by the MTU",
	"packets":12,"share":0.5,"text":"12","go":true,"stop":false,"nothing":null,"inner":{"list":[{"n":7}]}}`

func TestMatch(t *testing.T) {
	for pattern, want := range map[string]bool{
		`{ $.msg = "sealed" }`:                  true,
		`{$.msg="sealed"}`:                      true,
		`{ $.msg = sealed }`:                    true,
		`{ $.msg = "Sealed" }`:                  false,
		`{ $.msg = "sea*" }`:                    true,
		`{ $.msg = "*led" && $.msg = "s*l*d" }`: true,
		`{ $.msg = "s*x" }`:                     false,
		`{ $.verdict = "complete, truncated as asked or by the MTU" }`: true,
		`{ $.verdict = "complete" }`:                                   false,
		`{ $.packets = 12 }`:                                           true,
		`{ $.packets = "12" }`:                                         false, // a number is no text
		`{ $.text = 12 }`:                                              false, // nor the other way round
		`{ $.packets > 11 && $.packets >= 12 }`:                        true,
		`{ $.packets < 13 && $.packets <= 12 }`:                        true,
		`{ $.packets > 12 || $.packets < 12 }`:                         false,
		`{ $.share > 0.25 }`:                                           true,
		`{ $.share > -1 && $.share < 1e3 }`:                            true,
		`{ $.missing > 0 }`:                                            false,
		`{ $.missing < 1 }`:                                            false,
		`{ $.missing NOT EXISTS }`:                                     true,
		`{ $.packets NOT EXISTS }`:                                     false,
		`{ $.go IS TRUE }`:                                             true,
		`{ $.stop IS TRUE }`:                                           false,
		`{ $.stop IS FALSE }`:                                          true,
		`{ $.missing IS FALSE }`:                                       false,
		`{ $.nothing IS NULL }`:                                        true,
		`{ $.missing IS NULL }`:                                        false,
		`{ $.inner.list[0].n = 7 }`:                                    true,
		`{ $.inner.list[1].n = 7 }`:                                    false,
		`{ $.inner.n = 7 }`:                                            false,
		`{ $.msg = "x" && $.step = "seal" || $.packets = 12 }`:         true,
		`{ $.msg = "x" && ($.step = "seal" || $.packets = 12) }`:       false,
		`{ ($.msg = "x" || $.msg = "sealed") && $.go IS TRUE }`:        true,
	} {
		p, err := Compile(pattern)
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		if got := p.Match([]byte(line)); got != want {
			t.Errorf("%s: %t", pattern, got)
		}
	}
}

func TestMatchWhatIsNoObject(t *testing.T) {
	p, err := Compile(`{ $.missing NOT EXISTS }`)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"", "panic: on fire", "[1]", `"text"`, "START RequestId: 0a1b"} {
		if p.Match([]byte(line)) {
			t.Errorf("%q matches", line)
		}
	}
}

func TestCompileRefuses(t *testing.T) {
	for _, pattern := range []string{
		``, `sealed`, `{ }`, `{ $.msg }`, `{ $.msg = }`, `{ $.msg = "sealed }`, `{ $.msg = "sealed" `, `{ $.msg = "sealed" } and`, `{ $. = 1 }`,
		`{ $.a = b-c }`, `{ $.a > "b" }`, `{ $.a != 1 }`, `{ $.a = %b% }`, `{ $.a IS "TRUE" }`, `{ $.a IS true }`, `{ $.a NOT NULL }`,
		`{ $.a LIKE b }`, `{ ($.a = 1 }`, `{ $.a[x] = 1 }`, `{ $.a[0 = 1 }`, `{ $.a = 1 & $.b = 1 }`, `{ msg = "sealed" }`,
	} {
		if _, err := Compile(pattern); err == nil {
			t.Errorf("%s is taken", pattern)
		}
	}
}

func TestValue(t *testing.T) {
	for metric, want := range map[string]float64{"1": 1, "0.5": 0.5, "$.packets": 12, "$.share": 0.5, "$.inner.list[0].n": 7} {
		if got, ok := Value(metric, []byte(line)); !ok || got != want {
			t.Errorf("%s: %v, %t", metric, got, ok)
		}
	}
	for _, metric := range []string{"", "x", "$.missing", "$.text", "$.go", "$.inner", "$.packets and more"} {
		if got, ok := Value(metric, []byte(line)); ok {
			t.Errorf("%s: %v", metric, got)
		}
	}
	if _, ok := Value("$.packets", []byte("no JSON")); ok {
		t.Error("a line that is no JSON has a value")
	}
}
