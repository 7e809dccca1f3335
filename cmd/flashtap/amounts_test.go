package main

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestParseSize(t *testing.T) {
	for name, row := range map[string]struct {
		text string
		want int64
		err  string
	}{
		"a bare number is bytes":           {"1048576", 1 << 20, ""},
		"binary units":                     {"2GiB", 2 << 30, ""},
		"decimal units":                    {"500MB", 500e6, ""},
		"any case":                         {"3kib", 3 << 10, ""},
		"a space before the unit":          {"1 TiB", 1 << 40, ""},
		"fractions":                        {"1.5GiB", 3 << 29, ""},
		"bytes by name":                    {"35B", 35, ""},
		"fractions are cut, not rounded":   {"1.9B", 1, ""},
		"the largest":                      {"9223372036854775807", math.MaxInt64, ""},
		"exact beyond a float's precision": {"9007199254740993", 9007199254740993, ""},
		"G is a thousand or 1024":          {"2G", 0, "say GiB (1024s) or GB (1000s)"},
		"nothing":                          {"", 0, "like 500MB"},
		"a unit alone":                     {"GiB", 0, "like 500MB"},
		"zero would mean the default":      {"0", 0, "at least 1 byte"},
		"less than one byte":               {"0.4B", 0, "at least 1 byte"},
		"negative":                         {"-1GiB", 0, "at least 1 byte"},
		"more than 63 bits":                {"9223372036854775808", 0, "8 EiB"},
		"more than 63 bits by its unit":    {"9000000TiB", 0, "8 EiB"},
		"more by a fraction":               {"8388608.5TiB", 0, "8 EiB"},
		"exponents":                        {"1e9", 0, "like 500MB"},
		"not a number":                     {"NaN", 0, "like 500MB"},
		"without end":                      {"InfGiB", 0, "like 500MB"},
		"words":                            {"much", 0, "like 500MB"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseSize(row.text)
			check(t, err, row.err)
			if got != row.want {
				t.Errorf("%d, want %d", got, row.want)
			}
		})
	}
}

func TestParseSpan(t *testing.T) {
	for name, row := range map[string]struct {
		text string
		want time.Duration
		err  string
	}{
		"minutes":               {"15m", 15 * time.Minute, ""},
		"several units":         {"1h30m5s", time.Hour + 30*time.Minute + 5*time.Second, ""},
		"days":                  {"7d", 7 * day, ""},
		"days and hours":        {"1d12h", 36 * time.Hour, ""},
		"nothing at all":        {"0s", 0, ""},
		"a bare number":         {"15", 0, "say the unit, as in 15m"},
		"parts of a second":     {"1500ms", 0, "whole seconds"},
		"negative":              {"-5m", 0, "like 90s"},
		"negative days":         {"-1d", 0, "like 90s"},
		"days twice":            {"1d2d", 0, "like 90s"},
		"a day within a day":    {"1d24h", 0, "like 90s"},
		"more days than anyone": {"99999999999d", 0, "like 90s"},
		"nothing":               {"", 0, "like 90s"},
		"words":                 {"yesterday", 0, "like 90s"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseSpan(row.text)
			check(t, err, row.err)
			if got != row.want {
				t.Errorf("%v, want %v", got, row.want)
			}
		})
	}
}

func check(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("error %v", err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("error %v, want one with %q", err, want)
	}
}

func TestAmountsForPeople(t *testing.T) {
	for want, got := range map[string]string{
		"0 B": sizeText(int64(0)), "1023 B": sizeText(uint64(1023)), "1.0 KiB": sizeText(int64(1024)), "1.5 GiB": sizeText(int64(3 << 29)),
		"8388608.0 TiB": sizeText(int64(math.MaxInt64)),
		"0":             countText(0), "999": countText(999), "1,000": countText(1000), "12,345,678": countText(12345678),
		"1 packet": countOf(1, "packet"), "0 packets": countOf(0, "packet"),
		"15m": secondsText(900), "24h": secondsText(86400), "1h30m": secondsText(5400), "1m5s": secondsText(65), "10m": secondsText(600), "20s": secondsText(20), "0s": secondsText(0),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
