package stacks_test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestGolden shows in a review what a change of the code changes in an account. `make golden` rewrites the files.
func TestGolden(t *testing.T) {
	for _, stack := range slices.Sorted(maps.Keys(plain.Templates)) {
		text, err := json.MarshalIndent(plain.Templates[stack], "", " ")
		if err != nil {
			t.Fatal(err)
		}
		got := string(text) + "\n"
		path := filepath.Join("testdata", stack+".template.json")
		if *update {
			if err := os.MkdirAll("testdata", 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Errorf("%v; `make golden` writes it", err)
			continue
		}
		if got != string(want) {
			t.Errorf("%s differs; review it after `make golden`:\n%s", path, firstDifference(got, string(want)))
		}
	}
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			from := max(0, i-3)
			return "is\n" + strings.Join(g[from:min(i+3, len(g))], "\n") + "\nwas\n" + strings.Join(w[from:min(i+3, len(w))], "\n")
		}
	}
	return "one is longer"
}
