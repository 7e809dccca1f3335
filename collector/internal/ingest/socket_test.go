package ingest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"flashtap/collector/vxlan"
)

// listen binds a socket to a free port of a loopback address.
func listen(t *testing.T, addr string, cfg SocketConfig) *Socket {
	t.Helper()
	s, err := Listen(netip.AddrPortFrom(netip.MustParseAddr(addr), 0), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// dial makes a sender with a source address of its own.
func dial(t *testing.T, from string, to netip.AddrPort) *net.UDPConn {
	t.Helper()
	local := net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(from), 0))
	conn, err := net.DialUDP("udp", local, net.UDPAddrFromAddrPort(to))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func send(t *testing.T, conn *net.UDPConn, payloads ...[]byte) {
	t.Helper()
	for _, p := range payloads {
		if _, err := conn.Write(p); err != nil {
			t.Fatal(err)
		}
	}
}

func numbered(i, n int) []byte {
	p := bytes.Repeat([]byte{byte(i)}, n)
	binary.BigEndian.PutUint32(p, uint32(i))
	return p
}

func TestSocketReceivesWhatWasSent(t *testing.T) {
	for _, test := range []struct{ reason, at, from string }{
		{"IPv4", "127.0.0.1", "127.9.8.7"},
		{"IPv6", "::1", "::1"},
	} {
		t.Run(test.reason, func(t *testing.T) {
			s := listen(t, test.at, SocketConfig{Batch: 8})
			sender := dial(t, test.from, s.Addr())
			before := time.Now()
			var want [][]byte
			for i := range 50 {
				want = append(want, numbered(i, 4+i*i))
			}
			send(t, sender, append(want, numbered(50, 65000))...)
			want = append(want, numbered(50, 65000))
			last := int64(0)
			for next := 0; next < len(want); {
				batch, err := s.Receive()
				if err != nil {
					t.Fatal(err)
				}
				for _, d := range batch {
					if !bytes.Equal(d.Payload, want[next]) || (d.Fault == vxlan.Oversize) {
						t.Fatalf("datagram %d: %d bytes, oversize %t", next, len(d.Payload), (d.Fault == vxlan.Oversize))
					}
					if d.Source != netip.MustParseAddr(test.from).As16() {
						t.Errorf("source %v, want %s", d.Source, test.from)
					}
					if at := time.Unix(0, d.At); at.Before(before.Add(-time.Second)) || at.After(time.Now()) || d.At < last {
						t.Errorf("datagram %d at %v, which is not between sending and now, or out of order", next, at)
					}
					last = d.At
					next++
				}
			}
		})
	}
}

func TestDatagramLongerThanTheBuffer(t *testing.T) {
	s := listen(t, "127.0.0.1", SocketConfig{BufferSize: 1000})
	send(t, dial(t, "127.0.0.1", s.Addr()), numbered(1, 1000), numbered(2, 1001), numbered(3, 10))
	var got []bool
	for len(got) < 3 {
		batch, err := s.Receive()
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range batch {
			got = append(got, (d.Fault == vxlan.Oversize))
			if len(d.Payload) > 1000 {
				t.Errorf("%d bytes out of a buffer of 1000", len(d.Payload))
			}
		}
	}
	if got[0] || !got[1] || got[2] {
		t.Errorf("oversize: %v, want the second alone", got)
	}
}

// What arrived before Stop is received to the last datagram; what comes later is not; and nobody who sends is told
// that the port is closed.
func TestStopIsASharpCut(t *testing.T) {
	for _, waiting := range []bool{false, true} {
		s := listen(t, "127.0.0.1", SocketConfig{Batch: 7})
		sender := dial(t, "127.0.0.1", s.Addr())
		received := make(chan int, 1)
		begin := make(chan struct{})
		go func() {
			<-begin
			n := 0
			for {
				batch, err := s.Receive()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Error(err)
					break
				}
				n += len(batch)
			}
			received <- n
		}()
		if waiting {
			close(begin)
			time.Sleep(10 * time.Millisecond) // Receive now waits in the poller
		}
		for i := range 100 {
			send(t, sender, numbered(i, 100))
		}
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
		for i := range 100 {
			send(t, sender, numbered(i, 100)) // an ICMP error would fail the next write
		}
		if !waiting {
			close(begin)
		}
		if n := <-received; n != 100 {
			t.Errorf("%d datagrams, want the 100 that were sent before the stop", n)
		}
		if _, err := s.Receive(); !errors.Is(err, io.EOF) {
			t.Errorf("after the end: %v", err)
		}
		if dropped, err := s.Dropped(); err != nil || dropped != 0 {
			t.Errorf("%d dropped (%v); what comes after the stop does not count", dropped, err)
		}
	}
}

func TestEveryDatagramIsReceivedOrDropped(t *testing.T) {
	s := listen(t, "127.0.0.1", SocketConfig{KernelQueue: 4096})
	if s.KernelQueue() > 1<<20 {
		t.Fatalf("the kernel queues %d bytes, far more than asked", s.KernelQueue())
	}
	sender := dial(t, "127.0.0.1", s.Addr())
	for i := range 1000 {
		send(t, sender, numbered(i, 500))
	}
	dropped, err := s.Dropped() // before a single one was received
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	n := 0
	for {
		batch, err := s.Receive()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		n += len(batch)
	}
	if dropped == 0 || n == 0 || uint64(n)+dropped != 1000 {
		t.Errorf("%d received and %d dropped, of 1000", n, dropped)
	}
}

func TestReceivingAllocatesNothing(t *testing.T) {
	s := listen(t, "127.0.0.1", SocketConfig{})
	sender := dial(t, "127.0.0.1", s.Addr())
	payload := numbered(1, 1000)
	allocs := testing.AllocsPerRun(50, func() {
		if _, err := sender.Write(payload); err != nil {
			t.Fatal(err)
		}
		if batch, err := s.Receive(); err != nil || len(batch) != 1 {
			t.Fatal(len(batch), err)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations a batch, want 0", allocs)
	}
}

func TestListenNamesTheAddress(t *testing.T) {
	taken := listen(t, "127.0.0.1", SocketConfig{})
	if _, err := Listen(taken.Addr(), SocketConfig{}); err == nil || !bytes.Contains([]byte(err.Error()), []byte(taken.Addr().String())) {
		t.Errorf("error %v, want one that names %v", err, taken.Addr())
	}
}

// collecting is a sink that counts.
type collecting struct {
	mu sync.Mutex
	n  int
}

func (c *collecting) Take(batch []Datagram) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n += len(batch)
}

func TestRunTakesFromAllReceiversUntilAskedToStop(t *testing.T) {
	first, second := listen(t, "127.0.0.1", SocketConfig{}), listen(t, "::1", SocketConfig{})
	sink := &collecting{}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, []Receiver{first, second}, sink) }()
	a, b := dial(t, "127.0.0.1", first.Addr()), dial(t, "::1", second.Addr())
	for i := range 100 {
		send(t, a, numbered(i, 50))
		send(t, b, numbered(i, 50))
	}
	stop()
	if err := <-ended; err != nil || sink.n != 200 {
		t.Errorf("%d datagrams, %v; want 200", sink.n, err)
	}
}

func TestRunEndsWithAReceiverThatFails(t *testing.T) {
	good, broken := listen(t, "127.0.0.1", SocketConfig{}), listen(t, "127.0.0.1", SocketConfig{})
	broken.Close()
	err := Run(t.Context(), []Receiver{good, broken}, &collecting{})
	if !errors.Is(err, net.ErrClosed) {
		t.Errorf("error %v", err)
	}
}
