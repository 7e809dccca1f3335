package segment

import (
	"sync"
	"time"
	"unsafe"
)

// pool is a fixed number of buffers. The one that was used last is the first to be used again: it is still in the
// CPU's cache.
type pool struct {
	mu     sync.Mutex
	cond   sync.Cond
	free   []*buffer
	closed bool
	stalls uint64
	waited time.Duration
}

func newPool(count, size int) *pool {
	p := &pool{free: make([]*buffer, 0, count)}
	p.cond.L = &p.mu
	for range count {
		p.free = append(p.free, &buffer{memory: alignedMemory(size + page)})
	}
	return p
}

// alignedMemory begins at a page.
func alignedMemory(size int) []byte {
	memory := make([]byte, size+page)
	skip := -int(uintptr(unsafe.Pointer(&memory[0]))) & (page - 1)
	return memory[skip : skip+size]
}

// take waits for a buffer; nil when the pool was closed and has none.
func (p *pool) take() *buffer {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.free) == 0 && !p.closed {
		began := time.Now()
		for len(p.free) == 0 && !p.closed {
			p.cond.Wait()
		}
		p.stalls++
		p.waited += time.Since(began)
	}
	if len(p.free) == 0 {
		return nil
	}
	b := p.free[len(p.free)-1]
	p.free = p.free[:len(p.free)-1]
	return b
}

// give returns a buffer, which is empty from then on.
func (p *pool) give(b *buffer) {
	b.data, b.holds, b.last = nil, contents{}, false
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free = append(p.free, b)
	p.cond.Signal()
}

// close ends all waiting: the disk gets no more time.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.cond.Broadcast()
}

func (p *pool) stalled() (uint64, time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stalls, p.waited
}
