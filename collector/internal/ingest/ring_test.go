package ingest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"flashtap/collector/segment"
	"flashtap/collector/vxlan"
)

// The rings of these tests are filled as the kernel fills them (linux/if_packet.h, struct tpacket_block_desc), but by
// the test. Those of the kernel itself are in live_test.go.

// ringPacket is one packet of a ring.
type ringPacket struct {
	at     int64
	frame  []byte
	wire   int    // 0: as long as the frame
	status uint32 // besides TP_STATUS_USER
}

// newQueue makes a queue of blocks that belong to the kernel.
func newQueue(blocks int) *queue {
	memory := make([]byte, (blocks+1)*ringBlock)
	skip := -int(uintptr(unsafe.Pointer(&memory[0]))) & 7
	return &queue{fd: -1, blocks: blocks, memory: memory[skip : skip+blocks*ringBlock]}
}

// fill makes a block of packets and hands it over, as the kernel does. It returns those that did not fit.
func (q *queue) fill(block int, packets []ringPacket) []ringPacket {
	const headerLen = 48                               // of a block, as the kernel lays it out
	const macOffset = unix.SizeofTpacket3Hdr + 20 + 14 // behind struct sockaddr_ll, aligned for IP
	desc := (*unix.TpacketBlockDesc)(unsafe.Pointer(&q.memory[block*ringBlock]))
	header := (*unix.TpacketHdrV1)(unsafe.Pointer(&desc.Hdr[0]))
	at, last, n := headerLen, 0, 0
	for _, p := range packets {
		size := (macOffset + len(p.frame) + 15) &^ 15
		if at+size > ringBlock {
			break
		}
		h := (*unix.Tpacket3Hdr)(unsafe.Pointer(&q.memory[block*ringBlock+at]))
		*h = unix.Tpacket3Hdr{
			Next_offset: uint32(size), Sec: uint32(p.at / 1e9), Nsec: uint32(p.at % 1e9), Snaplen: uint32(len(p.frame)), Len: uint32(max(p.wire, len(p.frame))),
			Status: unix.TP_STATUS_USER | p.status, Mac: macOffset,
		}
		copy(q.memory[block*ringBlock+at+macOffset:], p.frame)
		last, at, n = at, at+size, n+1
	}
	if n > 0 {
		(*unix.Tpacket3Hdr)(unsafe.Pointer(&q.memory[block*ringBlock+last])).Next_offset = 0
	}
	header.Num_pkts, header.Offset_to_first_pkt = uint32(n), headerLen
	header.Block_status = unix.TP_STATUS_USER
	return packets[n:]
}

// outerFrame is a mirrored frame on the wire: Ethernet, IPv4, UDP without a checksum, VXLAN.
func outerFrame(vni uint32, inner []byte) []byte {
	f := make([]byte, 50, 50+len(inner))
	copy(f, []byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0x00, 0x45, 0})
	binary.BigEndian.PutUint16(f[16:], uint16(36+len(inner)))
	copy(f[22:], []byte{64, 17})
	copy(f[26:], suspect.AsSlice())
	copy(f[30:], []byte{10, 0, 0, 9})
	binary.BigEndian.PutUint16(f[34:], 54321)
	binary.BigEndian.PutUint16(f[36:], vxlan.Port)
	binary.BigEndian.PutUint16(f[38:], uint16(16+len(inner)))
	f[42] = 0x08
	binary.BigEndian.PutUint32(f[46:], vni<<8)
	return append(f, inner...)
}

func innerFrame(n, number int) []byte {
	f := make([]byte, n)
	copy(f, []byte{2, 0, 0, 0, 0, 4, 2, 0, 0, 0, 0, 3, 0x08, 0x00, 0x45, 0})
	binary.BigEndian.PutUint16(f[16:], uint16(n-14))
	copy(f[22:], []byte{64, 17})
	if n >= 50 {
		binary.BigEndian.PutUint64(f[42:], uint64(number))
	}
	return f
}

func numberOf(inner []byte) int { return int(binary.BigEndian.Uint64(inner[42:])) }

func newTestRing(queues ...*queue) *Ring {
	return &Ring{queues: queues, batch: make([]vxlan.Datagram, batchSize)}
}

