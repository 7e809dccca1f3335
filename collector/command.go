package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"flashtap/collector/internal/ingest"
	"flashtap/collector/internal/standalone"
	"flashtap/collector/vxlan"
	"flashtap/events"
)

// The exit codes, as the help states them.
const (
	exitConfirmed   = 0
	exitFailed      = 1
	exitUsage       = 2
	exitUnconfirmed = 3
)

const help = `collector receives mirrored packets and keeps them as evidence.

Usage:
  collector run --interface IF --dir DIR [...]   capture into a folder, without AWS
  collector run --config FILE --spool DIR [...]  capture for the evidence bucket, as the capture instance does
  collector version
  collector help

` + "`collector run --help`" + ` explains what a run does, and what its exit code means.
`

const runHelp = `collector run captures what traffic mirror sessions send, without the VXLAN around it.

It receives VXLAN datagrams on UDP port 4789 (and GENEVE on 6081, behind a gateway load balancer), admits those of the
capture, and writes the frames inside into pcap segments. Every datagram has one fate, and the manifest counts them all.

Into a folder (the drop-in for "tcpdump -i eth0 -w FILE udp port 4789"):

  collector run --interface IF --dir DIR [--vni N] [--source IP[,IP...]]

  --interface IF        where the mirrored packets arrive
  --dir DIR             where segments and manifest.json go; made when it is not there
  --vni N               admit this VNI alone; the default is every VNI
  --source IP[,IP...]   admit datagrams from these outer sources alone; the default is every source
  --sha256=false        name segments by number alone, without their SHA-256
  --segment-bytes N     a segment is closed before it grows past this; default 256 MiB
  --segment-seconds N   or when its first packet came so long ago; default 300
  --reserve N           disk space that is reserved before capturing begins, so that a burst does not wait for it;
                        default 1 GiB, at most an eighth of what is free; given back at the end
  --leave-free N        stop writing while the disk has less free than this; default 256 MiB
  --max-bytes N         end when so many bytes of frames are written; default: no limit

  Prints READY on its own line once everything that arrives is captured. Ends on SIGINT or SIGTERM, when all that had
  arrived is written. Sizes are bytes, or as in 64KiB, 100MiB, 2GiB.

For the evidence bucket:

  collector run --config FILE --spool DIR [--listen ADDR[,ADDR...]]

  --config FILE  the capture's configuration (JSON); "imds" takes it from the instance's own user data
  --spool DIR    where segments wait for the store; made when it is not there. A run that finds what a crashed run of
                 the same capture has left behind ships that too, and goes on where it ended
  --listen ADDR  receive on sockets bound to these addresses, as in 10.0.0.9,[2001:db8::9]:4789; the default is the
                 interface that has the instance's own addresses, as its metadata service states them

  Every sealed segment goes to the bucket in one create-only PUT; the file here is removed only after the store has
  confirmed it. Checkpoints report the progress; the first one says that the mirror session may begin. A run ends at the
  deadline of its configuration, at a later one in the instance's tag flashtap:deadline, when the tag flashtap:stop
  appears, when maxBytes are written, or on SIGTERM or SIGINT. It then takes what was received by then, and has
  drainSeconds to bring everything to the store. A second signal, a second or more after the first, ends it at once; the
  spool keeps the rest.

How packets are received:

  --receiver auto    the best that is allowed here, and the log and the manifest say which and why
  --receiver ring    packet rings that the kernel fills (AF_PACKET): the least work, all outer headers; needs CAP_NET_RAW.
                     With CAP_NET_ADMIN (or CAP_BPF) the datagrams leave the stack right after, so that the machine does not answer
                     the suspect with ICMP errors; otherwise sockets take the ports and drop everything
  --receiver socket  UDP sockets on port 4789; needs no privilege
  --ring-bytes N     memory for each ring; default 1/32 of the machine's, 8 to 64 MiB
  --allow-merging    capture although the kernel merges frames here (a VXLAN device with GRO, LRO), which forges evidence;
                     the manifest declares it. On a capture instance it is always declared instead of refused

Once it receives, the collector gives up every privilege: capabilities, new programs, and files but its own.

Exit codes:
  0  ended as asked: everything is written, or confirmed by the store
  1  failed before or while capturing; what was captured is kept, or shipped, all the same
  2  wrong usage
  3  ended, but something that is not confirmed remains in the spool

Environment, for the evidence bucket:
  AWS_EC2_METADATA_SERVICE_ENDPOINT  another metadata service than the instance's own
  AWS_ENDPOINT_URL, AWS_ENDPOINT_URL_S3  another S3 than the Region's; s3Endpoint of the configuration comes first
  The credentials are those of the instance's role, or of the SDK's usual variables.

The log goes to standard error: one JSON object a line with --config, text with --interface.
`

