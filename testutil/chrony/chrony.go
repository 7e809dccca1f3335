// Package chrony answers questions about the clock as chronyd does, which need not run where tests do.
package chrony

import (
	"encoding/binary"
	"fmt"
	"math"
	"net"
)

// State is what an answer to "tracking" says.
type State struct {
	RefID          uint32
	Family         uint16 // of the address; 1: IPv4, 2: IPv6
	Address        net.IP
	Stratum, Leap  uint16
	Correction     float64 // seconds; positive when the clock is slow
	Delay, Spread  float64 // of the root: delay and dispersion, in seconds
	Status, Answer uint16  // 0: success, and to the question
}

// Bytes is the answer (chrony's candm.h, version 6). Its sequence number is 0.
func (s State) Bytes() []byte {
	b := []byte{6, 2, 0, 0}
	u16 := func(v ...uint16) {
		for _, v := range v {
			b = binary.BigEndian.AppendUint16(b, v)
		}
	}
	u32 := func(v ...uint32) {
		for _, v := range v {
			b = binary.BigEndian.AppendUint32(b, v)
		}
	}
	if s.Answer == 0 {
		s.Answer = 5
	}
	u16(33, s.Answer, s.Status, 0, 0, 0)
	u32(0, 0, 0) // sequence and padding
	u32(s.RefID)
	address := make([]byte, 16)
	copy(address, s.Address)
	b = append(b, address...)
	u16(s.Family, 0, s.Stratum, s.Leap)
	u32(0, 1_795_311_845, 0) // when it was last measured
	u32(float(s.Correction), float(1e-6), float(2e-6), float(-3), float(0), float(0.01), float(s.Delay), float(s.Spread), float(64))
	return b
}

// float is a number as chrony sends it: 7 bits of exponent, 25 of coefficient (candm.h, "Float").
func float(x float64) uint32 {
	if x == 0 {
		return 0
	}
	fraction, exponent := math.Frexp(x) // 0.5 <= |fraction| < 1
	return uint32(exponent+1)<<25 | uint32(int32(math.Round(fraction*(1<<24))))&(1<<25-1)
}

// Serve answers questions until the socket is closed; each gets what answers returns, with its own sequence number where
// that is 0. It returns an error when it is asked anything but for "tracking".
func Serve(conn net.PacketConn, answers func() [][]byte) error {
	question := make([]byte, 1024)
	for {
		n, from, err := conn.ReadFrom(question)
		if err != nil {
			return nil // closed
		}
		// Version 6, a request, command 33; chronyd refuses one that is shorter than the answer.
		if n < 104 || question[0] != 6 || question[1] != 1 || binary.BigEndian.Uint16(question[4:]) != 33 {
			return fmt.Errorf("asked % x", question[:n])
		}
		for _, answer := range answers() {
			if len(answer) >= 20 && binary.BigEndian.Uint32(answer[16:]) == 0 {
				copy(answer[16:20], question[8:12])
			}
			if _, err := conn.WriteTo(answer, from); err != nil {
				return fmt.Errorf("answer: %w", err)
			}
		}
	}
}