func TestRingHandsOverWhatTheKernelPutIn(t *testing.T) {
	q := newQueue(4)
	var packets []ringPacket
	for i := range 5000 {
		packets = append(packets, ringPacket{at: 1e18 + int64(i), frame: outerFrame(vni, innerFrame(60+i%900, i))})
	}
	r := newTestRing(q)
	next, block := 0, 0
	for rest := packets; len(rest) > 0; block++ {
		rest = q.fill(block%4, rest)
		for {
			for _, q := range r.queues {
				q.release()
			}
			n := r.take()
			if n == 0 {
				break
			}
			for _, d := range r.batch[:n] {
				frame, _, err := vxlan.Decap(d.Payload)
				if err != nil || d.Fault != vxlan.None || numberOf(frame) != next || d.At != packets[next].at || d.Source != suspect.As16() || len(frame) != 60+next%900 {
					t.Fatalf("packet %d: %+v, %v", next, d, err)
				}
				next++
			}
		}
	}
	if next != len(packets) || block < 4 {
		t.Errorf("%d of %d packets in %d blocks", next, len(packets), block)
	}
}

func TestRingTellsFaults(t *testing.T) {
	good := outerFrame(vni, innerFrame(100, 1))
	damaged := bytes.Clone(good)
	binary.BigEndian.PutUint16(damaged[40:], 0x1234) // a UDP checksum, and not the right one
	fragment := bytes.Clone(good)
	fragment[20] |= 0x20
	tests := []struct {
		reason string
		packet ringPacket
		want   vxlan.Fault
	}{
		{"genuine", ringPacket{frame: good}, vxlan.None},
		{"longer than what the ring kept", ringPacket{frame: good[:120], wire: 150}, vxlan.Oversize},
		{"a wrong checksum", ringPacket{frame: damaged}, vxlan.BadChecksum},
		{"a checksum that the interface has verified", ringPacket{frame: damaged, status: unix.TP_STATUS_CSUM_VALID}, vxlan.None},
		{"a checksum that this machine would have made later", ringPacket{frame: damaged, status: unix.TP_STATUS_CSUMNOTREADY}, vxlan.None},
		{"a first fragment", ringPacket{frame: fragment}, vxlan.Fragment},
		{"no VXLAN header", ringPacket{frame: good[:45]}, vxlan.Malformed},
	}
	for _, test := range tests {
		t.Run(test.reason, func(t *testing.T) {
			q := newQueue(2)
			q.fill(0, []ringPacket{test.packet})
			r := newTestRing(q)
			if n := r.take(); n != 1 || r.batch[0].Fault != test.want {
				t.Errorf("%d packets, fault %d, want %d", n, r.batch[0].Fault, test.want)
			}
		})
	}
}

// Packets of several queues come out by their timestamps, whatever the kernel hands over first, and those of one queue
// in its order.
func TestQueuesAreMergedByTime(t *testing.T) {
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 1))
		count := 2 + random.IntN(3)
		queues := make([]*queue, count)
		waiting := make([][]ringPacket, count)
		blocks := make([]int, count)
		for i := range queues {
			queues[i] = newQueue(8)
		}
		now := time.Now().Add(-time.Minute).UnixNano() // long enough ago that nothing has to be waited for
		total := 500 + random.IntN(2000)
		for i := range total {
			now += int64(1 + random.IntN(1000)) // no two at once: those of different queues may come in any order
			q := random.IntN(count)
			waiting[q] = append(waiting[q], ringPacket{at: now, frame: outerFrame(vni, innerFrame(100, i))})
		}
		r := newTestRing(queues...)
		for i, q := range queues {
			for len(waiting[i]) > 0 && blocks[i] < 8 {
				n := min(1+random.IntN(300), len(waiting[i]))
				if rest := q.fill(blocks[i], waiting[i][:n]); len(rest) > 0 {
					t.Fatal("a block is too small for this test")
				}
				waiting[i] = waiting[i][n:]
				blocks[i]++
			}
		}
		var got []int
		for {
			for _, q := range r.queues {
				q.release()
			}
			n := r.take()
			if n == 0 {
				break
			}
			for _, d := range r.batch[:n] {
				frame, _, _ := vxlan.Decap(d.Payload)
				got = append(got, numberOf(frame))
			}
		}
		left := 0
		for _, w := range waiting {
			left += len(w)
		}
		if len(got)+left != total {
			t.Fatalf("seed %d: %d packets of %d, %d did not fit", seed, len(got), total, left)
		}
		if left > 0 {
			continue
		}
		for i, n := range got {
			if n != i {
				t.Fatalf("seed %d: packet %d came as number %d", seed, n, i)
			}
		}
	}
}

