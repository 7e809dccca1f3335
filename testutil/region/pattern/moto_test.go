package pattern

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // strings always marshal
	}
	return string(b)
}

// askMoto gives each event to each pattern, with the classes behind moto's PutRule and PutEvents. The server itself
// takes a tenth of a second for every match it delivers.
const askMoto = `
import json, sys
try:
    from moto.events.models import EventPattern
except ImportError as e:
    sys.exit("absent: " + str(e))
asked = json.load(sys.stdin)
patterns = [EventPattern.load(p) for p in asked["patterns"]]
json.dump([[i, j] for i, p in enumerate(patterns) for j, e in enumerate(asked["events"]) if p.matches_event(e)], sys.stdout)
`

// TestAgainstMoto runs random patterns on random events here and in moto 5.2.1, and compares. Left out is what moto does
// otherwise than AWS documents: arrays of objects and of arrays, true for 1, empty arrays and objects, numbers compared
// by value, unknown operators, a field that is named both beside and inside $or.
func TestAgainstMoto(t *testing.T) {
	if _, err := exec.LookPath("moto_server"); err != nil {
		absent(t, "moto_server is not installed: pip install 'moto[server]==5.2.1'")
	}
	const patterns, events = 300, 100
	g := generator{rand.New(rand.NewPCG(4789, 6081))}
	var asked struct {
		Patterns []string          `json:"patterns"`
		Events   []json.RawMessage `json:"events"`
	}
	for range events {
		asked.Events = append(asked.Events, json.RawMessage(`{"source":"test","detail-type":"Test","detail":`+g.detail()+`}`))
	}
	type match [2]int // pattern, event
	want := map[match]bool{}
	for i := range patterns {
		source := g.pattern()
		asked.Patterns = append(asked.Patterns, source)
		p, err := Compile([]byte(source))
		if err != nil {
			t.Fatalf("%s: %v", source, err)
		}
		for j, event := range asked.Events {
			ok, err := p.Match(event)
			if err != nil {
				t.Fatal(err)
			}
			if ok {
				want[match{i, j}] = true
			}
		}
	}
	input, err := json.Marshal(asked)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
	defer cancel()
	python := exec.CommandContext(ctx, "python3", "-c", askMoto)
	python.Stdin = bytes.NewReader(input)
	var faults strings.Builder
	python.Stderr = &faults
	output, err := python.Output()
	if strings.HasPrefix(faults.String(), "absent: ") {
		absent(t, "python3 does not find moto: "+faults.String())
	}
	if err != nil {
		t.Fatalf("moto: %v\n%s", err, faults.String())
	}
	var answers []match
	if err := json.Unmarshal(output, &answers); err != nil {
		t.Fatal(err)
	}
	got := map[match]bool{}
	for _, one := range answers {
		got[one] = true
		if !want[one] {
			t.Errorf("moto alone finds a match of %s in %s", asked.Patterns[one[0]], asked.Events[one[1]])
		}
	}
	for one := range want {
		if !got[one] {
			t.Errorf("moto finds no match of %s in %s", asked.Patterns[one[0]], asked.Events[one[1]])
		}
	}
	if share := float64(len(want)) / (patterns * events); share < 0.1 || share > 0.9 {
		t.Errorf("%.2f of all pairs match, and so the test proves little", share)
	}
	t.Logf("%d of %d pairs match", len(want), patterns*events)
}

// absent skips the test on a laptop, and fails it where everything must be there.
func absent(t *testing.T, reason string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(reason)
	}
	t.Skip(reason)
}

// generator makes patterns and events out of few words, so that many of them meet.
type generator struct{ *rand.Rand }

var (
	words     = []string{"run", "running", "Running", "stop", "stopped", "init", "a*b", `c\d`, "", "us-east-1"}
	addresses = []string{"10.0.0.7", "10.0.1.9", "192.168.3.4", "2001:db8::7", "no address"}
	networks  = []string{"10.0.0.0/8", "10.0.0.0/24", "192.168.0.0/16", "2001:db8::/32"}
)

func (g generator) word() string { return words[g.IntN(len(words))] }

