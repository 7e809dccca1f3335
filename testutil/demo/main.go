// Command demo lets Flashtap work on this machine alone: a local Region with a suspect instance in it, a real GuardDuty
// finding about the suspect, and everything else as it would happen in AWS.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const usage = `Usage: go run ./testutil/demo [flags]      (or: make demo PCAP=... FINDING=... DURATION=... FILTER=... OUT=...)

Turns a GuardDuty finding into sealed pcaps on this machine, without AWS, root, Node or Python: the real Lambdas, the real
state machine, the real collector and a real S3 server in a local Region. The suspect's traffic is replayed from a
recording; the mirror sends it as VXLAN datagrams over loopback.

Flags:
`

const exits = `
Exit status: 0 the evidence is complete and nothing is left running; 1 something went wrong, and was named; 2 bad usage;
3 the finding leads to no capture, and the reason was named.

Examples:
  make demo
  make demo PCAP=my.pcap DURATION=30s OUT=/tmp/evidence
  make demo FINDING=events/testdata/findings/08-eb-ec2-dga-dns-camel.derived.json
  make demo FILTER=filter.json PACKET_LENGTH=128
`

// errNoCapture ends a demo whose finding is, rightly, not captured.
var errNoCapture = errors.New("no capture")

func main() {
	o := options{}
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.StringVar(&o.pcap, "pcap", "", "`file` with the suspect's traffic, pcap or pcapng (default: a recording of Emotet, a real malware)")
	flags.StringVar(&o.suspect, "suspect", "", "`address` of the suspect in that recording (default: the private address that talks most)")
	flags.StringVar(&o.finding, "finding", "", "`file` with the event (default: a GuardDuty finding of a Tor client)")
	flags.DurationVar(&o.duration, "duration", 15*time.Second, "how long to capture, 5s to 24h")
	flags.StringVar(&o.filter, "filter", "", "`file` with a filter, {\"rules\": [...], \"dns\": true} (default: everything)")
	flags.IntVar(&o.packetLength, "packet-length", 0, "bytes of each frame to mirror, from 35 (default: whole frames)")
	flags.StringVar(&o.out, "out", "demo-evidence", "`folder` to leave the evidence in, as plain files")
	flags.BoolVar(&o.ipv6, "ipv6", false, "send the mirrored copies over IPv6")
	flags.BoolVar(&o.verbose, "v", false, "show what the functions and the collector log")
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), usage)
		flags.PrintDefaults()
		fmt.Fprint(flags.Output(), exits)
	}
	switch err := flags.Parse(os.Args[1:]); {
	case errors.Is(err, flag.ErrHelp):
		return
	case err != nil:
		os.Exit(2)
	case flags.NArg() > 0:
		fmt.Fprintf(os.Stderr, "demo: %q: flags only; try -h\n", flags.Arg(0))
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, o)
	stop()
	switch {
	case errors.Is(err, errNoCapture):
		os.Exit(3)
	case err != nil:
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}