// options are what a person says on the command line about a run.
type options struct {
	config string
	spool  string
	listen []ingest.Endpoint // empty: the instance's own addresses

	folder        standalone.Config
	interfaceName string

	receiver string
	ring     size
	merging  bool
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
		switch {
		case errors.Is(err, flag.ErrHelp):
			fmt.Fprint(stdout, runHelp)
			return exitConfirmed
		case err != nil:
			fmt.Fprintf(stderr, "collector run: %v\n`collector run --help` explains it.\n", err)
			return exitUsage
		case opts.interfaceName != "":
			return runFolder(ctx, opts, stdout, slog.New(slog.NewTextHandler(stderr, nil)))
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

// The two groups of options, of which a run uses one.
var (
	folderOptions = []string{"interface", "dir", "vni", "source", "sha256", "segment-bytes", "segment-seconds", "reserve", "leave-free", "max-bytes", "allow-merging"}
	bucketOptions = []string{"config", "spool", "listen"}
)

func parseRun(args []string) (options, error) {
	opts := options{folder: standalone.Config{Digest: true, AnyVNI: true}}
	var (
		listen, sources string
		vni             uint64
		seconds         = 300
		segment         = size(256 << 20)
		reserve         = size(1 << 30)
		free            = size(256 << 20)
		limit           size
	)
	flags := flag.NewFlagSet("run", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	flags.StringVar(&opts.config, "config", "", "")
	flags.StringVar(&opts.spool, "spool", "", "")
	flags.StringVar(&listen, "listen", "", "")
	flags.StringVar(&opts.interfaceName, "interface", "", "")
	flags.StringVar(&opts.folder.Dir, "dir", "", "")
	flags.Uint64Var(&vni, "vni", 0, "")
	flags.StringVar(&sources, "source", "", "")
	flags.BoolVar(&opts.folder.Digest, "sha256", true, "")
	flags.Var(&segment, "segment-bytes", "")
	flags.IntVar(&seconds, "segment-seconds", seconds, "")
	flags.Var(&reserve, "reserve", "")
	flags.Var(&free, "leave-free", "")
	flags.Var(&limit, "max-bytes", "")
	flags.StringVar(&opts.receiver, "receiver", "", "")
	flags.Var(&opts.ring, "ring-bytes", "")
	flags.BoolVar(&opts.merging, "allow-merging", false, "")
	if err := flags.Parse(args); err != nil {
		return opts, err
	}
	if flags.NArg() > 0 {
		return opts, fmt.Errorf("what is %q to mean?", flags.Arg(0))
	}
	folder, bucket := "", ""
	flags.Visit(func(f *flag.Flag) {
		if slices.Contains(folderOptions, f.Name) {
			folder = f.Name
		}
		if slices.Contains(bucketOptions, f.Name) {
			bucket = f.Name
		}
		opts.folder.AnyVNI = opts.folder.AnyVNI && f.Name != "vni"
	})
	switch {
	case folder != "" && bucket != "":
		return opts, fmt.Errorf("--%s is for a capture into a folder, --%s for one into the evidence bucket", folder, bucket)
	case folder == "" && opts.config == "":
		return opts, errors.New("--config is missing (or --interface, for a capture into a folder)")
	case folder == "" && opts.spool == "":
		return opts, errors.New("--spool is missing")
	case folder != "" && opts.interfaceName == "":
		return opts, errors.New("--interface is missing")
	case folder != "" && opts.folder.Dir == "":
		return opts, errors.New("--dir is missing")
	case vni > events.MaxVNI:
		return opts, fmt.Errorf("--vni %d: a VNI has 24 bits, at most %d", vni, events.MaxVNI)
	case segment < 1<<20 || segment > events.MaxSegmentBytes:
		return opts, fmt.Errorf("--segment-bytes %d: want 1 MiB to 5 GiB, which S3 takes in one piece", segment)
	case seconds < 1:
		return opts, fmt.Errorf("--segment-seconds %d: want 1 or more", seconds)
	}
	var err error
	if opts.receiver != "" {
		if err = ingest.CheckReceiver(opts.receiver); err != nil {
			return opts, fmt.Errorf("--receiver: %w", err)
		}
	}
	opts.folder.VNI, opts.folder.Interface = uint32(vni), opts.interfaceName
	opts.folder.SegmentBytes, opts.folder.SegmentAge = int64(segment), time.Duration(seconds)*time.Second
	opts.folder.ReserveBytes, opts.folder.FreeBytes, opts.folder.MaxBytes = int64(reserve), int64(free), int64(limit)
	if opts.folder.Sources, err = parseAddresses(sources); err != nil {
		return opts, fmt.Errorf("--source: %w", err)
	}
	if listen == "" {
		return opts, nil
	}
	if opts.listen, err = ingest.ParseEndpoints(listen, vxlan.Port); err != nil {
		return opts, fmt.Errorf("--listen: %w", err)
	}
	return opts, nil
}

func parseAddresses(list string) ([]netip.Addr, error) {
	if list == "" {
		return nil, nil
	}
	var addrs []netip.Addr
	for text := range strings.SplitSeq(list, ",") {
		addr, err := netip.ParseAddr(strings.TrimSpace(text))
		if err != nil {
			return nil, fmt.Errorf("%q is no address", text)
		}
		addrs = append(addrs, addr.Unmap())
	}
	return addrs, nil
}

// size is a number of bytes, as a person writes it.
type size int64

var units = []struct {
	suffix string
	bytes  int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}}

// String implements flag.Value.
func (s *size) String() string { return strconv.FormatInt(int64(*s), 10) }

// Set implements flag.Value.
func (s *size) Set(text string) error {
	unit := int64(1)
	for _, u := range units {
		if rest, ok := strings.CutSuffix(text, u.suffix); ok {
			text, unit = rest, u.bytes
		}
	}
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/unit {
		return errors.New("want a number of bytes, or one as in 64MiB")
	}
	*s = size(n * unit)
	return nil
}

// tool is the name and version that evidence bears.
func tool() string { return "flashtap collector " + version }