// A packet that is younger than what an empty queue may still hand over waits for that queue.
func TestAYoungPacketWaitsForTheOtherQueues(t *testing.T) {
	a, b := newQueue(2), newQueue(2)
	r := newTestRing(a, b)
	a.fill(0, []ringPacket{
		{at: time.Now().Add(-time.Hour).UnixNano(), frame: outerFrame(vni, innerFrame(100, 1))},
		{at: time.Now().Add(time.Hour).UnixNano(), frame: outerFrame(vni, innerFrame(100, 2))},
	})
	if n := r.take(); n != 1 {
		t.Errorf("%d packets, want the old one", n)
	}
	if n := r.take(); n != 0 {
		t.Errorf("%d packets, want none", n)
	}
	b.fill(0, []ringPacket{{at: time.Now().Add(2 * time.Hour).UnixNano(), frame: outerFrame(vni, innerFrame(100, 3))}})
	if n := r.take(); n != 1 {
		t.Errorf("%d packets, want the one that the other queue's is older than", n)
	}
}

func TestRingTakingAllocatesNothing(t *testing.T) {
	q := newQueue(2)
	r := newTestRing(q)
	packets := []ringPacket{{frame: outerFrame(vni, innerFrame(100, 1))}, {frame: outerFrame(vni, innerFrame(1400, 2))}}
	block := 0
	if allocs := testing.AllocsPerRun(100, func() {
		q.fill(block%2, packets)
		block++
		q.release()
		for r.take() > 0 {
			q.release()
		}
	}); allocs != 0 {
		t.Errorf("%v allocations a block, want 0", allocs)
	}
}

// BenchmarkPath is what a packet costs from the ring's memory into a file, without the kernel's part of receiving.
func BenchmarkPath(b *testing.B) {
	for _, size := range []int{64, 300, 1400, 8900} {
		for _, digest := range []bool{false, true} {
			b.Run(fmt.Sprintf("size=%d/sha256=%t", size, digest), func(b *testing.B) {
				q := newQueue(64)
				r := newTestRing(q)
				packets := make([]ringPacket, 10000)
				for i := range packets {
					packets[i] = ringPacket{at: 1e18 + int64(i), frame: outerFrame(vni, innerFrame(size, i))}
				}
				perBlock := 0
				for block := range 64 {
					perBlock = len(packets) - len(q.fill(block, packets))
				}
				w := segment.NewWriter(segment.Config{Dir: b.TempDir(), MaxBytes: 128 << 20, MaxAge: time.Hour, NoDigest: !digest})
				sink := NewSink(SinkConfig{VNI: vni, Writer: w, Room: func() int64 { return 1 << 40 }})
				ended := make(chan error, 1)
				go func() { ended <- w.Run(b.Context()) }()
				b.SetBytes(int64(size))
				b.ReportAllocs()
				b.ResetTimer()
				before := cpuTime(b)
				for done := 0; done < b.N; {
					q.release()
					n := r.take()
					if n == 0 { // the test is the kernel, too: everything again
						for block := range 64 {
							q.header(block).Block_status = unix.TP_STATUS_USER
						}
						continue
					}
					n = min(n, b.N-done)
					sink.Take(r.batch[:n])
					done += n
				}
				sink.Close()
				if err := <-ended; err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op")
				if t := sink.Tally(); t.Written != uint64(b.N) {
					b.Fatalf("%+v of %d, %d in a block", t, b.N, perBlock)
				}
			})
		}
	}
}

// cpuTime is what this process has used of all CPUs: on a busy machine, and with several goroutines, it says more than
// the clock.
func cpuTime(tb testing.TB) time.Duration {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
