package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"flashtap/collector/pcapfile"
	"flashtap/collector/vxlan"
)

// decapTally says what has become of every record. All counts but Truncated and VNIs add up to Records.
type decapTally struct {
	In            string          `json:"in"`
	Out           string          `json:"out"`
	Complete      bool            `json:"complete"` // IN was read to its end, and OUT is written
	Records       uint64          `json:"records"`
	Written       uint64          `json:"written"`
	WrittenBytes  uint64          `json:"writtenBytes"` // of the frames
	Truncated     uint64          `json:"truncated"`    // of the frames written, those that IN holds only the beginning of
	ForeignVNI    uint64          `json:"foreignVni"`
	ForeignSource uint64          `json:"foreignSource"`
	NotVXLAN      notVXLAN        `json:"notVxlan"`
	Malformed     malformedCauses `json:"malformed"`
	Fragments     uint64          `json:"fragments"`
	Cut           uint64          `json:"cut"`       // IN holds so little of it that nobody can tell what it was
	VNIs          []vniCount      `json:"vnis"`      // of every frame, also of those that were not asked for
	OtherVNIs     uint64          `json:"otherVnis"` // frames of VNIs for which there was no room in VNIs

	census    census
	otherLink pcapfile.LinkType // one that is not Ethernet
}

// notVXLAN counts records that are something else, by what they are.
type notVXLAN struct {
	OtherLink   uint64 `json:"otherLink"` // captured on something that is not Ethernet
	NotIP       uint64 `json:"notIp"`
	NotUDP      uint64 `json:"notUdp"`
	OtherPort   uint64 `json:"otherPort"`
	OtherTunnel uint64 `json:"otherTunnel"` // GENEVE around something that is neither Ethernet nor IP
}

// malformedCauses counts records that are not what they claim to be.
type malformedCauses struct {
	Headers uint64 `json:"headers"` // of Ethernet, IP, UDP or GENEVE
	NoVNI   uint64 `json:"noVni"`   // the VXLAN header does not mark its VNI as valid
	Runt    uint64 `json:"runt"`    // the frame inside is shorter than an Ethernet header
}

// vniCount is how many frames came under a VNI.
type vniCount struct {
	VNI    uint32 `json:"vni"`
	Frames uint64 `json:"frames"`
}

// miss counts a record in which no datagram was found. One that IN holds only the beginning of may have been one.
func (t *decapTally) miss(miss vxlan.Miss, cut bool) {
	switch miss {
	case vxlan.NotIP:
		t.NotVXLAN.NotIP++
	case vxlan.NotUDP:
		t.NotVXLAN.NotUDP++
	case vxlan.OtherPort:
		t.NotVXLAN.OtherPort++
	case vxlan.OtherTunnel:
		t.NotVXLAN.OtherTunnel++
	case vxlan.Fragmented:
		t.Fragments++
	case vxlan.Short:
		if cut {
			t.Cut++
			return
		}
		t.Malformed.Headers++
	default:
		t.Malformed.Headers++
	}
}

// close counts the VNIs.
func (t *decapTally) close() {
	t.VNIs, t.OtherVNIs = t.census.list(), t.census.others
}

func (t decapTally) text() string {
	var b strings.Builder
	field := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-10s %s\n", name, fmt.Sprintf(format, args...))
	}
	field("read", "%s of %s", countOf(t.Records, "record"), t.In)
	written := fmt.Sprintf("%s, %s, to %s", countOf(t.Written, "frame"), sizeText(t.WrittenBytes), t.Out)
	if t.Truncated > 0 {
		written += fmt.Sprintf("; of %s IN holds only the beginning", countText(t.Truncated))
	}
	field("written", "%s", written)
	name := "left out"
	for _, fate := range t.leftOut() {
		if fate.count > 0 {
			field(name, "%s %s", countText(fate.count), fate.says)
			name = ""
		}
	}
	if len(t.VNIs) > 0 {
		field("VNIs", "%s", t.vniText())
	}
	return b.String()
}

// fate is what became of records that were not written.
type fate struct {
	count uint64
	says  string
}

func (t decapTally) leftOut() []fate {
	return []fate{
		{t.ForeignVNI, "of another VNI"},
		{t.ForeignSource, "of another source"},
		{t.NotVXLAN.OtherPort, "UDP to another port"},
		{t.NotVXLAN.NotUDP, "not UDP"},
		{t.NotVXLAN.NotIP, "not IP"},
		{t.NotVXLAN.OtherTunnel, "GENEVE around something that is no packet"},
		{t.NotVXLAN.OtherLink, "captured on " + t.otherLink.String() + ", not on Ethernet"},
		{t.Fragments, "fragments of IP packets"},
		{t.Malformed.Headers, "with headers that are not sound"},
		{t.Malformed.NoVNI, "without a valid VNI"},
		{t.Malformed.Runt, "with something inside that is too short for a frame"},
		{t.Cut, "of which IN does not hold all headers"},
	}
}

// vniText lists the VNIs with most frames.
func (t decapTally) vniText() string {
	const most = 8
	var parts []string
	byFrames := slices.Clone(t.VNIs)
	slices.SortStableFunc(byFrames, func(a, b vniCount) int { return cmp.Compare(b.Frames, a.Frames) })
	others := t.OtherVNIs
	for i, v := range byFrames {
		if i >= most {
			others += v.Frames
			continue
		}
		parts = append(parts, fmt.Sprintf("%d: %s", v.VNI, countOf(v.Frames, "frame")))
	}
	if others > 0 {
		parts = append(parts, "others: "+countOf(others, "frame"))
	}
	return strings.Join(parts, ", ")
}

// census counts frames by VNI in memory that does not grow: the first censusLimit VNIs each, all others together.
type census struct {
	slots  [censusSlots]vniCount // an open hash table; without frames: free
	used   int
	others uint64
}

const (
	censusSlots = 512 // a power of 2
	censusLimit = censusSlots / 2
)

func (c *census) count(vni uint32) {
	const spread = 0x9e3779b1 // 2^32 divided by the golden ratio: Knuth's multiplicative hashing
	for i := vni * spread >> 23; ; i++ {
		slot := &c.slots[i%censusSlots]
		if slot.Frames == 0 {
			if c.used == censusLimit {
				c.others++
				return
			}
			c.used++
			slot.VNI = vni
		}
		if slot.VNI == vni {
			slot.Frames++
			return
		}
	}
}

// list is every VNI counted, in order.
func (c *census) list() []vniCount {
	list := []vniCount{}
	for _, slot := range c.slots {
		if slot.Frames > 0 {
			list = append(list, slot)
		}
	}
	slices.SortFunc(list, func(a, b vniCount) int { return cmp.Compare(a.VNI, b.VNI) })
	return list
}
