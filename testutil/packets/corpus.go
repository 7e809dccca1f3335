package packets

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

//go:embed testdata/*.pcap testdata/*.pcapng
var corpus embed.FS

// Names lists the recordings of the corpus, sorted. testdata/SOURCES.md says where each came from.
func Names() []string {
	entries, err := fs.ReadDir(corpus, "testdata")
	if err != nil {
		panic(err) // the folder is part of the binary
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names
}

// Open opens a recording of the corpus. It works wherever the binary runs.
func Open(name string) (fs.File, error) {
	f, err := corpus.Open("testdata/" + name)
	if err != nil {
		return nil, fmt.Errorf("open recording %s: %w", name, err)
	}
	return f, nil
}

// Load reads a recording of the corpus.
func Load(name string) ([]Frame, error) {
	f, err := Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	frames, err := Read(f)
	if err != nil {
		return frames, fmt.Errorf("read recording %s: %w", name, err)
	}
	return frames, nil
}

// MustLoad is Load for a name written in the code, where an error is a mistake in that code.
func MustLoad(name string) []Frame {
	frames, err := Load(name)
	if err != nil {
		panic(err)
	}
	return frames
}

// Path is the file of a recording, for another program to read. It works from any folder of the module, so from
// every test; a binary that runs elsewhere uses Open.
func Path(name string) (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find recording %s: %w", name, err)
	}
	for {
		path := filepath.Join(dir, "testutil", "packets", "testdata", name)
		_, err := os.Stat(path)
		if err == nil {
			return path, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("find recording %s: %w", name, err)
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", fmt.Errorf("find recording %s: %w", name, fs.ErrNotExist)
		}
		dir = parent
	}
}
