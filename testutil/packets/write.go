package packets

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"os"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// WriteFile writes frames as a pcap file with nanosecond stamps.
func WriteFile(path string, frames []Frame) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	buffered := bufio.NewWriter(f)
	if err = Write(buffered, frames); err == nil {
		err = buffered.Flush()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// Write writes frames as a pcap stream with nanosecond stamps. An OrigLen of 0 means that the frame is whole.
func Write(w io.Writer, frames []Frame) error {
	out := pcapgo.NewWriterNanos(w)
	if err := out.WriteFileHeader(maxFrame, layers.LinkTypeEthernet); err != nil {
		return fmt.Errorf("pcap header: %w", err)
	}
	for i, f := range frames {
		// Seconds are an unsigned 32-bit word (draft-ietf-opsawg-pcap, section 5).
		if s := f.At.Unix(); s < 0 || s > math.MaxUint32 {
			return fmt.Errorf("record %d: %s is outside the years of pcap", i+1, f.At)
		}
		info := gopacket.CaptureInfo{Timestamp: f.At, CaptureLength: len(f.Data), Length: max(f.OrigLen, len(f.Data))}
		if err := out.WritePacket(info, f.Data); err != nil {
			return fmt.Errorf("record %d: %w", i+1, err)
		}
	}
	return nil
}
