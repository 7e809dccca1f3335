package main

import (
	"context"
	"errors"
	"flag"
	"net/netip"
	"strconv"
	"strings"

	"flashtap/collector/vxlan"
)

func decapCommand() command {
	return command{
		name: "decap", operands: "IN OUT", least: 2, most: 2,
		summary: "take the mirrored frames out of a capture of VXLAN datagrams",
		about: `Reads a capture of what a mirror target received, pcap or pcapng, also compressed with gzip, and writes the frames
inside the VXLAN datagrams as pcap with nanosecond timestamps. IN - is standard input and OUT - standard output; frames
then pass as they come, so that a live capture can be piped through. Datagrams are found over IPv4 and IPv6, behind VLAN
tags, and in the GENEVE of a Gateway Load Balancer. Checksums are not verified: captures made on the sender lack them.

Every record of IN has one fate. All fates are counted and told at the end on standard error, or with --output json on
standard output, unless the frames go there. An OUT that exists is not overwritten without --force. When IN is cut off
or damaged, everything before that place is written, and the exit code is 1.`,
		examples: []example{
			{"flashtap decap outer.pcap inner.pcap", ""},
			{"flashtap decap outer.pcapng inner.pcap --vni 1234,1235 --source 10.0.3.7", "only frames of these sessions, mirrored by this interface"},
			{"flashtap decap - - < outer.pcap.gz | tshark -nr -", "as a filter"},
			{"flashtap decap outer.pcap inner.pcap --output json", "the counts for scripts"},
		},
		setup: setupDecap,
	}
}

// decapOptions is what decap is asked for.
type decapOptions struct {
	in, out string
	port    uint16
	vnis    map[uint32]bool // none: all
	sources [][16]byte      // none: all
	force   bool
}

func setupDecap(t *tool, flags *flag.FlagSet) runner {
	o := decapOptions{port: vxlan.Port, vnis: map[uint32]bool{}}
	flags.Func("vni", "keep only frames of VNI `N`; may be given several times or as a list N,N (default: all)", func(text string) error {
		for item := range strings.SplitSeq(text, ",") {
			vni, err := parseVNI(item)
			if err != nil {
				return err
			}
			o.vnis[vni] = true
		}
		return nil
	})
	flags.Func("source", "keep only what the interface with address `IP` mirrored; may be given several times (default: all)", func(text string) error {
		for item := range strings.SplitSeq(text, ",") {
			addr, err := netip.ParseAddr(strings.TrimSpace(item))
			if err != nil || addr.Zone() != "" {
				return errors.New("want an IPv4 or IPv6 address")
			}
			o.sources = append(o.sources, addr.As16())
		}
		return nil
	})
	flags.Func("port", "UDP port `N` of the datagrams (default: 4789)", func(text string) error {
		port, err := parseCount(text, 1, 65535, "")
		o.port = uint16(port)
		return err
	})
	flags.BoolVar(&o.force, "force", false, "overwrite OUT if it exists")
	return func(ctx context.Context, operands []string) error {
		o.in, o.out = operands[0], operands[1]
		return t.decap(ctx, o)
	}
}

// parseVNI reads a VNI as people write it, decimal or with 0x.
func parseVNI(text string) (uint32, error) {
	digits, base := strings.TrimSpace(text), 10
	if rest, found := strings.CutPrefix(strings.ToLower(digits), "0x"); found {
		digits, base = rest, 16
	}
	vni, err := strconv.ParseUint(digits, base, 24) // the field's length (RFC 7348, section 5)
	if err != nil {
		return 0, errors.New("want a whole number from 0 to 16777215")
	}
	return uint32(vni), nil
}

func (t *tool) decap(ctx context.Context, o decapOptions) error {
	in, err := t.openIn(o.in)
	if err != nil {
		return err
	}
	defer in.Close()
	how, err := t.howToCreate(o, in)
	if err != nil {
		return err
	}
	d := decapsulation{decapOptions: o, ctx: ctx, in: in, progress: newDecapProgress(t.err, in.size())}
	d.tally.In, d.tally.Out = nameOf(o.in, "standard input"), nameOf(o.out, "standard output")
	reader, err := d.open()
	if err != nil {
		return err
	}
	out, err := t.create(ctx, o.out, how)
	if err != nil {
		return err
	}
	err = d.run(reader, out)
	d.progress.end()
	if told := t.tell(d.tally, o.out == stdStream); err == nil {
		return told
	}
	return err
}

// tell says what has become of every record. Where frames go to standard output, nothing else may.
func (t *tool) tell(tally decapTally, framesOnOut bool) error {
	if t.output == outputJSON && !framesOnOut {
		return t.show(tally)
	}
	onError := *t
	onError.out = t.err
	return onError.show(tally)
}

// stdStream is the operand for standard input or output.
const stdStream = "-"

func nameOf(operand, stream string) string {
	if operand == stdStream {
		return stream
	}
	return operand
}
