// Package traffic makes numbered frames in VXLAN, of which every byte follows from a plan and the frame's number.
package traffic

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Plan says what traffic looks like. Whoever has it and a frame's number can make the frame again.
type Plan struct {
	Sizes []int  // bytes of the inner frames, in turn
	Flows int    // conversations, each with an outer source port of its own
	Burst int    // frames of one flow in a row
	VNI   uint32 // of the first flow
	VNIs  int    // how many; flows take them in turn
	TCP   bool   // neighbours in a flow are neighbours in one TCP stream, which GRO would merge; else UDP
	Run   uint8  // tells one run's frames from another's
	Outer Outer
}

// Outer is what carries the frames.
type Outer struct {
	SourceMAC, TargetMAC [6]byte
	Source, Target       netip.Addr // IPv4 without a UDP checksum, as mirrored traffic has; IPv6 with one
	VLAN                 uint16     // 802.1Q tag; 0: none
	Options              bool       // eight bytes of IPv4 options
}

// Bounds of a frame. The smallest has room for its stamp; the largest fits with every outer header into the 9001
// bytes of a jumbo interface on EC2.
const (
	MinUDP = 64
	MinTCP = 76
	Max    = 8945
)

// imix is the mix of 7 : 4 : 1 that is in general use, spread so that no size comes in one run.
var imix = []int{64, 64, 594, 64, 1518, 64, 594, 64, 594, 64, 594, 64}

// DefaultPlan is 64 flows of one VNI between the two ends of a rig.
func DefaultPlan() Plan {
	return Plan{
		Sizes: []int{1400}, Flows: 64, Burst: 1, VNI: 4242, VNIs: 1, Run: 1,
		Outer: Outer{
			SourceMAC: [6]byte{2, 0, 0, 0, 0, 1}, TargetMAC: [6]byte{2, 0, 0, 0, 0, 2},
			// A block for measurements (RFC 2544, section C.2.2).
			Source: netip.MustParseAddr("198.18.0.1"), Target: netip.MustParseAddr("198.18.0.2"),
		},
	}
}

// ParseSizes reads sizes as a person writes them: imix, one number, or several with commas between.
func ParseSizes(text string) ([]int, error) {
	if text == "imix" {
		return imix, nil
	}
	var sizes []int
	for field := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(field))
		if err != nil {
			return nil, fmt.Errorf("size %q: want imix, a number, or numbers with commas between", field)
		}
		sizes = append(sizes, n)
	}
	return sizes, nil
}

// Validate names everything that no frame could be made of.
func (p Plan) Validate() error {
	var errs []error
	smallest := MinUDP
	if p.TCP {
		smallest = MinTCP
	}
	if len(p.Sizes) == 0 {
		errs = append(errs, errors.New("no size of frames"))
	}
	for _, size := range p.Sizes {
		if size < smallest || size > Max {
			errs = append(errs, fmt.Errorf("frames of %d bytes: want %d to %d", size, smallest, Max))
		}
	}
	if p.Flows < 1 || p.Flows > 1<<14 || p.Burst < 1 {
		errs = append(errs, fmt.Errorf("%d flows in bursts of %d: want 1 to %d, and 1 or more", p.Flows, p.Burst, 1<<14))
	}
	if p.VNIs < 1 || uint64(p.VNI)+uint64(p.VNIs) > 1<<24 {
		errs = append(errs, fmt.Errorf("%d VNIs from %d: want 1 or more, of 24 bits", p.VNIs, p.VNI))
	}
	o := p.Outer
	if !o.Source.IsValid() || !o.Target.IsValid() || o.Source.Is4() != o.Target.Is4() {
		errs = append(errs, fmt.Errorf("from %s to %s: want two addresses of one family", o.Source, o.Target))
	}
	if o.Options && !o.Source.Is4() {
		errs = append(errs, errors.New("IPv4 options in IPv6"))
	}
	if o.VLAN > 4094 {
		errs = append(errs, fmt.Errorf("VLAN %d: want at most 4094", o.VLAN))
	}
	return errors.Join(errs...)
}

// MeanSize is how many bytes a frame has on average.
func (p Plan) MeanSize() float64 {
	sum := 0
	for _, size := range p.Sizes {
		sum += size
	}
	return float64(sum) / float64(max(len(p.Sizes), 1))
}
