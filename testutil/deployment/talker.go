package deployment

import (
	"net/netip"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"flashtap/testutil/packets"
)

// Talker guesses who the suspect in a recording is: the private address that most frames are from or to; when none is
// private, the address that most are from or to.
func Talker(frames []packets.Frame) netip.Addr {
	count := map[netip.Addr]int{}
	for _, f := range frames {
		for _, a := range addresses(f.Data) {
			if !a.IsMulticast() && !a.IsUnspecified() && a != netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
				count[a]++
			}
		}
	}
	var best netip.Addr
	for a := range count {
		if !best.IsValid() || more(a, best, count) {
			best = a
		}
	}
	return best
}

func more(a, b netip.Addr, count map[netip.Addr]int) bool {
	if a.IsPrivate() != b.IsPrivate() {
		return a.IsPrivate()
	}
	if count[a] != count[b] {
		return count[a] > count[b]
	}
	return a.Less(b)
}

// addresses are those of a frame's outermost IP header.
func addresses(frame []byte) []netip.Addr {
	packet := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.DecodeOptions{Lazy: true, NoCopy: true})
	network := packet.NetworkLayer()
	if network == nil {
		return nil
	}
	var list []netip.Addr
	for _, end := range []gopacket.Endpoint{network.NetworkFlow().Src(), network.NetworkFlow().Dst()} {
		if a, ok := netip.AddrFromSlice(end.Raw()); ok {
			list = append(list, a)
		}
	}
	return list
}
