// Command extract copies from botocore's service models what the local region needs.
//
//	go run ./testutil/region/model/extract [-botocore DIR]
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	dir := flag.String("botocore", "", "folder of the botocore package (default: the one python3 imports)")
	model := flag.String("model", "testutil/region/model", "folder with operations.txt and data/")
	flag.Parse()
	if err := run(*dir, *model); err != nil {
		fmt.Fprintln(os.Stderr, "extract:", err)
		os.Exit(1)
	}
}

func run(dir, model string) error {
	if dir == "" {
		found, err := findBotocore()
		if err != nil {
			return err
		}
		dir = found
	}
	version, err := botocoreVersion(dir)
	if err != nil {
		return err
	}
	list, err := readOperations(filepath.Join(model, "operations.txt"))
	if err != nil {
		return err
	}
	for _, want := range list {
		excerpt, err := extract(dir, version, want)
		if err != nil {
			return err
		}
		path := filepath.Join(model, "data", want.service+".json")
		if err := os.WriteFile(path, excerpt, 0o644); err != nil {
			return err
		}
		fmt.Printf("%s: %d operations, %d bytes\n", path, len(want.operations), len(excerpt))
	}
	return nil
}
