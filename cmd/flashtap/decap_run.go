package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"flashtap/collector/pcapfile"
	"flashtap/collector/vxlan"
)

// decapsulation is one run over one file.
type decapsulation struct {
	decapOptions
	ctx      context.Context
	in       *input
	progress *decapProgress
	tally    decapTally
	writer   *pcapfile.Writer // nil until the first record is asked for
	datagram vxlan.Datagram
}

// open reads the header of the input, so that nothing is written when that is not what decap takes.
func (d *decapsulation) open() (*pcapfile.Reader, error) {
	reader, err := pcapfile.NewReader(d)
	if errors.Is(err, context.Canceled) {
		return nil, problem{exitInterrupted, fmt.Errorf("interrupted before the first record of %s", d.tally.In), ""}
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", d.tally.In, err)
	}
	if link, ok := reader.Link(); ok && link != pcapfile.Ethernet {
		return nil, d.wrongLink(link)
	}
	return reader, nil
}

func (d *decapsulation) wrongLink(link pcapfile.LinkType) error {
	return problem{exitFailed, fmt.Errorf("read %s: its link type is %s, not %s", d.tally.In, link, pcapfile.Ethernet),
		"capture on the network interface itself, not on \"any\" or on a tunnel"}
}

// Read implements io.Reader for the capture file's reader: chunk by chunk is where an interruption is noticed, and where
// frames are handed on before a stream is waited for.
func (d *decapsulation) Read(p []byte) (n int, err error) {
	if d.in.stream() {
		if d.writer != nil {
			if err := d.writer.Flush(); err != nil {
				return 0, err
			}
		}
		n, err = await(d.ctx, func() (int, error) { return d.in.Read(p) })
	} else if err = d.ctx.Err(); err == nil {
		n, err = d.in.Read(p)
	}
	d.progress.add(n)
	return n, err
}

// run writes every frame it finds to out, and closes it. The tally is right whatever happens.
func (d *decapsulation) run(reader *pcapfile.Reader, out io.WriteCloser) error {
	d.writer = pcapfile.NewWriter(out)
	err := pcapfile.Transform(d.writer, reader, d.frame)
	d.tally.close()
	d.tally.Complete = errors.Is(err, io.EOF)
	holds := fmt.Sprintf("%s holds the %s before it", d.tally.Out, countOf(d.tally.Written, "frame"))
	switch written := errors.Join(d.writer.Flush(), out.Close()); {
	case written != nil:
		d.tally.Complete = false
		return fmt.Errorf("write %s: %w; it is not complete, and its last record may be cut off", d.tally.Out, written)
	case d.tally.Complete:
		return d.noEthernet()
	case errors.Is(err, context.Canceled):
		return problem{exitInterrupted, fmt.Errorf("interrupted behind record %d of %s; %s", d.tally.Records, d.tally.In, holds), ""}
	}
	return fmt.Errorf("read %s: %w; %s", d.tally.In, err, holds)
}

// noEthernet tells a file that could not hold a frame from one that holds none.
func (d *decapsulation) noEthernet() error {
	if d.tally.Records > 0 && d.tally.NotVXLAN.OtherLink == d.tally.Records {
		return d.wrongLink(d.tally.otherLink)
	}
	return nil
}

// frame decides about one record; it is a pcapfile.Transformer.
func (d *decapsulation) frame(data []byte, wire int, link pcapfile.LinkType) (frame []byte, frameWire int, keep bool) {
	d.tally.Records++
	if link != pcapfile.Ethernet {
		d.tally.NotVXLAN.OtherLink++
		d.tally.otherLink = link
		return nil, 0, false
	}
	beyond, miss := vxlan.Unwrap(data, wire, d.port, &d.datagram)
	if miss != vxlan.Found {
		d.tally.miss(miss, len(data) < wire)
		return nil, 0, false
	}
	if !d.wanted(&d.datagram.Source) {
		d.tally.ForeignSource++
		return nil, 0, false
	}
	vni, ok := vxlan.VNI(d.datagram.Payload)
	frame = d.datagram.Payload[vxlan.HeaderLen:]
	frameWire = len(frame) + beyond
	if !ok {
		d.tally.Malformed.NoVNI++
		return nil, 0, false
	}
	if frameWire < etherHeaderLen {
		d.tally.Malformed.Runt++
		return nil, 0, false
	}
	d.tally.census.count(vni)
	if len(d.vnis) > 0 && !d.vnis[vni] {
		d.tally.ForeignVNI++
		return nil, 0, false
	}
	d.tally.Written++
	d.tally.WrittenBytes += uint64(len(frame))
	if beyond > 0 {
		d.tally.Truncated++
	}
	return frame, frameWire, true
}

// etherHeaderLen is the length of the shortest thing that is a frame (IEEE 802.3), as the collector has it.
const etherHeaderLen = 14

// wanted says whether a datagram comes from one of the sources asked for.
func (d *decapsulation) wanted(source *[16]byte) bool {
	for i := range d.sources {
		if d.sources[i] == *source {
			return true
		}
	}
	return len(d.sources) == 0
}
