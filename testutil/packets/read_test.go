package packets

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

var start = time.Date(2026, 3, 4, 5, 6, 7, 123456789, time.UTC)

func TestWrittenFramesComeBackToTheNanosecond(t *testing.T) {
	want := Timeline(start, time.Nanosecond, []byte("first"), make([]byte, 9000), nil)
	want[1].OrigLen = 64000 // cut by the recording
	path := t.TempDir() + "/out.pcap"
	if err := WriteFile(path, want); err != nil {
		t.Fatal(err)
	}
	got, err := ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	same(t, got, want)
}

func TestPcapngKeepsNanoseconds(t *testing.T) {
	want := Timeline(start, time.Nanosecond, []byte("first"), []byte("second"))
	same(t, mustRead(t, ng(t, layers.LinkTypeEthernet, want)), want)
}

func TestDamageIsNamed(t *testing.T) {
	var whole bytes.Buffer
	if err := Write(&whole, Timeline(start, time.Second, []byte("first"), []byte("second"))); err != nil {
		t.Fatal(err)
	}
	otherLink := bytes.Clone(whole.Bytes())
	binary.LittleEndian.PutUint32(otherLink[20:], 257) // 1 in the 8 bits that gopacket keeps
	longer := bytes.Clone(whole.Bytes())
	binary.LittleEndian.PutUint32(longer[24+8:], 1<<31)
	binary.LittleEndian.PutUint32(longer[24+12:], 1<<31)
	frameCheck := bytes.Clone(whole.Bytes())
	frameCheck[23] = 0x44 // 4 bytes of frame check sequence

	for _, c := range []struct {
		reason string
		data   []byte
		frames int
		ok     bool
	}{
		{"whole", whole.Bytes(), 2, true},
		{"the frame check sequence's length is not part of the link type", frameCheck, 2, true},
		{"nothing", nil, 0, false},
		{"not a pcap", []byte("GET / HTTP/1.1\r\n\r\n and so on"), 0, false},
		{"cut within a record: what came before is kept", whole.Bytes()[:whole.Len()-1], 1, false},
		{"a link type of 16 bits", otherLink, 0, false},
		{"a length that would ask for all memory", longer, 0, false},
		{"pcapng of another link type", ng(t, layers.LinkTypeRaw, Timeline(start, 0, []byte("x"))), 0, false},
		{"pcapng cut within a block", ng(t, layers.LinkTypeEthernet, Timeline(start, 0, []byte("x")))[:50], 0, false},
	} {
		t.Run(c.reason, func(t *testing.T) {
			frames, err := Read(bytes.NewReader(c.data))
			if len(frames) != c.frames || (err == nil) != c.ok {
				t.Errorf("%d frames, error %v", len(frames), err)
			}
		})
	}
	var refused NotEthernet
	if _, err := Read(bytes.NewReader(otherLink)); !errors.As(err, &refused) || refused.LinkType != 257 {
		t.Errorf("error %v, want link type 257 refused", err)
	}
}

func TestTimesThatPcapCannotHoldAreRefused(t *testing.T) {
	for _, at := range []time.Time{time.Unix(-1, 0), time.Unix(1<<32, 0)} {
		if err := Write(new(bytes.Buffer), []Frame{{At: at}}); err == nil {
			t.Errorf("%s was written", at)
		}
	}
	if err := Write(new(bytes.Buffer), []Frame{{At: time.Unix(1<<32-1, 0)}}); err != nil {
		t.Error(err)
	}
}

func FuzzRead(f *testing.F) {
	for _, name := range []string{"arkime-bigendian.pcap", "vxlan.pcap", "ndpi-tls_ech.pcapng"} {
		var buf bytes.Buffer
		file, err := Open(name)
		if err != nil {
			f.Fatal(err)
		}
		if _, err := buf.ReadFrom(file); err != nil {
			f.Fatal(err)
		}
		f.Add(buf.Bytes())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		frames, err := Read(bytes.NewReader(data))
		total := 0
		for _, frame := range frames {
			total += len(frame.Data)
			if frame.OrigLen < len(frame.Data) {
				t.Fatalf("%d bytes of %d", len(frame.Data), frame.OrigLen)
			}
		}
		if total > len(data) {
			t.Fatalf("%d bytes of frames from %d", total, len(data))
		}
		if err != nil {
			return
		}
		for _, frame := range frames {
			if s := frame.At.Unix(); s < 0 || s >= 1<<32 || len(frame.Data) > maxFrame {
				return // pcapng holds more than pcap
			}
		}
		var again bytes.Buffer
		if err := Write(&again, frames); err != nil {
			t.Fatal(err)
		}
		same(t, mustRead(t, again.Bytes()), frames)
	})
}

func ng(t testing.TB, link layers.LinkType, frames []Frame) []byte {
	t.Helper()
	var buf bytes.Buffer
	w, err := pcapgo.NewNgWriter(&buf, link)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range frames {
		info := gopacket.CaptureInfo{Timestamp: f.At, CaptureLength: len(f.Data), Length: f.OrigLen}
		if err := w.WritePacket(info, f.Data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func mustRead(t testing.TB, data []byte) []Frame {
	t.Helper()
	frames, err := Read(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return frames
}

func same(t testing.TB, got, want []Frame) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d frames, want %d", len(got), len(want))
	}
	for i := range want {
		if !got[i].At.Equal(want[i].At) || got[i].OrigLen != want[i].OrigLen || !bytes.Equal(got[i].Data, want[i].Data) {
			t.Errorf("frame %d: %v, want %v", i, got[i], want[i])
		}
	}
}
