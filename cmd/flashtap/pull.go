package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"flashtap/collector/evidence"
	"flashtap/events"
)

func pullCommand() command {
	return command{
		name: "pull", operands: "CAPTURE|s3://BUCKET/captures/CAPTURE [DIR]", least: 1, most: 2, remote: true,
		summary: "download evidence, or only the packets that are wanted",
		about: `Downloads everything of a capture into DIR (default: a folder of the capture's name), checks each object against the
manifest as it comes in, and then verifies the whole as flashtap verify does, with the same exit codes. What was
downloaded before is not fetched again, and what was interrupted goes on where it was.

With --merge the packets of all segments and collectors go into one pcap in the order of their times; --flow, --from and
--to choose among them, and --stdout pipes them on. Then nothing else is kept unless DIR is given, and the first operand
may also be a folder that was downloaded before. An index of each segment is made when it is first read, beside the
download, so that the next question reads only the parts that can hold an answer. A flow is a protocol (tcp, udp, icmp,
a number, or any) and two ends, in either direction: 'tcp 10.0.0.5:443 - 10.0.0.9:*'; * is any address or port.

With --segment one segment is written with the proof that it belongs to the capture, to be handed out without the rest.`,
		examples: []example{
			{"flashtap pull 20261122T030405Z-eni-0a1b2c3d4e5f60718 --key signer.pem", ""},
			{"flashtap pull s3://evidence/captures/20261122T030405Z-eni-0a1b2c3d4e5f60718 case-7 --merge case-7.pcap", "all of it, and one pcap"},
			{"flashtap pull case-7 --merge beacon.pcap --flow 'tcp 10.0.0.5:* - 198.51.100.7:443' --from 2026-11-22T03:10:00Z", "out of a download"},
			{"flashtap pull 20261122T030405Z-eni-0a1b2c3d4e5f60718 --stdout --flow 'udp *:53 - *'", "for wireshark -k -i -"},
			{"flashtap pull 20261122T030405Z-eni-0a1b2c3d4e5f60718 segment-3 --segment 3", "to hand out"},
		},
		setup: setupPull,
	}
}

// pullOptions is what pull is asked for.
type pullOptions struct {
	trust   evidence.Options
	dir     string
	merge   string
	force   bool
	segment int
	wish
}

// wish says which packets are wanted.
type wish struct {
	flows    []flow
	from, to time.Time // zero: no bound
}

func setupPull(t *tool, flags *flag.FlagSet) runner {
	var o pullOptions
	var trust trustFlags
	trust.register(flags)
	stdout := false
	flags.StringVar(&o.merge, "merge", "", "write one pcap `FILE` with the packets in order of time; - is standard output")
	flags.BoolVar(&stdout, "stdout", false, "the same as --merge -")
	flags.BoolVar(&o.force, "force", false, "overwrite the FILE of --merge if it exists")
	flags.Func("flow", "keep only packets of this `FLOW`, like 'tcp 10.0.0.5:443 - 10.0.0.9:*'; may be given several times", func(text string) error {
		f, err := parseFlow(text)
		o.flows = append(o.flows, f)
		return err
	})
	flags.Func("from", "keep only packets from this `TIME` on, like 2026-11-22T03:10:00Z", func(text string) (err error) {
		o.from, err = parseMoment(text)
		return err
	})
	flags.Func("to", "keep only packets before this `TIME`", func(text string) (err error) {
		o.to, err = parseMoment(text)
		return err
	})
	flags.Func("segment", "hand out segment `N` of the manifest, counted from 1, with its proof", func(text string) error {
		n, err := parseCount(text, 1, 1<<30, "")
		o.segment = int(n)
		return err
	})
	return func(ctx context.Context, operands []string) error {
		var err error
		if o.trust, err = trust.options(); err != nil {
			return err
		}
		if len(operands) > 1 {
			o.dir = operands[1]
		}
		if stdout {
			if o.merge != "" && o.merge != stdStream {
				return usage("--stdout and --merge "+o.merge+": the packets go to one of them", "give --stdout without --merge, or run it twice")
			}
			o.merge = stdStream
		}
		switch {
		case o.merge == "" && (len(o.flows) > 0 || !o.from.IsZero() || !o.to.IsZero()):
			return usage("not said: where the chosen packets go", "give --merge FILE or --stdout")
		case !o.to.IsZero() && !o.from.Before(o.to):
			return usage("--from is not before --to: no packet is between them", "")
		case o.segment > 0 && o.merge != "":
			return usage("--segment hands out a whole segment: it does not go with --merge and --stdout", "")
		}
		return t.pull(ctx, operands[0], o)
	}
}

