package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"

	"flashtap/collector/internal/ingest"
	"flashtap/collector/vxlan"
)

// The exit codes, as the help states them.
const (
	exitConfirmed   = 0
	exitFailed      = 1
	exitUsage       = 2
	exitUnconfirmed = 3
)

const help = `collector receives mirrored packets and brings them to the evidence bucket.

Usage:
  collector run --config FILE --spool DIR [--listen ADDR[,ADDR...]]
  collector version
  collector help

` + "`collector run --help`" + ` explains what a run does, and what its exit code means.
`

const runHelp = `collector run captures what one traffic mirror session sends, until its time is over.

It receives VXLAN datagrams on UDP port 4789, admits those that come from the suspect interface and carry the
capture's VNI, and writes the frames inside into pcap segments. Every sealed segment goes to the evidence bucket in
one create-only PUT; the file here is removed only after the store has confirmed it. Checkpoints report the progress;
the first one says that the sockets are bound and that the mirror session may begin.

Usage:
  collector run --config FILE --spool DIR [--listen ADDR[,ADDR...]]

  --config FILE  the capture's configuration (JSON); "imds" takes it from the instance's own user data
  --spool DIR    where segments wait for the store; made when it is not there. A run that finds what a crashed run of
                 the same capture has left behind ships that too, and goes on where it ended
  --listen ADDR  receive on these addresses, as in 10.0.0.9,[2001:db8::9]:4789; the default is the instance's own
                 addresses, as its metadata service states them

A run ends at the deadline of its configuration, at a later one in the instance's tag flashtap:deadline, when the tag
flashtap:stop appears, when maxBytes are written, or on SIGTERM or SIGINT. It then takes what the sockets still hold,
and has drainSeconds to bring everything to the store. A second signal ends it at once; the spool keeps the rest.

Exit codes:
  0  ended as asked, and the store has confirmed everything
  1  failed before or while capturing; what was captured is shipped all the same
  2  wrong usage
  3  ended, but something that is not confirmed remains in the spool

Environment:
  AWS_EC2_METADATA_SERVICE_ENDPOINT  another metadata service than the instance's own
  AWS_ENDPOINT_URL, AWS_ENDPOINT_URL_S3  another S3 than the Region's; s3Endpoint of the configuration comes first
  The credentials are those of the instance's role, or of the SDK's usual variables.

The log goes to standard error, one JSON object a line.
`

// options are what a person says on the command line about a run.
type options struct {
	config string
	spool  string
	listen []ingest.Endpoint // empty: the instance's own addresses
}

// command does what the arguments ask for and returns the exit code.
func command(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprint(stderr, help)
		return exitUsage
	}
	switch args[0] {
	case "run":
		opts, err := parseRun(args[1:])
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprint(stdout, runHelp)
			return exitConfirmed
		}
		if err != nil {
			fmt.Fprintf(stderr, "collector run: %v\n`collector run --help` explains it.\n", err)
			return exitUsage
		}
		return run(ctx, opts, slog.New(slog.NewJSONHandler(stderr, nil)))
	case "version", "--version":
		fmt.Fprintln(stdout, tool())
		return exitConfirmed
	case "help", "--help", "-h":
		fmt.Fprint(stdout, help)
		return exitConfirmed
	}
	fmt.Fprintf(stderr, "collector: there is no command %q\n\n%s", args[0], help)
	return exitUsage
}

func parseRun(args []string) (options, error) {
	var opts options
	var listen string
	flags := flag.NewFlagSet("run", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	flags.StringVar(&opts.config, "config", "", "")
	flags.StringVar(&opts.spool, "spool", "", "")
	flags.StringVar(&listen, "listen", "", "")
	if err := flags.Parse(args); err != nil {
		return opts, err
	}
	switch {
	case flags.NArg() > 0:
		return opts, fmt.Errorf("what is %q to mean?", flags.Arg(0))
	case opts.config == "":
		return opts, errors.New("--config is missing")
	case opts.spool == "":
		return opts, errors.New("--spool is missing")
	}
	if listen == "" {
		return opts, nil
	}
	var err error
	if opts.listen, err = ingest.ParseEndpoints(listen, vxlan.Port); err != nil {
		return opts, fmt.Errorf("--listen: %w", err)
	}
	return opts, nil
}

// tool is the name and version that evidence bears.
func tool() string { return "flashtap collector " + version }
