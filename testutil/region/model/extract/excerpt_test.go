package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The committed excerpts are what extract makes of the botocore they name. A
// machine with another botocore cannot tell a changed excerpt from a changed
// model, so there only the excerpts' completeness is checked by package model.
func TestExcerptsAreUnchanged(t *testing.T) {
	dir, err := findBotocore()
	if errors.Is(err, errNoBotocore) {
		t.Skipf("the excerpts cannot be made anew: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
	version, err := botocoreVersion(dir)
	if err != nil {
		t.Fatal(err)
	}
	list, err := readOperations("../operations.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range list {
		committed, err := os.ReadFile(filepath.Join("..", "data", want.service+".json"))
		if err != nil {
			t.Fatal(err)
		}
		var head struct{ Origin string }
		if err := json.Unmarshal(committed, &head); err != nil {
			t.Fatalf("%s: %v", want.service, err)
		}
		if !strings.HasPrefix(head.Origin, "botocore "+version+",") {
			t.Skipf("this machine has botocore %s, the excerpt of %s is of %q", version, want.service, head.Origin)
		}
		fresh, err := extract(dir, version, want)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(fresh, committed) {
			t.Errorf("data/%s.json differs from what `go run ./testutil/region/model/extract` makes", want.service)
		}
	}
}

func TestReadOperationsLeavesComments(t *testing.T) {
	path := filepath.Join(t.TempDir(), "operations.txt")
	if err := os.WriteFile(path, []byte("# about\n# this\n\nec2\nA B\nC\n\nsqs\nD\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	list, err := readOperations(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 2 || list[0].service != "ec2" || strings.Join(list[0].operations, " ") != "A B C" || list[1].service != "sqs" {
		t.Errorf("read %v", list)
	}
}

func TestExtractNamesAMissingOperation(t *testing.T) {
	dir := t.TempDir()
	at := filepath.Join(dir, "data", "toy", "2020-01-01")
	if err := os.MkdirAll(at, 0o700); err != nil {
		t.Fatal(err)
	}
	model := `{"metadata":{"protocol":"json","documentation":"x"},"operations":{"Do":{"name":"Do","input":{"shape":"In","documentation":"x"}}},
		"shapes":{"In":{"type":"structure","documentation":"x","members":{"Self":{"shape":"In"},"Text":{"shape":"S","documentation":"x"}}},"S":{"type":"string"},"Unused":{"type":"string"}}}`
	if err := os.WriteFile(filepath.Join(at, "service-2.json"), []byte(model), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := extract(dir, "1", wanted{"toy", []string{"Undo"}}); err == nil || !strings.Contains(err.Error(), "Undo") {
		t.Errorf("got %v, want an error that names Undo", err)
	}
	excerpt, err := extract(dir, "1", wanted{"toy", []string{"Do"}})
	if err != nil {
		t.Fatal(err)
	}
	if text := string(excerpt); strings.Contains(text, "documentation") || strings.Contains(text, "Unused") || !strings.Contains(text, `"S": {`) {
		t.Errorf("excerpt is\n%s", text)
	}
}
