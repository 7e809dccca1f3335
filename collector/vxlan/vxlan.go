// Package vxlan takes the mirrored frame out of a VXLAN datagram.
//
// Nothing here allocates or copies: frames are slices of the datagram they came in.
package vxlan

import (
	"encoding/binary"
	"errors"
)

// Port is the UDP port that VXLAN datagrams arrive on (IANA; RFC 7348, section 5).
const Port = 4789

// HeaderLen is the length of the VXLAN header: flags, 24 reserved bits, VNI, 8 reserved bits (RFC 7348, section 5).
const HeaderLen = 8

// flagI marks the VNI as valid (RFC 7348, section 5).
const flagI = 0x08

// etherHeaderLen is two addresses and a type (IEEE 802.3). A frame shorter than that is none.
const etherHeaderLen = 14

var (
	// ErrShort means that the datagram ends before its header and an Ethernet header do.
	ErrShort = errors.New("vxlan: datagram is too short for a header and an Ethernet frame")
	// ErrNoVNI means that the I flag is not set, so that the VNI field says nothing.
	ErrNoVNI = errors.New("vxlan: I flag is not set")
)

// Decap returns the frame inside a datagram, which begins with the VXLAN header, and the VNI it was sent under.
// Reserved bits are ignored, as RFC 7348 asks of a receiver.
func Decap(datagram []byte) (frame []byte, vni uint32, err error) {
	if len(datagram) < HeaderLen+etherHeaderLen {
		return nil, 0, ErrShort
	}
	if datagram[0]&flagI == 0 {
		return nil, 0, ErrNoVNI
	}
	return datagram[HeaderLen:], binary.BigEndian.Uint32(datagram[4:8]) >> 8, nil
}

// VNI reads a datagram's header alone, for frames that were cut so early that Decap takes them for none. ok is false
// without the I flag. The datagram is at least HeaderLen bytes long, as Outer and Unwrap leave it.
func VNI(datagram []byte) (vni uint32, ok bool) {
	h := (*[HeaderLen]byte)(datagram)
	return binary.BigEndian.Uint32(h[4:]) >> 8, h[0]&flagI != 0
}
