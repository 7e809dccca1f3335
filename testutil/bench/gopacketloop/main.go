//go:build linux

// Command gopacketloop takes frames out of VXLAN as gopacket's own examples do, for the collector to be compared with.
//
//	gopacketloop [-parser] IN OUT       from one pcap file to another
//	gopacketloop [-parser] -live IF OUT from an interface, until SIGINT
//
// With -parser it decodes into layers that are used again, which is gopacket's fast way; else into new ones, which is
// the usual.
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "gopacketloop:", err)
		os.Exit(1)
	}
}

// source is what both kinds of handle can do.
type source interface {
	gopacket.PacketDataSource
	gopacket.ZeroCopyPacketDataSource
}

func run() error {
	live := flag.String("live", "", "interface to capture from")
	parser := flag.Bool("parser", false, "decode into layers that are used again")
	flag.Parse()
	if flag.NArg() != 2 && (*live == "" || flag.NArg() != 1) {
		flag.Usage()
		return errors.New("want IN OUT, or -live IF OUT")
	}
	file, err := os.Create(flag.Arg(flag.NArg() - 1))
	if err != nil {
		return err
	}
	buffered := bufio.NewWriterSize(file, 1<<20)
	out := pcapgo.NewWriterNanos(buffered)
	if err := out.WriteFileHeader(262144, layers.LinkTypeEthernet); err != nil {
		return err
	}
	l := &loop{out: out, fast: *parser}
	if *live != "" {
		err = l.capture(*live)
	} else {
		err = l.convert(flag.Arg(0))
	}
	return errors.Join(err, buffered.Flush(), file.Close())
}

type loop struct {
	out   *pcapgo.Writer
	fast  bool
	count atomic.Uint64

	mu sync.Mutex // held while a packet is written
}

// convert reads a file.
func (l *loop) convert(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	in, err := pcapgo.NewReader(bufio.NewReaderSize(file, 1<<20))
	if err != nil {
		return err
	}
	if err := l.follow(in); !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// capture reads an interface until SIGINT, and then until nothing more comes.
func (l *loop) capture(name string) error {
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	in, err := pcapgo.NewEthernetHandle(name)
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	go func() { failed <- l.follow(in) }()
	fmt.Println("READY")
	select {
	case err := <-failed:
		return err
	case <-interrupted:
	}
	for before := uint64(1); before != l.count.Load(); {
		before = l.count.Load()
		time.Sleep(200 * time.Millisecond)
	}
	l.mu.Lock() // and for good, for reading can't be interrupted
	return nil
}

func (l *loop) follow(in source) error {
	if l.fast {
		return l.parse(in)
	}
	packets := gopacket.NewPacketSource(in, layers.LayerTypeEthernet)
	packets.DecodeOptions = gopacket.DecodeOptions{Lazy: true, NoCopy: true}
	for {
		packet, err := packets.NextPacket()
		if err != nil {
			return err
		}
		if tunnel, ok := packet.Layer(layers.LayerTypeVXLAN).(*layers.VXLAN); ok {
			if err := l.write(packet.Metadata().CaptureInfo, tunnel.Payload); err != nil {
				return err
			}
		}
	}
}

func (l *loop) parse(in source) error {
	var (
		eth    layers.Ethernet
		ip4    layers.IPv4
		ip6    layers.IPv6
		udp    layers.UDP
		tunnel layers.VXLAN
		types  []gopacket.LayerType
	)
	parser := gopacket.NewDecodingLayerParser(layers.LayerTypeEthernet, &eth, &ip4, &ip6, &udp, decodeOnly{&tunnel})
	parser.IgnoreUnsupported = true
	for {
		data, info, err := in.ZeroCopyReadPacketData()
		if err != nil {
			return err
		}
		if err := parser.DecodeLayers(data, &types); err != nil || len(types) == 0 || types[len(types)-1] != layers.LayerTypeVXLAN {
			continue
		}
		if err := l.write(info, tunnel.Payload); err != nil {
			return err
		}
	}
}

// decodeOnly ends decoding at VXLAN: a second Ethernet header would be decoded over the first.
type decodeOnly struct{ *layers.VXLAN }

// NextLayerType implements gopacket.DecodingLayer.
func (decodeOnly) NextLayerType() gopacket.LayerType { return gopacket.LayerTypeZero }

func (l *loop) write(info gopacket.CaptureInfo, frame []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count.Add(1)
	info.CaptureLength, info.Length = len(frame), len(frame)
	return l.out.WritePacket(info, frame)
}
