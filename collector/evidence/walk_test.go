package evidence

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"flashtap/events"
)

// slowly is a walk without haste: over the whole file at once, one record after the other.
func slowly(body []byte) (w walk) {
	if len(body) < fileHeaderLen || [fileHeaderLen]byte(body[:fileHeaderLen]) != fileHeader {
		w.fault = "not a segment"
		return w
	}
	for at := fileHeaderLen; at < len(body); {
		if len(body)-at < recordHeaderLen {
			w.fault = "cut"
			return w
		}
		h := body[at:]
		ns, incl, orig := binary.LittleEndian.Uint32(h[4:]), int(binary.LittleEndian.Uint32(h[8:])), int(binary.LittleEndian.Uint32(h[12:]))
		if ns >= 1e9 || incl < minFrame || incl > snapLen || incl > orig {
			w.fault = "none"
			return w
		}
		stamp := int64(binary.LittleEndian.Uint32(h))*1e9 + int64(ns)
		if w.packets == 0 {
			w.first = stamp
		} else {
			w.backwards = max(w.backwards, w.last-stamp)
		}
		w.last = stamp
		w.packets++
		if incl < orig {
			w.truncated++
		}
		if at += recordHeaderLen + incl; at > len(body) {
			w.fault = "cut"
		}
	}
	return w
}

// FuzzWalk has a file walked in chunks of any sizes: the same must be seen.
func FuzzWalk(f *testing.F) {
	rec := func(s, ns, incl, orig uint32) []byte {
		h := make([]byte, recordHeaderLen, recordHeaderLen+int(incl))
		for i, v := range []uint32{s, ns, incl, orig} {
			binary.LittleEndian.PutUint32(h[4*i:], v)
		}
		return append(h, make([]byte, incl)...)
	}
	whole := append(fileHeader[:], rec(5, 1, 14, 14)...)
	f.Add(whole, uint16(1))
	f.Add(append(whole, rec(4, 999999999, 60, 1500)...), uint16(17))
	f.Add(append(whole, rec(4, 1e9, 60, 1500)...), uint16(40))
	f.Add(append(whole, rec(4, 1, 60, 59)...), uint16(3))
	f.Add(append(whole, rec(4, 1, 60, 60)[:50]...), uint16(1000))
	f.Add(whole[:20], uint16(7))
	f.Fuzz(func(t *testing.T, body []byte, size uint16) {
		want := slowly(body)
		var got walk
		for rest := body; len(rest) > 0; {
			n := min(len(rest), int(size%300)+1)
			got.feed(rest[:n])
			rest = rest[n:]
		}
		if (got.end() == "") != (want.fault == "") {
			t.Fatalf("%q, want %q", got.end(), want.fault)
		}
		if want.fault == "" && (got.packets != want.packets || got.truncated != want.truncated || got.first != want.first || got.last != want.last || got.backwards != want.backwards || got.bytes != int64(len(body))) {
			t.Errorf("%+v, want %+v", got, want)
		}
	})
}

func TestDeclaredDisorder(t *testing.T) {
	for _, row := range []struct{ seen, want int64 }{{0, 0}, {int64(events.OrderTolerance), 0}, {int64(events.OrderTolerance) + 1, int64(events.OrderTolerance) + 1}, {int64(4e18), maxInteger}} {
		if got := (&walk{backwards: row.seen}).declared(); got != row.want {
			t.Errorf("%d is declared as %d, want %d", row.seen, got, row.want)
		}
	}
}

