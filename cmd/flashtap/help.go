package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"strings"
)

func helpCommand() command {
	return command{
		name: "help", operands: "[COMMAND]", most: 1,
		summary:  "explain a command, with examples",
		about:    "Without a command it lists all of them, the settings and the exit codes. flashtap COMMAND --help does the same.",
		examples: []example{{"flashtap help capture", ""}, {"flashtap capture --help", "the same"}},
		setup: func(t *tool, _ *flag.FlagSet) runner {
			return func(_ context.Context, operands []string) error {
				if len(operands) == 0 {
					return t.show(overview())
				}
				c := commandNamed(operands[0])
				if c == nil {
					return usage(fmt.Sprintf("unknown command %q: want %s", operands[0], strings.Join(commandNames(), ", ")), "flashtap help tells what each does")
				}
				return t.show(helpOn(*c))
			}
		},
	}
}

// manual is the help on everything.
type manual struct {
	Commands  []page `json:"commands"`
	Settings  []item `json:"settings"`
	ExitCodes any    `json:"exitCodes"`
}

type item struct {
	Name  string `json:"name"`
	Means string `json:"means"`
}

// page is the help on one command.
type page struct {
	Name     string `json:"name"`
	Usage    string `json:"usage"`
	Summary  string `json:"summary"`
	About    string `json:"about"`
	Flags    []item `json:"flags"`
	Examples []item `json:"examples"`
}

func overview() manual {
	m := manual{ExitCodes: exitCodes, Settings: []item{
		{"FLASHTAP_BUCKET", "the evidence bucket; or --bucket"},
		{"FLASHTAP_STATE_MACHINE_ARN", "the capture state machine; or --state-machine"},
		{"FLASHTAP_DEPLOYMENT", "the deployment's name; or --deployment"},
		{"FLASHTAP_SCHEDULE_GROUP", "the group of the deployment's schedules"},
		{"FLASHTAP_ACCOUNT", "the account that the deployment serves"},
		{"AWS_REGION", "the Region that the deployment serves"},
		{"AWS_PROFILE", "and all else that the AWS SDK reads, AWS_ENDPOINT_URL included"},
		{"FLASHTAP_...", "preflight and plan need all that the deployment has (README, \"Drill\")"},
	}}
	for _, c := range commands() {
		m.Commands = append(m.Commands, helpOn(c))
	}
	return m
}

func (m manual) text() string {
	var b strings.Builder
	b.WriteString("flashtap captures the packets of a suspect in AWS, and tells how captures stand.\n\nUsage: flashtap COMMAND [flags]\n\nCommands:\n")
	for _, p := range m.Commands {
		fmt.Fprintf(&b, "  %-9s %s\n", p.Name, p.Summary)
	}
	b.WriteString("\nflashtap help COMMAND explains one of them, with examples.\n\nSettings, from the environment, the same as those of the deployment's functions:\n")
	for _, s := range m.Settings {
		fmt.Fprintf(&b, "  %-27s %s\n", s.Name, s.Means)
	}
	b.WriteString("\nExit codes:\n")
	for _, e := range exitCodes {
		fmt.Fprintf(&b, "  %-4d %s\n", e.Code, e.Means)
	}
	b.WriteString("\nExamples:\n")
	for _, p := range m.Commands[:len(m.Commands)-2] { // version and help explain themselves
		fmt.Fprintf(&b, "  %s\n", p.Examples[0].Name)
	}
	return b.String()
}

func helpOn(c command) page {
	p := page{Name: c.name, Usage: c.usageLine(), Summary: c.summary, About: c.about, Flags: []item{}, Examples: []item{}}
	flags, _ := c.flagSet(&tool{in: strings.NewReader(""), out: io.Discard, err: io.Discard, getenv: func(string) string { return "" }})
	flags.VisitAll(func(f *flag.Flag) {
		value, says := flag.UnquoteUsage(f)
		name := "--" + f.Name
		if value != "" {
			name += " " + value
		}
		p.Flags = append(p.Flags, item{name, says})
	})
	for _, e := range c.examples {
		p.Examples = append(p.Examples, item{e.line, e.says})
	}
	return p
}

func (p page) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "flashtap %s: %s\n\nUsage: %s\n\n%s\n\nFlags:\n", p.Name, p.Summary, p.Usage, p.About)
	width := 23
	for _, f := range p.Flags {
		width = max(width, len(f.Name))
	}
	for _, f := range p.Flags {
		fmt.Fprintf(&b, "  %-*s %s\n", width, f.Name, f.Means)
	}
	b.WriteString("\nExamples:\n")
	for _, e := range p.Examples {
		if e.Means != "" {
			fmt.Fprintf(&b, "  # %s\n", e.Means)
		}
		fmt.Fprintf(&b, "  %s\n", e.Name)
	}
	b.WriteString("\nExit codes: flashtap help\n")
	return b.String()
}
