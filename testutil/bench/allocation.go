//go:build linux

package main

import (
	"fmt"
	"strings"
)

// gcEnvironment makes a Go program tell of each of its collections.
var gcEnvironment = []string{"GODEBUG=gctrace=1"}

// smallestAllocation is the smallest piece of Go's heap, in bytes (size classes of package runtime). Fewer bytes for
// each packet than this are no allocation for each packet.
const smallestAllocation = 8

// allocated is how many bytes a program has put on its heap, as far as the collections in its output tell: in
// "4->5->1 MB" of GODEBUG=gctrace=1 (documentation of package runtime) the heap had 4 when a collection began, 5 when
// it ended, and 1 of them was still in use. What came before `from` does not count.
func allocated(output string, from int) float64 {
	var megabytes, live float64
	at := 0
	for text := range strings.Lines(output) {
		at += len(text)
		fields := strings.Fields(text)
		if len(fields) < 3 || fields[0] != "gc" {
			continue
		}
		for i, field := range fields[:len(fields)-1] {
			var begin, end, left float64
			if n, _ := fmt.Sscanf(field, "%f->%f->%f", &begin, &end, &left); n != 3 || fields[i+1] != "MB," {
				continue
			}
			if at > from {
				megabytes += max(end-live, 0)
			}
			live = left
		}
	}
	return megabytes * (1 << 20)
}
