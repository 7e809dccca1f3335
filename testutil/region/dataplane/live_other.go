//go:build !linux

package dataplane

import (
	"context"
	"errors"
)

var errNotLinux = errors.New("packets of a live interface need AF_PACKET, which only Linux has")

// Live gives the packets of an interface on Linux.
type Live struct{}

// OpenLive refuses: replays work everywhere.
func OpenLive(LiveConfig) (*Live, error) { return nil, errNotLinux }

// Next refuses.
func (*Live) Next(context.Context) (Packet, error) { return Packet{}, errNotLinux }

// Dropped is always 0.
func (*Live) Dropped() (uint64, error) { return 0, nil }

// Close does nothing.
func (*Live) Close() error { return nil }
