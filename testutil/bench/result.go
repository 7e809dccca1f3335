//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"flashtap/testutil/bench/send"
	"flashtap/testutil/bench/verify"
)

// The experiments.
const (
	experimentMachine  = "machine"
	experimentLive     = "live"     // capture of a load, which ends when the collector has gone quiet
	experimentStop     = "stop"     // the same, but the collector is stopped with the last packet
	experimentAllocate = "allocate" // live, with the garbage collector's own account
	experimentSearch   = "search"   // one probe of a rate
	experimentLossless = "lossless" // what a search has found
	experimentOffline  = "offline"  // from file to file
	experimentPipeline = "pipeline" // capture and upload
	experimentSoak     = "soak"
	experimentShare    = "share"    // live, at a share of the highest rate of another
	experimentEvidence = "evidence" // verification of a capture in a folder
)

// Result is one run of one collector, a line of the raw results. What an experiment does not measure is left out.
type Result struct {
	Experiment string    `json:"experiment"`
	At         time.Time `json:"at"`
	Collector  string    `json:"collector,omitempty"`
	Load       string    `json:"load,omitempty"`
	Rate       float64   `json:"rate,omitempty"` // packets a second that were to be offered; 0: saturation
	Round      int       `json:"round,omitempty"`

	Machine *Machine        `json:"machine,omitempty"`
	Send    *send.Result    `json:"send,omitempty"`
	Verdict *verify.Verdict `json:"verdict,omitempty"`

	App      float64 `json:"appNs,omitempty"`     // CPU of the collector for each packet that it kept
	Kernel   float64 `json:"kernelNs,omitempty"`  // CPU of the kernel's receiving thread for each packet that was sent
	Total    float64 `json:"totalNs,omitempty"`   // the sum
	Wait     float64 `json:"wait,omitempty"`      // how long both stood in line for their CPU, as a share of the time of sending
	Kept     float64 `json:"keptPps,omitempty"`   // packets kept for each second of sending
	Memory   int64   `json:"memory,omitempty"`    // most resident bytes
	PerByte  float64 `json:"perByteNs,omitempty"` // total CPU for each byte of frames
	PerByteA float64 `json:"appPerByteNs,omitempty"`
	Elapsed  float64 `json:"elapsedNs,omitempty"` // by the clock, for each byte of files

	Allocated float64 `json:"allocated,omitempty"`   // bytes on the heap for each packet
	Lossless  float64 `json:"losslessPps,omitempty"` // highest rate without loss
	Open      bool    `json:"open,omitempty"`        // Lossless: the search ended at its upper bound

	Samples []sample `json:"samples,omitempty"`
	Said    string   `json:"said,omitempty"` // the collector's last words
	Err     string   `json:"err,omitempty"`
}

// lost says whether packets are missing that were offered, or whether what is there is no good.
func (r Result) lost() bool {
	return r.Err != "" || r.Verdict != nil && (!r.Verdict.Whole() || r.Send != nil && r.Send.Refused > 0)
}

// loss is the share of the offered packets that was not kept.
func (r Result) loss() float64 {
	if r.Verdict == nil || r.Send == nil || r.Send.Offered() == 0 {
		return 0
	}
	return float64(r.Verdict.Lost) / float64(r.Send.Offered())
}

// results are many runs.
type results []Result

// of selects the runs of one experiment, and of one collector with one load, if these are not empty.
func (rs results) of(experiment, collector, load string) results {
	var out results
	for _, r := range rs {
		if r.Experiment == experiment && (collector == "" || r.Collector == collector) && (load == "" || r.Load == load) {
			out = append(out, r)
		}
	}
	return out
}

// sound are the runs that gave figures.
func (rs results) sound() results {
	return slices.DeleteFunc(slices.Clone(rs), func(r Result) bool { return r.Err != "" })
}

// median is the middle of a figure over the runs that gave any; false without one.
func (rs results) median(figure func(Result) float64) (float64, bool) {
	var all []float64
	for _, r := range rs.sound() {
		all = append(all, figure(r))
	}
	return median(all)
}

func median(all []float64) (float64, bool) {
	if len(all) == 0 {
		return 0, false
	}
	all = slices.Sorted(slices.Values(all))
	return (all[len(all)/2] + all[(len(all)-1)/2]) / 2, true
}

// losing are the runs that lost or spoiled something.
func (rs results) losing() results {
	return slices.DeleteFunc(slices.Clone(rs), func(r Result) bool { return !r.lost() })
}

// ledger keeps the results of a run, and writes them down as they come.
type ledger struct {
	mu   sync.Mutex
	all  results
	file *os.File // nil: nobody asked
}

func (l *ledger) add(r Result) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	r.At = time.Now().UTC()
	l.all = append(l.all, r)
	if l.file == nil {
		return nil
	}
	return json.NewEncoder(l.file).Encode(r)
}

// openLedger makes a ledger; path is where the raw results are appended to, empty for nowhere.
func openLedger(path string) (*ledger, error) {
	l := &ledger{}
	if path == "" {
		return l, nil
	}
	var err error
	l.file, err = os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	return l, err
}

func (l *ledger) close() error {
	if l.file == nil {
		return nil
	}
	return l.file.Close()
}

// readResults reads what ledgers have written: of each file the last run, or everything as if it were one.
func readResults(paths []string, everything bool) (all results, err error) {
	for _, path := range paths {
		rs, err := readLedger(path)
		if err != nil {
			return nil, fmt.Errorf("read results of %s: %w", path, err)
		}
		last := 0
		for i, r := range rs {
			if r.Experiment == experimentMachine && !everything {
				last = i
			}
		}
		all = append(all, rs[last:]...)
	}
	return all, nil
}

func readLedger(path string) (rs results, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 16<<20)
	for n := 1; lines.Scan(); n++ {
		var r Result
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		rs = append(rs, r)
	}
	return rs, lines.Err()
}
