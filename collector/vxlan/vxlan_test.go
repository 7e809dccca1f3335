package vxlan

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/gopacket/pcapgo"
)

func TestDecap(t *testing.T) {
	frame := bytes.Repeat([]byte{0xab}, 60)
	header := func(b ...byte) []byte { return append(b, frame...) }
	tests := []struct {
		reason   string
		datagram []byte
		frame    []byte
		vni      uint32
		err      error
	}{
		{"as Traffic Mirroring sends it", header(0x08, 0, 0, 0, 0x12, 0x34, 0x56, 0), frame, 0x123456, nil},
		{"VNI 0 is a VNI", header(0x08, 0, 0, 0, 0, 0, 0, 0), frame, 0, nil},
		{"the largest VNI", header(0x08, 0, 0, 0, 0xff, 0xff, 0xff, 0), frame, 1<<24 - 1, nil},
		{"reserved flags are ignored", header(0xff, 0, 0, 0, 0, 0, 42, 0), frame, 42, nil},
		{"reserved fields are ignored", header(0x08, 0xff, 0xff, 0xff, 0, 0, 42, 0xff), frame, 42, nil},
		{"the shortest frame", header(0x08, 0, 0, 0, 0, 0, 42, 0)[:HeaderLen+14], frame[:14], 42, nil},
		{"no I flag", header(0xf7, 0, 0, 0, 0, 0, 42, 0), nil, 0, ErrNoVNI},
		{"frame shorter than an Ethernet header", header(0x08, 0, 0, 0, 0, 0, 42, 0)[:HeaderLen+13], nil, 0, ErrShort},
		{"header alone", []byte{0x08, 0, 0, 0, 0, 0, 42, 0}, nil, 0, ErrShort},
		{"empty datagram", nil, nil, 0, ErrShort},
	}
	for _, test := range tests {
		t.Run(test.reason, func(t *testing.T) {
			frame, vni, err := Decap(test.datagram)
			if !errors.Is(err, test.err) || (err == nil) != (test.err == nil) {
				t.Fatalf("error %v, want %v", err, test.err)
			}
			if vni != test.vni || !bytes.Equal(frame, test.frame) {
				t.Errorf("VNI %d and %d bytes, want %d and %d bytes", vni, len(frame), test.vni, len(test.frame))
			}
		})
	}
}

