package deployment

import (
	"errors"
	"fmt"
	"net"
	"time"
)

// network is a block of loopback addresses that only one scene on this machine uses at a time: every collector binds
// UDP port 4789 of an address in it.
type network struct {
	block int // the second byte of 127.<block>.0.0/16
	hold  []net.PacketConn
}

// The blocks to choose from, and the port whose binding reserves one.
const (
	firstBlock, lastBlock = 16, 250
	reservationPort       = 4788
)

// reserve takes a free block. With ipv6 it also takes ::1, of which there is only one, and waits for it.
func reserve(ipv6 bool, patience time.Duration) (network, error) {
	var n network
	for block := firstBlock; block <= lastBlock; block++ {
		conn, err := net.ListenPacket("udp4", fmt.Sprintf("127.%d.255.254:%d", block, reservationPort))
		if err != nil {
			continue
		}
		n.block, n.hold = block, append(n.hold, conn)
		break
	}
	if n.hold == nil {
		return n, errors.New("no block of loopback addresses is free: many scenes run on this machine")
	}
	for deadline := time.Now().Add(patience); ipv6; time.Sleep(100 * time.Millisecond) {
		conn, err := net.ListenPacket("udp6", fmt.Sprintf("[::1]:%d", reservationPort))
		if err == nil {
			n.hold = append(n.hold, conn)
			break
		}
		if time.Now().After(deadline) {
			return n, errors.Join(fmt.Errorf("another scene uses ::1: %w", err), n.release())
		}
	}
	return n, nil
}

func (n network) vpc() string     { return fmt.Sprintf("127.%d.0.0/16", n.block) }
func (n network) subnet() string  { return fmt.Sprintf("127.%d.1.0/24", n.block) }
func (n network) suspect() string { return fmt.Sprintf("127.%d.1.10", n.block) }

func (n network) release() error {
	var errs []error
	for _, conn := range n.hold {
		errs = append(errs, conn.Close())
	}
	return errors.Join(errs...)
}