// TestRecordsAreReadAsTheyAreWritten has readers that are more lenient than ours disagree about nothing.
func TestRecordsAreReadAsTheyAreWritten(t *testing.T) {
	for name, row := range map[string]struct{ text, says string }{
		"as it must be":                {`{"at":"2026-11-22T03:04:05Z","capture":"20261122T030405Z-eni-0a1b2c3d","seq":1,"version":1}`, ""},
		"a member that nobody knows":   {`{"capture":"20261122T030405Z-eni-0a1b2c3d","colour":1,"version":1}`, ""},
		"null":                         {`{"capture":"20261122T030405Z-eni-0a1b2c3d","records":null,"version":1}`, ""},
		"white space":                  {`{"capture":"20261122T030405Z-eni-0a1b2c3d", "version":1}`, "canonical"},
		"another order":                {`{"version":1,"capture":"20261122T030405Z-eni-0a1b2c3d"}`, "canonical"},
		"a needless escape":            {`{"capture":"20261122T030405Z-eni-0a1b2c3d","note":"\u0061","version":1}`, "canonical"},
		"a member twice":               {`{"capture":"20261122T030405Z-eni-0a1b2c3d","seq":1,"seq":2,"version":1}`, "canonical form"},
		"a member in capitals":         {`{"SEQ":2,"capture":"20261122T030405Z-eni-0a1b2c3d","version":1}`, "beside"},
		"and one within":               {`{"capture":"20261122T030405Z-eni-0a1b2c3d","tally":{"Received":2},"version":1}`, "beside"},
		"a large number":               {`{"capture":"20261122T030405Z-eni-0a1b2c3d","seq":9007199254740992,"version":1}`, "2^53-1"},
		"a fraction":                   {`{"capture":"20261122T030405Z-eni-0a1b2c3d","seq":1.5,"version":1}`, "2^53-1"},
		"a negative count":             {`{"capture":"20261122T030405Z-eni-0a1b2c3d","tally":{"received":-1},"version":1}`, "tally"},
		"a time elsewhere":             {`{"at":"2026-11-22T03:04:05+01:00","capture":"20261122T030405Z-eni-0a1b2c3d","version":1}`, "UTC"},
		"no time":                      {`{"at":"yesterday","capture":"20261122T030405Z-eni-0a1b2c3d","version":1}`, "no record"},
		"version 2":                    {`{"capture":"20261122T030405Z-eni-0a1b2c3d","version":2}`, "version"},
		"version 1.0":                  {`{"capture":"20261122T030405Z-eni-0a1b2c3d","version":1.0}`, "canonical"},
		"no version":                   {`{"capture":"20261122T030405Z-eni-0a1b2c3d"}`, "version"},
		"another capture":              {`{"capture":"20261122T030405Z-eni-0a1b2c3e","version":1}`, "about capture"},
		"what is no UTF-8":             {"{\"capture\":\"20261122T030405Z-eni-0a1b2c3d\",\"note\":\"\xff\",\"version\":1}", "UTF-8"},
		"a list":                       {`[]`, "no record"},
		"what is no JSON":              {`{"capture":`, "JSON"},
		"a billion brackets, to speak": {strings.Repeat("[", 20_000_000), "JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			v := &verifier{capture: "20261122T030405Z-eni-0a1b2c3d"}
			err := v.decode([]byte(row.text), &events.Checkpoint{})
			if (err == nil) != (row.says == "") || err != nil && !strings.Contains(err.Error(), row.says) {
				t.Errorf("%.200v, want %q", err, row.says)
			}
		})
	}
}

// FuzzRecord has any bytes read as each kind of record.
func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"capture":"20261122T030405Z-eni-0a1b2c3d","records":[{"key":"x","seq":1}],"version":1}`))
	f.Add([]byte(`{"capture":"20261122T030405Z-eni-0a1b2c3d","version":1}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		for kind := otherKind; kind <= addendumSigKind; kind++ {
			v := &verifier{capture: "20261122T030405Z-eni-0a1b2c3d"}
			point, err := v.record("x", kind, text)
			if err == nil && canonical(text) != nil {
				t.Errorf("taken for a record: %q", text)
			}
			if kind == checkpointKind && err == nil && point == nil {
				t.Error("no checkpoint")
			}
		}
		m := &manifest{}
		if err := m.read(&verifier{}, text); err == nil && !bytes.Contains(text, []byte(`"version":1`)) {
			t.Errorf("taken for a manifest: %q", text)
		}
	})
}

func TestMoment(t *testing.T) {
	if got := stamp(moment(1_764_000_000_123_456_789)); got != "2025-11-24T16:00:00.123456789Z" {
		t.Error(got, time.Unix(1_764_000_000, 0).UTC())
	}
}
