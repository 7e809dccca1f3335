package vxlan

import (
	"fmt"
	"testing"
)

func BenchmarkOuter(b *testing.B) {
	for _, row := range []struct {
		name  string
		frame []byte
	}{
		{"IPv4", outerFrame{}.bytes()},
		{"IPv4Tagged", outerFrame{tags: []uint16{0x8100}}.bytes()},
		{"IPv6", outerFrame{v6: true}.bytes()},
		{"GENEVE", outerFrame{geneve: typeIPv4}.bytes()},
	} {
		b.Run(row.name, func(b *testing.B) {
			var d Datagram
			for b.Loop() {
				if Outer(row.frame, &d) != None {
					b.Fatal("no datagram")
				}
			}
		})
	}
}

func BenchmarkChecksumOK(b *testing.B) {
	for _, size := range []int{64, 1400, 8900} {
		frame := outerFrame{inner: make([]byte, size), checksum: true}.bytes()
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			b.SetBytes(int64(len(frame)))
			for b.Loop() {
				if !ChecksumOK(frame) {
					b.Fatal("not right")
				}
			}
		})
	}
	b.Run("none", func(b *testing.B) {
		frame := outerFrame{}.bytes()
		for b.Loop() {
			if !ChecksumOK(frame) {
				b.Fatal("not right")
			}
		}
	})
}

func BenchmarkDecap(b *testing.B) {
	datagram := append([]byte{0x08, 0, 0, 0, 0, 0, 42, 0}, ipv4Frame(1500, 1500)...)
	for b.Loop() {
		if _, vni, err := Decap(datagram); err != nil || vni != 42 {
			b.Fatal("wrong answer")
		}
	}
}

func BenchmarkOrigLen(b *testing.B) {
	for _, row := range []struct {
		name  string
		frame []byte
	}{
		{"IPv4", ipv4Frame(1500, 200)},
		{"IPv6", ipv6Frame(1460, 200)},
		{"ARP", append(make([]byte, 12), append([]byte{0x08, 0x06}, make([]byte, 46)...)...)},
	} {
		b.Run(row.name, func(b *testing.B) {
			for b.Loop() {
				if OrigLen(row.frame) < len(row.frame) {
					b.Fatal("wrong answer")
				}
			}
		})
	}
}
