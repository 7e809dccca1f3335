package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strings"
)

// wanted is one paragraph of operations.txt.
type wanted struct {
	service    string
	operations []string
}

func readOperations(path string) ([]wanted, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var list []wanted
	for paragraph := range strings.SplitSeq(string(text), "\n\n") {
		var words []string
		for line := range strings.Lines(paragraph) {
			if !strings.HasPrefix(line, "#") {
				words = append(words, strings.Fields(line)...)
			}
		}
		if len(words) > 0 {
			list = append(list, wanted{words[0], words[1:]})
		}
	}
	return list, nil
}

// errNoBotocore says that the machine has no botocore to extract from.
var errNoBotocore = errors.New("no botocore: python3 cannot import it")

// findBotocore asks python3 where its botocore lives.
func findBotocore() (string, error) {
	out, err := exec.Command("python3", "-c", "import botocore, os; print(os.path.dirname(botocore.__file__))").Output()
	if err != nil {
		return "", fmt.Errorf("%w (%v)", errNoBotocore, err)
	}
	return strings.TrimSpace(string(out)), nil
}

var versionLine = regexp.MustCompile(`(?m)^__version__ = ['"]([^'"]+)['"]`)

func botocoreVersion(dir string) (string, error) {
	text, err := os.ReadFile(filepath.Join(dir, "__init__.py"))
	if err != nil {
		return "", err
	}
	m := versionLine.FindSubmatch(text)
	if m == nil {
		return "", fmt.Errorf("read version of %s: no __version__ line", dir)
	}
	return string(m[1]), nil
}

// object is a JSON object whose fields the extractor does not need to know.
type object = map[string]any

// What an excerpt keeps of the model; the rest is documentation or concerns
// clients only.
var (
	keptMetadata  = []string{"apiVersion", "endpointPrefix", "jsonVersion", "protocol", "protocols", "serviceId", "signingName", "targetPrefix", "xmlNamespace", "uid", "awsQueryCompatible"}
	keptOperation = []string{"name", "http", "input", "output", "errors"}
	keptShape     = []string{"type", "required", "enum", "min", "max", "pattern", "flattened", "locationName", "payload",
		"timestampFormat", "exception", "error", "streaming", "xmlNamespace", "xmlAttribute", "wrapper", "union", "document", "synthetic"}
	keptMember = []string{"shape", "location", "locationName", "queryName", "flattened", "timestampFormat", "streaming",
		"xmlNamespace", "xmlAttribute", "idempotencyToken"}
)

// extract returns the wanted operations of one service with every shape they
// reach, one shape a line so that a change of the model reads well in a diff.
func extract(dir, version string, want wanted) ([]byte, error) {
	full, err := readModel(dir, want.service)
	if err != nil {
		return nil, err
	}
	allOperations, _ := full["operations"].(object)
	allShapes, _ := full["shapes"].(object)

	operations, shapes := object{}, object{}
	var reach func(ref any) error
	reach = func(ref any) error {
		member, _ := ref.(object)
		name, _ := member["shape"].(string)
		if name == "" || shapes[name] != nil {
			return nil
		}
		shape, ok := allShapes[name].(object)
		if !ok {
			return fmt.Errorf("extract %s: no shape %s", want.service, name)
		}
		kept := pick(shape, keptShape)
		shapes[name] = kept
		for _, part := range []string{"member", "key", "value"} {
			if ref, ok := shape[part].(object); ok {
				kept[part] = pick(ref, keptMember)
				if err := reach(ref); err != nil {
					return err
				}
			}
		}
		if members, ok := shape["members"].(object); ok {
			trimmed := object{}
			for name, ref := range members {
				trimmed[name] = pick(ref.(object), keptMember)
				if err := reach(ref); err != nil {
					return err
				}
			}
			kept["members"] = trimmed
		}
		return nil
	}
	for _, name := range want.operations {
		op, ok := allOperations[name].(object)
		if !ok {
			return nil, fmt.Errorf("extract %s: botocore %s has no operation %s", want.service, version, name)
		}
		operations[name] = pick(op, keptOperation)
		refs := []any{op["input"], op["output"]}
		if listed, ok := op["errors"].([]any); ok {
			refs = append(refs, listed...)
		}
		for _, ref := range refs {
			if err := reach(ref); err != nil {
				return nil, err
			}
		}
	}

	var out bytes.Buffer
	fmt.Fprintf(&out, "{\n\"origin\": \"botocore %s, Apache-2.0, see NOTICE\",\n\"metadata\": ", version)
	metadata, _ := full["metadata"].(object)
	if err := writeValue(&out, pick(metadata, keptMetadata)); err != nil {
		return nil, err
	}
	for _, section := range []struct {
		name    string
		entries object
	}{{"operations", operations}, {"shapes", shapes}} {
		fmt.Fprintf(&out, ",\n%q: {\n", section.name)
		for i, name := range sortedKeys(section.entries) {
			if i > 0 {
				out.WriteString(",\n")
			}
			fmt.Fprintf(&out, "%q: ", name)
			if err := writeValue(&out, section.entries[name]); err != nil {
				return nil, err
			}
		}
		out.WriteString("\n}")
	}
	out.WriteString("\n}\n")
	return out.Bytes(), nil
}

// readModel opens the newest API version of a service. Debian ships the models
// plain, the Python package index gzipped.
func readModel(dir, service string) (object, error) {
	found, err := filepath.Glob(filepath.Join(dir, "data", service, "*", "service-2.json*"))
	if err != nil || len(found) == 0 {
		return nil, fmt.Errorf("read model of %s: none in %s", service, dir)
	}
	path := slices.Max(found)
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if strings.HasSuffix(path, ".gz") {
		unzip, err := gzip.NewReader(bytes.NewReader(text))
		if err != nil {
			return nil, fmt.Errorf("unzip %s: %w", path, err)
		}
		if text, err = io.ReadAll(unzip); err != nil {
			return nil, fmt.Errorf("unzip %s: %w", path, err)
		}
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var model object
	if err := decoder.Decode(&model); err != nil {
		return nil, fmt.Errorf("parse %s: %w", path, err)
	}
	return model, nil
}

func pick(from object, keys []string) object {
	kept := object{}
	for _, key := range keys {
		if value, ok := from[key]; ok {
			kept[key] = value
		}
	}
	// Operations list their errors by shape alone; the documentation beside it goes.
	for _, key := range []string{"input", "output"} {
		if ref, ok := kept[key].(object); ok {
			kept[key] = pick(ref, append(keptMember, "payload"))
		}
	}
	if listed, ok := kept["errors"].([]any); ok {
		trimmed := make([]any, len(listed))
		for i, ref := range listed {
			trimmed[i] = pick(ref.(object), []string{"shape"})
		}
		kept["errors"] = trimmed
	}
	return kept
}

func writeValue(out *bytes.Buffer, value any) error {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return err
	}
	out.Truncate(out.Len() - 1)
	return nil
}

func sortedKeys(m object) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	return keys
}
