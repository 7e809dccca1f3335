// Package deployment puts Flashtap into a local region, as the CDK app puts it into an account: programs, functions,
// state machine, rules, queues, schedules, launch template, bucket.
package deployment

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"flashtap/infra/config"
)

// Programs are the built binaries of this machine's architecture.
type Programs struct {
	Dir  string // holds one binary a function, the collector and the operator's tool
	Root string // of the module
}

// Function is the path of a function's bootstrap.
func (p Programs) Function(name string) string { return filepath.Join(p.Dir, name) }

// Collector is the path of the collector.
func (p Programs) Collector() string { return filepath.Join(p.Dir, "collector") }

// Tool is the path of the operator's tool.
func (p Programs) Tool() string { return filepath.Join(p.Dir, "flashtap") }

// Root finds the module's root from the working directory upwards.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && bytes.HasPrefix(mod, []byte("module flashtap\n")) {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("not inside the flashtap module: run from its folder")
		}
		dir = parent
	}
}

// Build compiles the Lambdas, the collector and the operator's tool as they ship, but for this machine, into a folder kept under the
// module's build folder, so that a second build only checks that nothing changed.
func Build(ctx context.Context) (Programs, error) {
	root, err := Root()
	if err != nil {
		return Programs{}, err
	}
	p := Programs{Dir: filepath.Join(root, "build", "local"), Root: root}
	if err := os.MkdirAll(p.Dir, 0o755); err != nil {
		return p, err
	}
	args := []string{"build", "-trimpath", "-tags", "lambda.norpc", "-o", p.Dir + string(filepath.Separator), "./collector", "./cmd/flashtap"}
	for _, f := range config.Functions {
		if f.Name != config.Setup {
			args = append(args, "./functions/"+f.Name)
		}
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return p, fmt.Errorf("build the programs: %w\n%s", err, out)
	}
	return p, nil
}

// digest is the SHA-256 of a file in hexadecimal, and the file.
func digest(path string) (string, []byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", nil, err
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), data, nil
}