func (g generator) detail() string {
	fields := []string{`"always":"here"`}
	add := func(name, value string) {
		if g.IntN(5) > 0 {
			fields = append(fields, quote(name)+":"+value)
		}
	}
	add("state", quote(g.word()))
	add("count", fmt.Sprint(g.IntN(9)+2))
	add("flag", []string{"true", "false", "null"}[g.IntN(3)])
	add("address", quote(addresses[g.IntN(len(addresses))]))
	add("list", "["+quote(g.word())+","+quote(g.word())+"]")
	add("numbers", fmt.Sprintf("[%d,%d]", g.IntN(9)+2, g.IntN(9)+2))
	add("inner", fmt.Sprintf(`{"name":%s,"deep":{"size":%d.5}}`, quote(g.word()), g.IntN(9)))
	return "{" + strings.Join(fields, ",") + "}"
}

func (g generator) pattern() string {
	all := []string{
		`"state":[` + g.texts() + `]`, `"list":[` + g.texts() + `]`, `"inner":{"name":[` + g.texts() + `]}`,
		`"count":[` + g.numbers() + `]`, `"numbers":[` + g.numbers() + `]`, `"inner":{"deep":{"size":[` + g.numbers() + `]}}`,
		`"flag":[` + []string{"true", "false", "null", "null,true", `{"exists":false}`}[g.IntN(5)] + `]`,
		`"address":[{"cidr":"` + networks[g.IntN(len(networks))] + `"}]`,
	}
	// A field is asked about once, for of two demands on one field AWS keeps the last and moto both; and so is inner.
	drop := []int{2, 5}[g.IntN(2)]
	all = append(all[:drop:drop], all[drop+1:]...)
	g.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	join := func(fields ...string) string { return strings.Join(fields, ",") }
	var fields string
	switch g.IntN(5) {
	case 0, 1:
		fields = all[0]
	case 2:
		fields = join(all[:2]...)
	case 3:
		fields = `"$or":[{` + all[0] + `},{` + join(all[1:3]...) + `}]`
	case 4:
		fields = join(all[0], `"$or":[{`+all[1]+`},{`+all[2]+`},{`+all[3]+`}]`)
	}
	return `{"detail":{` + fields + `}}`
}

func (g generator) texts() string {
	w := quote(g.word())
	some := quote(words[g.IntN(8)]) // not empty, for anything-but refuses empty prefixes
	star := quote(strings.NewReplacer(`\`, `\\`, `*`, `\*`).Replace(words[g.IntN(8)]))
	star = star[:len(star)-1]
	choices := []string{
		w, w + "," + quote(g.word()), `{"exists":true}`, `{"exists":false}`,
		`{"prefix":` + w + `}`, `{"suffix":` + w + `}`, `{"equals-ignore-case":` + w + `}`,
		`{"prefix":{"equals-ignore-case":` + w + `}}`, `{"suffix":{"equals-ignore-case":` + w + `}}`,
		`{"anything-but":` + w + `}`, `{"anything-but":[` + w + `,` + quote(g.word()) + `]}`,
		`{"anything-but":{"prefix":` + some + `}}`, `{"anything-but":{"suffix":` + some + `}}`,
		`{"anything-but":{"prefix":[` + some + `,"us-"]}}`, `{"anything-but":{"equals-ignore-case":` + w + `}}`,
		`{"wildcard":` + star + `*"}`, `{"wildcard":"*ing"}`, `{"wildcard":"*n*g"}`, `{"wildcard":"r*n*"}`,
		`{"anything-but":{"wildcard":` + star + `*"}}`,
	}
	one := choices[g.IntN(len(choices))]
	if g.IntN(4) == 0 {
		return one + "," + choices[g.IntN(len(choices))]
	}
	return one
}

func (g generator) numbers() string {
	n := g.IntN(9) + 2
	return []string{
		fmt.Sprint(n), fmt.Sprintf(`{"numeric":["=",%d]}`, n), fmt.Sprintf(`{"numeric":["<",%d]}`, n),
		fmt.Sprintf(`{"numeric":[">=",%d]}`, n), fmt.Sprintf(`{"numeric":[">",%d,"<=",%d]}`, n-2, n+2),
		fmt.Sprintf(`{"numeric":[">=",%d.5,"<",%d.5]}`, n-2, n+1),
		fmt.Sprintf(`{"anything-but":%d}`, n), fmt.Sprintf(`{"anything-but":[%d,%d]}`, n, n+1), fmt.Sprintf(`%d,{"numeric":[">",8]}`, n),
	}[g.IntN(9)]
}
