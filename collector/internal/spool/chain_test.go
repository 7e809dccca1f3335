package spool

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"flashtap/events"
)

// The link of a record, as docs/evidence.md has it, from the bytes that are digested.
func TestLink(t *testing.T) {
	seg := events.Segment{
		Seq: 2, Key: "captures/c/collectors/u/segments/000002-ab.pcap", SHA256: "ab", Bytes: 9007199254740991, Packets: 10, Truncated: 3,
		First: time.Date(2026, 11, 22, 3, 4, 5, 120_000_000, time.UTC), Last: time.Date(2026, 11, 22, 3, 4, 6, 0, time.UTC),
		Confirmed: true, Recovered: true, Previous: "cd",
	}
	var c chain
	c.join(seg)
	const want = `{"bytes":9007199254740991,"first":"2026-11-22T03:04:05.12Z","key":"captures/c/collectors/u/segments/000002-ab.pcap","last":"2026-11-22T03:04:06Z","packets":10,"previous":"cd","recovered":true,"seq":2,"sha256":"ab","truncated":3}`
	if got, err := canonical(c.tail); err != nil || string(got) != want {
		t.Errorf("digested is\n%s, want\n%s, %v", got, want, err)
	}
	const digest = "4de611ef5f13d6dbaf24f87ca481c91728047cf8b457050de4213470877c918f" // sha256sum of it
	if got, err := c.link(); err != nil || got != digest {
		t.Errorf("link %s, want %s, %v", got, digest, err)
	}
}

// byHand makes the canonical form of a record without the library that the spool uses. Records are ASCII, and their
// numbers whole.
func byHand(t *testing.T, record any) []byte {
	t.Helper()
	data, err := json.Marshal(record)
	if err != nil {
		t.Fatal(err)
	}
	return sorted(t, data)
}

func sorted(t *testing.T, data []byte) []byte {
	t.Helper()
	var v any
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n"))
}

func linkOf(t *testing.T, seg events.Segment) string {
	t.Helper()
	seg.Confirmed = false
	return digestOf(byHand(t, seg))
}

// lastLink follows records that are a chain, in order.
func lastLink(t *testing.T, records []events.Segment) (link string) {
	t.Helper()
	for i, r := range records {
		if r.Previous != link {
			t.Errorf("record %d, of segment %d, names %s, not %s", i, r.Seq, r.Previous, link)
		}
		link = linkOf(t, r)
	}
	return link
}

// inOrder puts the records of a manifest in the order of their chain.
func inOrder(t *testing.T, segments, superseded []events.Segment) (records []events.Segment) {
	t.Helper()
	after := map[string]events.Segment{}
	for _, r := range slices.Concat(segments, superseded) {
		if other, twice := after[r.Previous]; twice {
			t.Errorf("%+v and %+v name the same record", r, other)
		}
		r.Confirmed = false
		after[r.Previous] = r
	}
	for link := ""; ; {
		r, ok := after[link]
		if !ok {
			break
		}
		delete(after, link)
		records = append(records, r)
		link = linkOf(t, r)
	}
	if len(after) > 0 {
		t.Errorf("%d records are in no chain: %+v", len(after), after)
	}
	return records
}

// isChain checks that what a spool knows is one chain.
func isChain(t *testing.T, s *Spool) []events.Segment {
	t.Helper()
	records := inOrder(t, s.Segments(), s.chain.superseded)
	link, err := s.chain.link()
	if want := lastLink(t, records); err != nil || link != want {
		t.Errorf("the chain ends in %s, want %s, %v", link, want, err)
	}
	return records
}

// holdsChain also checks that what took another's place names it.
func holdsChain(t *testing.T, s *Spool) {
	t.Helper()
	records := isChain(t, s)
	latest := map[int]events.Segment{}
	for _, r := range records {
		if was, ok := latest[r.Seq]; r.Replaces != was.SHA256 || ok && r.Packets != was.Packets {
			t.Errorf("%+v takes the place of %+v", r, was)
		}
		latest[r.Seq] = r
	}
	for _, seg := range s.Segments() {
		if latest[seg.Seq].Key != seg.Key {
			t.Errorf("segment %d is %s; the chain's last word of it is %s", seg.Seq, seg.Key, latest[seg.Seq].Key)
		}
	}
}

