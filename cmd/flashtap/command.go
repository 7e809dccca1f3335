package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// command is one word of the command line.
type command struct {
	name     string
	operands string // as the usage line shows them
	least    int    // operands
	most     int
	summary  string // one line
	about    string
	examples []example
	remote   bool // talks to AWS, so the flags about the deployment make sense
	// setup registers the command's own flags and returns what it does.
	setup func(*tool, *flag.FlagSet) runner
}

type runner func(ctx context.Context, operands []string) error

type example struct{ line, says string }

// commands lists every command in the order of the help.
func commands() []command {
	return []command{captureCommand(), listCommand(), statusCommand(), stopCommand(), verifyCommand(), pullCommand(), preflightCommand(), planCommand(), findingCommand(), decapCommand(), versionCommand(), helpCommand()}
}

func commandNames() []string {
	var names []string
	for _, c := range commands() {
		names = append(names, c.name)
	}
	return names
}

func commandNamed(name string) *command {
	for _, c := range commands() {
		if c.name == name {
			return &c
		}
	}
	return nil
}

// flagSet holds everything the command understands.
func (c command) flagSet(t *tool) (*flag.FlagSet, runner) {
	flags := newFlagSet(c.name)
	run := c.setup(t, flags)
	t.outputFlag(flags)
	if c.remote {
		t.deploymentFlags(flags)
	}
	return flags, run
}

func (c command) usageLine() string {
	line := "flashtap " + c.name
	if c.operands != "" {
		line += " " + c.operands
	}
	return line + " [flags]"
}

func (c command) operandProblem(operands []string) string {
	if len(operands) > c.most {
		return fmt.Sprintf("%s: %q is too much: want %s", c.name, operands[c.most], c.usageLine())
	}
	return fmt.Sprintf("%s: %s is missing: want %s", c.name, c.operands, c.usageLine())
}

func newFlagSet(name string) *flag.FlagSet {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(io.Discard) // errors are told once, by complain
	flags.Usage = func() {}
	return flags
}

func (t *tool) outputFlag(flags *flag.FlagSet) {
	flags.StringVar(&t.output, "output", t.output, "`FORMAT` of the answer: text for people, json for scripts (default: text)")
}

func (t *tool) deploymentFlags(flags *flag.FlagSet) {
	flags.StringVar(&t.bucket, "bucket", t.bucket, "`NAME` of the evidence bucket (default: FLASHTAP_BUCKET)")
	flags.StringVar(&t.stateMachine, "state-machine", t.stateMachine, "`ARN` of the capture state machine (default: FLASHTAP_STATE_MACHINE_ARN)")
	flags.StringVar(&t.deployment, "deployment", t.deployment, "`NAME` of the deployment (default: FLASHTAP_DEPLOYMENT)")
}

// parse reads flags and operands in any order; after "--" everything is an operand.
func parse(flags *flag.FlagSet, args []string) ([]string, error) {
	var operands []string
	for {
		if err := flags.Parse(args); err != nil {
			return nil, err
		}
		rest := flags.Args()
		if read := len(args) - len(rest); read > 0 && args[read-1] == "--" {
			return append(operands, rest...), nil
		}
		if len(rest) == 0 {
			return operands, nil
		}
		operands, args = append(operands, rest[0]), rest[1:]
	}
}

var (
	badValue    = regexp.MustCompile(`(?s)^invalid (?:boolean )?value (".*?") for (?:flag )?-([a-z-]+): (.*)$`)
	unknownFlag = regexp.MustCompile(`^flag provided but not defined: -+(.*)$`)
	needsValue  = regexp.MustCompile(`^flag needs an argument: -+(.*)$`)
)

// flagProblem says in our terms what package flag says in its own: flags with two dashes, and where they are listed.
func flagProblem(err error, help string) error {
	text := err.Error()
	fix := help + " lists the flags"
	if m := badValue.FindStringSubmatch(text); m != nil {
		return usage(fmt.Sprintf("--%s %s: %s", m[2], strings.Trim(m[1], `"`), m[3]), "")
	}
	if m := unknownFlag.FindStringSubmatch(text); m != nil {
		return usage("unknown flag --"+m[1], fix)
	}
	if m := needsValue.FindStringSubmatch(text); m != nil {
		return usage("--"+m[1]+" needs a value", fix)
	}
	return usage(text, fix)
}
