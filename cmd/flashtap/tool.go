package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"unicode"
)

// tool is one invocation: where it reads and writes, and the options that several commands share.
type tool struct {
	in       io.Reader
	out, err io.Writer
	getenv   func(string) string

	output       string // text or json
	bucket       string
	stateMachine string
	deployment   string
}

// The forms of output.
const (
	outputText = "text"
	outputJSON = "json"
)

// run carries out one command line and returns the code to exit with.
func (t *tool) run(ctx context.Context, args []string) int {
	err := t.dispatch(ctx, args)
	var done ended
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &done):
		return int(done)
	}
	p := explain(err)
	t.complain(p)
	return p.code
}

// dispatch finds the command that the first argument names. Options that every command has may stand before it.
func (t *tool) dispatch(ctx context.Context, args []string) error {
	t.output = outputText
	flags := newFlagSet("flashtap")
	t.outputFlag(flags)
	t.deploymentFlags(flags)
	version := flags.Bool("version", false, "")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return t.show(overview())
	case err != nil:
		return flagProblem(err, "flashtap help")
	case *version:
		return t.show(thisVersion())
	case flags.NArg() == 0:
		return usage("name a command: "+strings.Join(commandNames(), ", "), "flashtap help tells what each does")
	}
	name := flags.Arg(0)
	c := commandNamed(name)
	if c == nil {
		return usage(fmt.Sprintf("unknown command %q: want %s", name, strings.Join(commandNames(), ", ")), "flashtap help tells what each does")
	}
	own, run := c.flagSet(t)
	operands, err := parse(own, flags.Args()[1:])
	if errors.Is(err, flag.ErrHelp) {
		return t.show(helpOn(*c))
	}
	if err != nil {
		return flagProblem(err, "flashtap help "+name)
	}
	if t.output != outputText && t.output != outputJSON {
		return usage(fmt.Sprintf("--output %q: want %s or %s", t.output, outputText, outputJSON), "")
	}
	if len(operands) < c.least || len(operands) > c.most {
		return usage(c.operandProblem(operands), "flashtap help "+name+" shows examples")
	}
	return run(ctx, operands)
}

// answer is what a command found out. As JSON it is the struct itself.
type answer interface{ text() string }

// show writes an answer in the form that was asked for.
func (t *tool) show(a answer) error {
	if t.output != outputJSON {
		return t.print(a.text())
	}
	body, err := json.MarshalIndent(a, "", "  ")
	if err != nil {
		return fmt.Errorf("write the answer as JSON: %w", err)
	}
	if _, err := t.out.Write(append(body, '\n')); err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	return nil
}

// print writes text for a person.
func (t *tool) print(text string) error {
	if _, err := io.WriteString(t.out, plain(text)); err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	return nil
}

// complain tells what went wrong and what to do about it, on the error stream.
func (t *tool) complain(p problem) {
	if t.output != outputJSON {
		text := "flashtap: " + p.what() + "\n"
		if p.fix != "" {
			text += "  fix: " + p.fix + "\n"
		}
		_, _ = io.WriteString(t.err, plain(text)) // there is nowhere left to report to
		return
	}
	body, err := json.Marshal(struct {
		Error    string `json:"error"`
		Fix      string `json:"fix,omitempty"`
		ExitCode int    `json:"exitCode"`
	}{p.what(), p.fix, p.code})
	if err == nil {
		_, _ = t.err.Write(append(body, '\n'))
	}
}

// plain replaces what a terminal would obey: names and titles in findings are others' words, an attacker's among them.
// Besides controls these are the invisible format characters, which can turn the direction of writing.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r)) {
			return '\ufffd'
		}
		return r
	}, text)
}
