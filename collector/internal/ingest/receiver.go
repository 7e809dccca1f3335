// Package ingest takes mirrored datagrams from the network and admits the frames of one session to the evidence.
package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"flashtap/collector/vxlan"
)

// Datagram is one VXLAN datagram as it came off the wire.
type Datagram = vxlan.Datagram

// Receiver brings datagrams in batches. Receive is called by one goroutine; the other methods by any.
type Receiver interface {
	// Receive waits for datagrams and returns those there are. They are valid until the next call. After Stop it
	// returns what had come before, batch by batch, and then io.EOF.
	Receive() ([]Datagram, error)

	// Stop lets nothing new in: what arrives later is not part of the capture. The receiver goes on to hold its port,
	// so that the machine does not answer the suspect with ICMP errors.
	Stop() error

	// Dropped is how many datagrams the kernel has dropped before Stop because nobody took them in time.
	Dropped() (uint64, error)

	Close() error
}

// taker is who a batch is for.
type taker interface {
	Take(batch []Datagram)
}

// Run moves batches from all receivers to the sink until ctx ends. It then stops the receivers, takes what they still
// hold, and returns. An error of a receiver ends all.
func Run(ctx context.Context, receivers []Receiver, sink taker) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		group sync.WaitGroup
		mu    sync.Mutex
		errs  []error
	)
	fail := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		errs = append(errs, err)
		cancel()
	}
	for _, r := range receivers {
		group.Go(func() {
			for {
				batch, err := r.Receive()
				if errors.Is(err, io.EOF) {
					return
				}
				if err != nil {
					fail(fmt.Errorf("receive: %w", err))
					return
				}
				sink.Take(batch)
			}
		})
	}
	<-ctx.Done()
	for _, r := range receivers {
		if err := r.Stop(); err != nil {
			fail(fmt.Errorf("stop receiving: %w", err))
		}
	}
	group.Wait()
	return errors.Join(errs...)
}
