package main

import (
	"context"
	"flag"
	"fmt"
	"runtime"
	"runtime/debug"
)

// version is set by the build, with -ldflags "-X main.version=...".
var version = "dev"

func versionCommand() command {
	return command{
		name:     "version",
		summary:  "print the version",
		about:    "Prints the version of this program, the commit it was built from when the build recorded one, and the Go release.",
		examples: []example{{"flashtap version", ""}, {"flashtap version --output json", ""}},
		setup: func(t *tool, _ *flag.FlagSet) runner {
			return func(context.Context, []string) error { return t.show(thisVersion()) }
		},
	}
}

type versionInfo struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func thisVersion() versionInfo {
	v := versionInfo{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				v.Commit = s.Value
			}
		}
	}
	return v
}

func (v versionInfo) text() string {
	commit := ""
	if v.Commit != "" {
		commit = " (" + v.Commit + ")"
	}
	return fmt.Sprintf("flashtap %s%s, %s, %s\n", v.Version, commit, v.Go, v.Platform)
}

// toolName is what records carry as the tool that made them.
func toolName() string { return "flashtap " + version }
