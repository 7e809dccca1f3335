package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"runtime/debug"
)

// self is the program that runs, whatever has become of its file since (proc(5)).
const self = "/proc/self/exe"

// build says what this program was made from, as far as it knows, and the digest of its file.
func build() (string, error) {
	file, err := os.Open(self)
	if err != nil {
		return "", fmt.Errorf("read the program itself: %w", err)
	}
	defer file.Close()
	digest := sha256.New()
	if _, err := io.Copy(digest, file); err != nil {
		return "", fmt.Errorf("read the program itself: %w", err)
	}
	info, _ := debug.ReadBuildInfo()
	return revision(info) + "sha256 " + hex.EncodeToString(digest.Sum(nil)), nil
}

// revision is the one of the version control system that a program was built from; empty: it does not say.
func revision(info *debug.BuildInfo) string {
	if info == nil {
		return ""
	}
	set := map[string]string{}
	for _, s := range info.Settings {
		set[s.Key] = s.Value
	}
	if set["vcs.revision"] == "" {
		return ""
	}
	changed := ""
	if set["vcs.modified"] == "true" {
		changed = " with changes"
	}
	return "revision " + set["vcs.revision"] + changed + ", "
}
