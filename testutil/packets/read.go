package packets

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// maxFrame bounds one record, so that a damaged length can't ask for all memory. The largest frame of the corpus
// has 80 KB; 256 KiB is also what libpcap accepts by default (MAXIMUM_SNAPLEN).
const maxFrame = 256 << 10

// linkEthernet is LINKTYPE_ETHERNET.
const linkEthernet = 1

// NotEthernet refuses a recording whose frames aren't Ethernet: they would need an invented Ethernet header.
type NotEthernet struct {
	// LinkType is the number in the file, as in the registry of link-layer header types.
	LinkType uint16
}

func (e NotEthernet) Error() string {
	// gopacket keeps link types in 8 bits; a larger one would be named after another.
	if e.LinkType > 255 {
		return fmt.Sprintf("link type %d is not Ethernet: such frames can't be mirrored or converted", e.LinkType)
	}
	return fmt.Sprintf("link type %d (%s) is not Ethernet: such frames can't be mirrored or converted",
		e.LinkType, layers.LinkType(e.LinkType))
}

// ReadFile reads a whole pcap or pcapng file.
func ReadFile(path string) ([]Frame, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	frames, err := Read(f)
	if err != nil {
		return frames, fmt.Errorf("read %s: %w", path, err)
	}
	return frames, nil
}

// Read reads a whole pcap or pcapng stream, in either byte order and with the stamps' full resolution. A damaged
// stream gives the frames before the damage and the error.
func Read(r io.Reader) ([]Frame, error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	if len(data) < 4 {
		return nil, fmt.Errorf("not a pcap: %d bytes", len(data))
	}
	if binary.BigEndian.Uint32(data) == ngSectionHeader {
		return readNG(data)
	}
	return readClassic(data)
}

func readClassic(data []byte) ([]Frame, error) {
	if len(data) < 24 {
		return nil, fmt.Errorf("not a pcap: %d bytes", len(data))
	}
	r, err := pcapgo.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("pcap header: %w", err)
	}
	order := binary.ByteOrder(binary.LittleEndian)
	if data[0] == 0xa1 {
		order = binary.BigEndian
	}
	// The upper 16 bits of the word hold the length of the frame check sequence, not the type.
	if link := uint16(order.Uint32(data[20:24])); link != linkEthernet {
		return nil, NotEthernet{link}
	}
	// Some writers state a snap length that their own records exceed.
	r.SetSnaplen(maxFrame)
	return drain(r)
}

func readNG(data []byte) ([]Frame, error) {
	if err := checkNG(data); err != nil {
		return nil, err
	}
	r, err := pcapgo.NewNgReader(bytes.NewReader(data), pcapgo.NgReaderOptions{WantMixedLinkType: true})
	if err != nil {
		return nil, fmt.Errorf("pcapng header: %w", err)
	}
	return drain(r)
}

func drain(r gopacket.PacketDataSource) (frames []Frame, err error) {
	// pcapgo takes the length of some pcapng options on trust.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("record %d: damaged option: %v", len(frames)+1, p)
		}
	}()
	for {
		data, info, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return frames, nil
		}
		if err != nil {
			return frames, fmt.Errorf("record %d: %w", len(frames)+1, err)
		}
		if info.Length < len(data) {
			return frames, fmt.Errorf("record %d: %d bytes captured of %d", len(frames)+1, len(data), info.Length)
		}
		frames = append(frames, Frame{At: info.Timestamp, Data: data, OrigLen: info.Length})
	}
}

// Block types of pcapng (draft-ietf-opsawg-pcapng, section 4).
const (
	ngSectionHeader  = 0x0A0D0D0A
	ngInterface      = 1
	ngPacket         = 2
	ngSimplePacket   = 3
	ngEnhancedPacket = 6
)

// checkNG walks the blocks before pcapgo does, which keeps link types in 8 bits and takes lengths on trust. A file
// of which any interface isn't Ethernet is refused as a whole.
func checkNG(data []byte) error {
	order := binary.ByteOrder(binary.LittleEndian)
	for at := 0; at < len(data); {
		b := data[at:]
		if len(b) < 12 {
			return fmt.Errorf("pcapng block at byte %d: %d bytes", at, len(b))
		}
		if binary.BigEndian.Uint32(b) == ngSectionHeader {
			switch uint32(0x1A2B3C4D) {
			case binary.LittleEndian.Uint32(b[8:]):
				order = binary.LittleEndian
			case binary.BigEndian.Uint32(b[8:]):
				order = binary.BigEndian
			default:
				return fmt.Errorf("pcapng section at byte %d: byte order magic %x", at, b[8:12])
			}
		}
		size := uint64(order.Uint32(b[4:]))
		if size < 12 || size%4 != 0 || size > uint64(len(b)) {
			return fmt.Errorf("pcapng block at byte %d: length %d of %d", at, size, len(b))
		}
		if err := checkNGBlock(order, order.Uint32(b), b[8:size-4]); err != nil {
			return fmt.Errorf("pcapng block at byte %d: %w", at, err)
		}
		at += int(size)
	}
	return nil
}

func checkNGBlock(order binary.ByteOrder, kind uint32, body []byte) error {
	switch kind {
	case ngInterface:
		if len(body) < 8 {
			return fmt.Errorf("interface of %d bytes", len(body))
		}
		if link := order.Uint16(body); link != linkEthernet {
			return NotEthernet{link}
		}
	case ngSimplePacket:
		return errors.New("a simple packet has no time stamp")
	case ngPacket, ngEnhancedPacket:
		if len(body) < 20 {
			return fmt.Errorf("packet of %d bytes", len(body))
		}
		if n := order.Uint32(body[12:]); uint64(n) > uint64(len(body)-20) {
			return fmt.Errorf("packet of %d bytes in %d", n, len(body)-20)
		}
	}
	return nil
}
