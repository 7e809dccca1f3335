package vxlan

import (
	"encoding/binary"
	"math/bits"
)

// ChecksumOK verifies the UDP checksum of a frame in which Outer finds a datagram, and those of both UDP headers when
// the datagram came inside GENEVE. It is true when there is nothing to verify: a checksum of 0 means that the sender
// made none (RFC 768), which tunnels may do over IPv6 as well (RFC 6935, RFC 6936), and of a datagram whose end is
// missing none can be made. It reads the whole datagram, so a caller asks only when nobody else has verified it.
func ChecksumOK(frame []byte) bool {
	// The plainest frame without a checksum, which is what VXLAN senders are told to make (RFC 7348, section 5).
	if len(frame) >= plainHeaderLen {
		h := (*[plainHeaderLen]byte)(frame)
		if binary.LittleEndian.Uint32(h[12:])&plainTypeMask == plainType && h[23] == protocolUDP &&
			binary.LittleEndian.Uint16(h[40:]) == 0 && h[36] != GenevePort>>8 {
			return true
		}
	}
	return checksumOK(frame)
}

func checksumOK(frame []byte) bool {
	at, etherType, ok := networkHeader(frame)
	for inside := false; ok; inside = true {
		udp, end, miss := transport(frame, at, etherType, len(frame))
		if miss != Found || len(frame) < udp+udpHeaderLen {
			return true
		}
		if !datagramOK(frame, at, etherType, udp) {
			return false
		}
		if inside || binary.BigEndian.Uint16(frame[udp+2:]) != GenevePort {
			return true
		}
		if end, ok = datagramEnd(frame, udp, end); !ok || len(frame) < udp+udpHeaderLen+geneveHeaderLen {
			return true
		}
		if at, etherType, miss = geneve(frame, udp+udpHeaderLen, end); miss != Found {
			return true
		}
		frame = frame[:end] // what follows is padding
		if etherType == typeTransEther {
			frame = frame[at:]
			at, etherType, ok = networkHeader(frame)
		}
	}
	return true
}

// datagramOK verifies the checksum of the UDP header at udp, which belongs to the IP header at ip. Behind an IPv6 routing
// header the destination counts as the last one: only its owner gets to see VXLAN.
func datagramOK(frame []byte, ip int, etherType uint16, udp int) bool {
	if binary.LittleEndian.Uint16(frame[udp+6:]) == 0 {
		return true
	}
	end := len(frame)
	var addresses []byte
	if etherType == typeIPv4 {
		if total := int(binary.BigEndian.Uint16(frame[ip+2:])); total != 0 {
			end = ip + total
		}
		addresses = frame[ip+12 : ip+20]
	} else {
		if payload := int(binary.BigEndian.Uint16(frame[ip+4:])); payload != 0 {
			end = ip + ipv6HeaderLen + payload
		}
		addresses = frame[ip+8 : ip+40]
	}
	if end > len(frame) || end < udp+udpHeaderLen {
		return true
	}
	length := int(binary.BigEndian.Uint16(frame[udp+4:]))
	if length == 0 {
		length = end - udp // RFC 2675, section 4, says it of jumbograms
	}
	end = min(end, udp+length)
	if end < udp+udpHeaderLen {
		return true // shorter than its own header: Outer takes no such datagram
	}
	// The pseudo header (RFC 768; RFC 8200, section 8.1): addresses, protocol, length. The sum is made of words as a
	// little-endian machine loads them, and of words with their bytes swapped the sum has its bytes swapped (RFC 1071,
	// section 2).
	sum := uint64(bits.ReverseBytes16(protocolUDP)) + uint64(bits.ReverseBytes32(uint32(length)))
	sum = onesSum(addresses, sum)
	return foldSum(onesSum(frame[udp:end], sum)) == 0xffff
}

// onesSum adds the one's complement sum of data's 16-bit words to sum; words of 64 bits make the same sum after foldSum
// (RFC 1071, section 2).
func onesSum(data []byte, sum uint64) uint64 {
	var carry uint64
	for len(data) >= 64 {
		w := (*[64]byte)(data)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(w[0:]), 0)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(w[8:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(w[16:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(w[24:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(w[32:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(w[40:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(w[48:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(w[56:]), carry)
		sum, carry = bits.Add64(sum, 0, carry)
		sum += carry
		data = data[64:]
	}
	for len(data) >= 8 {
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(data), 0)
		sum, _ = bits.Add64(sum, 0, carry)
		data = data[8:]
	}
	if len(data) > 0 {
		var last [8]byte
		copy(last[:], data)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(last[:]), 0)
		sum, _ = bits.Add64(sum, 0, carry)
	}
	return sum
}

// foldSum makes 16 bits of a sum of 64.
func foldSum(sum uint64) uint16 {
	sum = sum>>32 + sum&0xffff_ffff
	sum = sum>>32 + sum&0xffff_ffff
	sum = sum>>16 + sum&0xffff
	sum = sum>>16 + sum&0xffff
	return uint16(sum>>16 + sum)
}