// Whatever happens to segments, and whenever a collector is killed: what the checkpoints tell, one after the other, is
// the chain of the closing manifest.
func TestCheckpointsTellTheChain(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 6))
			dir := t.TempDir()
			s := openFor(t, dir, 6)
			clock := events.Clock{At: now(), Source: "kernel", Leap: events.LeapNone, OffsetNs: -17}
			if err := s.Begin(clock); err != nil {
				t.Fatal(err)
			}
			var told []events.Segment
			var last string
			report := func() {
				o, c := checkpoint(t, s, events.Tally{})
				if !bytes.Equal(o.Data, sorted(t, o.Data)) || digestOf(o.Data) != o.SHA256 {
					t.Fatalf("checkpoint %d is not in its canonical form: %s", c.Seq, o.Data)
				}
				told = append(told, c.Records...)
				last = c.Chain
				if want := lastLink(t, told); last != want {
					t.Fatalf("checkpoint %d ends in %s, want %s", c.Seq, last, want)
				}
				if (c.Clock != nil) != (c.Seq == 1) {
					t.Errorf("checkpoint %d has the clock %+v", c.Seq, c.Clock)
				}
			}
			cut, crashes := 0, 0
			for range 60 {
				switch act := random.IntN(10); {
				case act < 4:
					traffic(t, s, s.NextSegment())
				case act < 6:
					report()
				case act < 7:
					before := s.limit
					s.limit = 1
					done, err := s.Relieve()
					if err != nil {
						t.Fatal(err)
					}
					s.limit, s.relief.on = before, false
					cut += len(done)
				case act < 9:
					if waiting := s.Waiting(); len(waiting) > 0 {
						o, err := s.Claim(waiting[random.IntN(len(waiting))])
						if err != nil {
							t.Fatal(err)
						}
						if random.IntN(2) == 0 {
							if err := s.Confirm(o); err != nil {
								t.Fatal(err)
							}
						}
					}
				default:
					seq := s.NextSegment()
					if random.IntN(2) == 0 {
						seal(t, s, seq, 7) // the kill came before it was noted
					}
					crash(t, s)
					s = openFor(t, dir, 6)
					if err := s.Begin(events.Clock{Source: "another"}); err != nil {
						t.Fatal(err)
					}
					crashes++
				}
				holdsChain(t, s)
			}
			report()
			o, err := s.Conclude(events.CollectorManifest{Clock: &events.Clocks{End: &events.Clock{Source: "end"}}})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			var m events.CollectorManifest
			if err := json.Unmarshal(o.Data, &m); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(o.Data, sorted(t, o.Data)) {
				t.Errorf("the manifest is not in its canonical form: %s", o.Data)
			}
			records := inOrder(t, m.Segments, m.Superseded)
			if !slices.Equal(records, told) || m.Chain != last || len(m.Superseded) != cut {
				t.Errorf("the manifest's chain has %d records, %d superseded, and ends in %s; checkpoints told %d, and %s; %d were cut", len(records), len(m.Superseded), m.Chain, len(told), last, cut)
			}
			if m.Clock == nil || *m.Clock.Start != clock || m.Clock.End.Source != "end" {
				t.Errorf("clock %+v", m.Clock)
			}
			t.Logf("%d records, %d cut, %d crashes", len(told), cut, crashes)
			if len(told) == 0 || crashes == 0 {
				t.Errorf("%d records, %d cut, %d crashes: the test shows little", len(told), cut, crashes)
			}
			if text := strings.Join(s.Remarks(), "\n"); strings.Contains(text, "begins anew") {
				t.Errorf("remarks: %s", text)
			}
		})
	}
}

// A manifest without anything to tell of a clock has none, and one without segments has an empty list.
func TestManifestOfNothing(t *testing.T) {
	s := openFor(t, t.TempDir(), 1)
	defer s.Close()
	o, err := s.Conclude(events.CollectorManifest{})
	if err != nil || !bytes.Contains(o.Data, []byte(`"segments":[]`)) || bytes.Contains(o.Data, []byte(`"clock"`)) || bytes.Contains(o.Data, []byte(`"chain"`)) {
		t.Errorf("%s, %v", o.Data, err)
	}
}