// parseMoment reads a time as the evidence writes it.
func parseMoment(text string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02 15:04:05Z07:00"} {
		if at, err := time.Parse(layout, text); err == nil {
			return at.UTC(), nil
		}
	}
	return time.Time{}, errors.New("want a time like 2026-11-22T03:10:00Z")
}

func (t *tool) pull(ctx context.Context, operand string, o pullOptions) (err error) {
	at, err := t.openEvidence(ctx, operand)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, at.close()) }()
	o.trust.Capture = at.capture
	contents, err := evidence.ReadContents(ctx, at.Source, o.trust)
	if errors.Is(err, evidence.ErrNoEvidence) {
		return notFound("flashtap list shows the captures in the bucket", "%s holds no evidence of a capture", at.name)
	}
	if errors.Is(err, evidence.ErrHandedOut) {
		return handedOut(at)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", at.name, err)
	}
	switch {
	case o.segment > 0:
		return t.handOut(ctx, at, contents, o)
	case at.folder != "" && o.dir != "":
		return usage(at.name+" is a folder already: it is not copied to "+o.dir, "name a capture, or leave out DIR")
	case at.folder != "" && o.merge == "":
		return usage(at.name+" is a folder already: there is nothing to download", "flashtap verify checks it; --merge takes packets out of it")
	}
	var whole *verification
	if o.dir != "" || o.merge == "" {
		v, kept, err := t.download(ctx, at, contents, o)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, kept.close()) }()
		whole = &v
		if o.merge == "" {
			if err := t.show(v); err != nil {
				return err
			}
			return v.end()
		}
		kept.capture, at = at.capture, kept
	}
	return t.carve(ctx, at, contents, o, whole)
}

// handOut writes one segment with its proof into a folder.
func (t *tool) handOut(ctx context.Context, at place, contents evidence.Contents, o pullOptions) error {
	if contents.Manifest == nil {
		return refused("wait until it is sealed; flashtap status tells how it stands", "%s is not sealed: no segment of it can be proved to belong to it", at.name)
	}
	proof, err := contents.Prove(o.segment)
	if errors.Is(err, evidence.ErrNoSegment) {
		return notFound("flashtap verify counts them", "%s has %s: there is no segment %d", at.name, countOf(uint64(len(contents.Manifest.Segments)), "segment"), o.segment)
	}
	if err != nil {
		return err
	}
	dir := o.dir
	if dir == "" {
		dir = fmt.Sprintf("%s-segment-%d", contents.Manifest.Capture, o.segment)
	}
	if evidence.CaptureOfFolder(dir) != "" {
		return usage(dir+" is the name of a capture: one segment of it is not the whole", "name another DIR")
	}
	if _, err := os.Stat(dir); err == nil {
		return refused("name another DIR", "%s exists", dir)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	d, err := newDownload(ctx, at, dir)
	if err != nil {
		return err
	}
	defer d.close()
	key := contents.Manifest.Segments[o.segment-1].Key
	names := map[string]string{strings.TrimPrefix(key, events.CapturePrefix(contents.Manifest.Capture)): path.Base(key), "tree.json": "tree.json", "tree.sig": "tree.sig", "key.pem": "key.pem"}
	for from, to := range names {
		err := d.fetch(from, to, nil)
		if errors.Is(err, fs.ErrNotExist) && to != path.Base(key) {
			continue // the check tells
		}
		if err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "proof.json"), proof, 0o666); err != nil {
		return err
	}
	folder, err := evidence.OpenFolder(dir)
	if err != nil {
		return err
	}
	defer folder.Close()
	o.trust.Segment = o.segment
	v, err := t.check(ctx, place{Source: folder, name: dir, folder: dir}, o.trust)
	if err != nil {
		return err
	}
	if err := t.show(v); err != nil {
		return err
	}
	return v.end()
}
