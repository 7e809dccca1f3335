package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestCommandLine(t *testing.T) {
	t.Parallel()
	broken := filepath.Join(t.TempDir(), "broken.json")
	if err := os.WriteFile(broken, []byte(`{"version":1,"vnii":7}`), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		reason string
		args   string
		code   int
		stdout string // a part of it
		stderr string
	}{
		{"no command", "", exitUsage, "", "Usage:"},
		{"a command that is none", "catch", exitUsage, "", `no command "catch"`},
		{"help", "help", exitConfirmed, "collector run --config FILE", ""},
		{"help of run", "run --help", exitConfirmed, "Exit codes:", ""},
		{"version", "version", exitConfirmed, "flashtap collector ", ""},
		{"run without configuration", "run --spool /tmp/x", exitUsage, "", "--config is missing"},
		{"run without spool", "run --config x", exitUsage, "", "--spool is missing"},
		{"an option that is none", "run --colour", exitUsage, "", "-colour"},
		{"words too many", "run --config x --spool y z", exitUsage, "", `"z"`},
		{"a name instead of an address", "run --config x --spool y --listen localhost", exitUsage, "", `"localhost" is no address`},
		{"a configuration that is not there", "run --config /nowhere --spool y", exitFailed, "", "read configuration"},
		{"a misspelt word in the configuration", "run --config " + broken + " --spool y", exitFailed, "", "vnii"},
	}
	for _, test := range tests {
		t.Run(test.reason, func(t *testing.T) {
			t.Parallel()
			var stdout, stderr bytes.Buffer
			cmd := exec.Command(program, strings.Fields(test.args)...)
			cmd.Stdout, cmd.Stderr, cmd.Dir = &stdout, &stderr, t.TempDir()
			cmd.Run() //nolint:errcheck // the exit code is what matters
			if got := cmd.ProcessState.ExitCode(); got != test.code {
				t.Errorf("exit code %d, want %d", got, test.code)
			}
			for what, pair := range map[string][2]string{"output": {stdout.String(), test.stdout}, "errors": {stderr.String(), test.stderr}} {
				if !strings.Contains(pair[0], pair[1]) || (pair[1] == "" && pair[0] != "") {
					t.Errorf("%s: %q, want %q in it", what, pair[0], pair[1])
				}
			}
		})
	}
}
