package asl

import "sync"

// turn lets one branch of an execution work at a time, in the order in which they ask. Branches give
// it away while they wait for a task or a timer, so they run concurrently where it matters and
// write the same history every time where it does not.
type turn struct {
	mu    sync.Mutex
	taken bool
	queue []chan struct{}
}

// ask queues the caller; the channel is closed when it is its turn.
func (t *turn) ask() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	mine := make(chan struct{})
	if t.taken {
		t.queue = append(t.queue, mine)
	} else {
		t.taken = true
		close(mine)
	}
	return mine
}

// give hands the turn to the next in the queue.
func (t *turn) give() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.queue) == 0 {
		t.taken = false
		return
	}
	close(t.queue[0])
	t.queue = t.queue[1:]
}

// yield lets everybody who is waiting go first.
func (t *turn) yield() {
	t.mu.Lock()
	if len(t.queue) == 0 {
		t.mu.Unlock()
		return
	}
	mine := make(chan struct{})
	close(t.queue[0])
	t.queue = append(t.queue[1:], mine)
	t.mu.Unlock()
	<-mine
}
