package dataplane

import (
	"errors"
	"net/netip"
	"testing"

	"flashtap/testutil/packets"
)

var (
	suspect   = packets.NewHost("10.0.1.10")
	suspect6  = packets.NewHost("2001:db8:1::10")
	internet  = packets.NewHost("192.0.2.7")
	internet6 = packets.NewHost("2001:db8:2::7")
	resolver  = packets.NewHost("10.0.0.2")

	any4 = netip.MustParsePrefix("0.0.0.0/0")
	any6 = netip.MustParsePrefix("::/0")
	vpc  = netip.MustParsePrefix("10.0.0.0/16")
)

// FuzzSourcePort: whatever a frame holds, its copy leaves from a port that RFC 7348, section 5, recommends.
func FuzzSourcePort(f *testing.F) {
	for _, name := range packets.Names() {
		frames, err := packets.Load(name)
		if notEthernet := (packets.NotEthernet{}); err != nil && !errors.As(err, &notEthernet) {
			f.Fatal(err)
		}
		for _, frame := range frames[:min(3, len(frames))] {
			f.Add(frame.Data)
		}
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		if port := SourcePort(frame); port < 49152 {
			t.Fatalf("source port %d", port)
		}
	})
}
