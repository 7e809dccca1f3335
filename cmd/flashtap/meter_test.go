package main

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestMeter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		m := newMeter(&out, "verifying")
		m.at(1<<20, 4<<20)
		if out.Len() > 0 {
			t.Errorf("told at once: %q", out.String())
		}
		time.Sleep(meterLine)
		m.at(1<<20, 4<<20)
		m.at(2<<20, 4<<20)
		m.end()
		if want := "verifying: 25 % of 4.0 MiB, 102.4 KiB/s\n"; out.String() != want {
			t.Errorf("%q, want %q", out.String(), want)
		}
		out.Reset()
		m.terminal, m.next = true, time.Now()
		m.at(2<<20, 4<<20)
		m.end()
		if bar := "\rverifying [===============               ]  50 % of 4.0 MiB, "; !strings.HasPrefix(out.String(), bar) || !strings.HasSuffix(out.String(), " \r") {
			t.Errorf("%q", out.String())
		}
		out.Reset()
		time.Sleep(meterLine)
		m.at(0, 0)
		m.end()
		if out.Len() > 0 {
			t.Errorf("of nothing: %q", out.String())
		}
	})
}
