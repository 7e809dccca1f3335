// Package packets makes, reads and writes the frames that tests and the demo send and expect.
package packets

import "time"

// Frame is one Ethernet frame of a recording.
type Frame struct {
	At   time.Time
	Data []byte
	// OrigLen is the length the frame had on the wire; it exceeds len(Data) when the recording cut the frame.
	OrigLen int
}

// Timeline dates frames: the first at start, each next one step later.
func Timeline(start time.Time, step time.Duration, frames ...[]byte) []Frame {
	out := make([]Frame, len(frames))
	for i, f := range frames {
		out[i] = Frame{At: start.Add(time.Duration(i) * step), Data: f, OrigLen: len(f)}
	}
	return out
}
