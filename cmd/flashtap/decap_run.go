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
	err := d.loop(reader)
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

// loop decides about every record until the input ends.
func (d *decapsulation) loop(reader *pcapfile.Reader) error {
	var rec pcapfile.Record
	var datagram vxlan.Datagram
	for {
		if err := reader.Next(&rec); err != nil {
			return err
		}
		d.tally.Records++
		if rec.Link != pcapfile.Ethernet {
			d.tally.NotVXLAN.OtherLink++
			d.tally.otherLink = rec.Link
			continue
		}
		beyond, miss := vxlan.Unwrap(rec.Data, rec.Wire, d.port, &datagram)
		if miss != vxlan.Found {
			d.tally.miss(miss, len(rec.Data) < rec.Wire)
			continue
		}
		if !d.wanted(&datagram.Source) {
			d.tally.ForeignSource++
			continue
		}
		vni, ok := vxlan.VNI(datagram.Payload)
		frame := datagram.Payload[vxlan.HeaderLen:]
		wire := len(frame) + beyond
		if !ok {
			d.tally.Malformed.NoVNI++
			continue
		}
		if wire < etherHeaderLen {
			d.tally.Malformed.Runt++
			continue
		}
		d.tally.census.count(vni)
		if len(d.vnis) > 0 && !d.vnis[vni] {
			d.tally.ForeignVNI++
			continue
		}
		if err := d.writer.Write(rec.At, frame, wire); err != nil {
			d.tally.Records--
			return fmt.Errorf("record %d: %w", reader.Records(), err) // an error of OUT comes again when it is flushed
		}
		d.tally.Written++
		d.tally.WrittenBytes += uint64(len(frame))
		if beyond > 0 {
			d.tally.Truncated++
		}
	}
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