func TestDecapAndOrigLenAllocateNothing(t *testing.T) {
	datagram := append([]byte{0x08, 0, 0, 0, 0, 0, 42, 0}, ipv4Frame(1500, 200)...)
	allocs := testing.AllocsPerRun(100, func() {
		frame, _, err := Decap(datagram)
		if err != nil || OrigLen(frame) != 1514 {
			t.Fatal("wrong answer")
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations a packet, want 0", allocs)
	}
}

// The frames that Wireshark takes out of other people's captures are the frames that Decap takes out.
func TestDecapAgreesWithWireshark(t *testing.T) {
	for name, vni := range map[string]uint32{"vxlan": 123, "vxlan-encapsulated-http": 1} {
		t.Run(name, func(t *testing.T) {
			outer := readFrames(t, filepath.Join("testdata", name+".pcap"))
			inner := readFrames(t, filepath.Join("testdata", name+".inner.pcap"))
			if len(outer) != len(inner) || len(inner) == 0 {
				t.Fatalf("%d outer frames, %d inner ones", len(outer), len(inner))
			}
			for i := range outer {
				frame, got, err := Decap(outer[i][14+20+8:])
				if err != nil {
					t.Fatalf("frame %d: %v", i+1, err)
				}
				if got != vni || !bytes.Equal(frame, inner[i]) {
					t.Errorf("frame %d: VNI %d, want %d; same bytes as Wireshark: %t", i+1, got, vni, bytes.Equal(frame, inner[i]))
				}
			}
		})
	}
}

// Cut anywhere behind its IP header's length field, a frame still tells how long it was.
func TestOrigLenOfCutFrames(t *testing.T) {
	for _, name := range []string{"vxlan.inner.pcap", "vxlan-encapsulated-http.inner.pcap"} {
		for i, frame := range readFrames(t, filepath.Join("testdata", name)) {
			if OrigLen(frame) != len(frame) {
				t.Errorf("%s frame %d: a whole frame of %d bytes counts as %d", name, i+1, len(frame), OrigLen(frame))
			}
			if binary.BigEndian.Uint16(frame[12:14]) != typeIPv4 {
				continue
			}
			for _, cut := range []int{18, 34, 35, 64, 128} {
				if cut < len(frame) && OrigLen(frame[:cut]) != len(frame) {
					t.Errorf("%s frame %d cut to %d: %d, want %d", name, i+1, cut, OrigLen(frame[:cut]), len(frame))
				}
			}
		}
	}
}

func TestOrigLen(t *testing.T) {
	tagged := func(inner []byte, tags ...uint16) []byte {
		out := bytes.Clone(inner[:12])
		for _, tag := range tags {
			out = binary.BigEndian.AppendUint16(out, tag)
			out = append(out, 0x00, 0x07)
		}
		return append(out, inner[12:]...)
	}
	withIHL := func(frame []byte, first byte) []byte {
		frame[14] = first
		return frame
	}
	tests := []struct {
		reason string
		frame  []byte
		want   int
	}{
		{"whole IPv4 frame", ipv4Frame(100, 100), 114},
		{"IPv4 frame cut by the MTU", ipv4Frame(8900, 1000), 8914},
		{"padding behind a short packet belongs to the frame", ipv4Frame(28, 46), 60},
		{"cut right behind the total length", ipv4Frame(1500, 4), 1514},
		{"cut before the total length", ipv4Frame(1500, 3), 17},
		{"IPv4 total length 0 says nothing", ipv4Frame(0, 46), 60},
		{"total length below the header's own length", ipv4Frame(19, 40), 54},
		{"header length below the least", withIHL(ipv4Frame(1500, 40), 0x44), 54},
		{"version that is not 4", withIHL(ipv4Frame(1500, 40), 0x55), 54},
		{"IPv4 with options", withIHL(ipv4Frame(1500, 60), 0x4f), 1514},
		{"the longest IPv4 packet", ipv4Frame(65535, 40), 65549},
		{"VLAN tag", tagged(ipv4Frame(1500, 100), 0x8100), 1518},
		{"service tag and VLAN tag", tagged(ipv4Frame(1500, 100), 0x88a8, 0x8100), 1522},
		{"old stacked tags", tagged(ipv4Frame(1500, 100), 0x9100, 0x8100), 1522},
		{"three tags", tagged(ipv6Frame(1400, 100), 0x88a8, 0x8100, 0x8100), 14 + 12 + 1440},
		{"cut inside the tags", tagged(ipv4Frame(1500, 100), 0x88a8, 0x8100)[:19], 19},
		{"cut behind the last tag", tagged(ipv4Frame(1500, 100), 0x8100)[:18], 18},
		{"whole IPv6 frame", ipv6Frame(100, 140), 154},
		{"IPv6 frame cut", ipv6Frame(1400, 41), 14 + 1440},
		{"IPv6 frame cut behind the payload length", ipv6Frame(1400, 6), 14 + 1440},
		{"IPv6 frame cut before the payload length", ipv6Frame(1400, 5), 19},
		{"IPv6 padding", ipv6Frame(4, 46), 60},
		{"IPv6 without payload", ipv6Frame(0, 40), 54},
		{"IPv6 type with version 4", withIHL(ipv6Frame(1400, 60), 0x45), 74},
		{"jumbogram cut", jumboFrame(100000, 2, 0xc2), 14 + 40 + 100000},
		{"jumbogram's option behind padding", jumboFrame(100000, 10, 0xc2), 14 + 40 + 100000},
		{"jumbo option that is too small to be one", jumboFrame(65535, 2, 0xc2), 14 + 40 + 16},
		{"hop-by-hop header without a jumbo option", jumboFrame(100000, 2, 0x05), 14 + 40 + 16},
		{"jumbogram longer than a pcap record can say", jumboFrame(1<<32-1, 2, 0xc2), 1<<32 - 1},
		{"ARP", append(make([]byte, 12), append([]byte{0x08, 0x06}, make([]byte, 46)...)...), 60},
		{"a bare Ethernet header", make([]byte, 14), 14},
		{"nothing", nil, 0},
	}
	for _, test := range tests {
		t.Run(test.reason, func(t *testing.T) {
			if got := OrigLen(test.frame); got != test.want {
				t.Errorf("%d, want %d", got, test.want)
			}
		})
	}
}

func FuzzDecap(f *testing.F) {
	f.Add([]byte(nil))
	f.Add([]byte{0x08, 0, 0, 0, 0, 0, 1, 0})
	f.Add(append([]byte{0x08, 0, 0, 0, 0, 0, 1, 0}, ipv4Frame(1500, 100)...))
	f.Add(append([]byte{0x08, 0, 0, 0, 0, 0, 1, 0}, jumboFrame(100000, 10, 0xc2)...))
	f.Fuzz(func(t *testing.T, datagram []byte) {
		before := bytes.Clone(datagram)
		frame, vni, err := Decap(datagram)
		if err != nil {
			if frame != nil || vni != 0 {
				t.Fatal("an error and a frame")
			}
			return
		}
		if !bytes.Equal(frame, datagram[HeaderLen:]) || len(frame) < 14 || vni >= 1<<24 {
			t.Fatalf("frame of %d bytes, VNI %d out of %d bytes", len(frame), vni, len(datagram))
		}
		if n := OrigLen(frame); n < len(frame) || uint64(n) > 1<<32-1 {
			t.Fatalf("original length %d of a frame of %d bytes", n, len(frame))
		}
		if !bytes.Equal(before, datagram) {
			t.Fatal("the datagram was changed")
		}
	})
}

func FuzzOrigLen(f *testing.F) {
	for _, frame := range [][]byte{nil, ipv4Frame(1500, 100), ipv6Frame(1400, 100), jumboFrame(100000, 10, 0xc2)} {
		f.Add(frame)
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		whole := OrigLen(frame)
		if slow := origLen(frame); slow != whole {
			t.Fatalf("original length %d, without the short cut %d", whole, slow)
		}
		if whole < len(frame) || uint64(whole) > 1<<32-1 {
			t.Fatalf("original length %d of a frame of %d bytes", whole, len(frame))
		}
		// Cutting never makes a frame longer than the whole one says.
		for n := range frame {
			if cut := OrigLen(frame[:n]); cut > whole {
				t.Fatalf("cut to %d of %d bytes: original length %d, whole %d", n, len(frame), cut, whole)
			}
		}
	})
}

// ipv4Frame is an IPv4 frame whose header states total, with present bytes behind the Ethernet header.
func ipv4Frame(total, present int) []byte {
	frame := make([]byte, 14+max(present, 20))
	binary.BigEndian.PutUint16(frame[12:], typeIPv4)
	frame[14] = 0x45
	binary.BigEndian.PutUint16(frame[16:], uint16(total))
	return frame[:14+present]
}

// ipv6Frame is an IPv6 frame whose header states payload, with present bytes behind the Ethernet header.
func ipv6Frame(payload, present int) []byte {
	frame := make([]byte, 14+max(present, 40))
	binary.BigEndian.PutUint16(frame[12:], typeIPv6)
	frame[14] = 0x60
	binary.BigEndian.PutUint16(frame[18:], uint16(payload))
	frame[20] = 17
	return frame[:14+present]
}

// jumboFrame is an IPv6 frame with payload length 0 and one hop-by-hop option at offset at of that header.
func jumboFrame(length, at int, option byte) []byte {
	frame := ipv6Frame(0, 40+16)
	frame[20] = 0
	hop := frame[54:]
	hop[1] = 1 // (1+1)*8 = 16 bytes; what is not the option stays Pad1
	hop[at], hop[at+1] = option, 4
	binary.BigEndian.PutUint32(hop[at+2:], uint32(length))
	return frame
}

func readFrames(t *testing.T, path string) [][]byte {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	r, err := pcapgo.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	var frames [][]byte
	for {
		data, _, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return frames
		}
		if err != nil {
			t.Fatal(err)
		}
		frames = append(frames, data)
	}
}
