package main

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// units of bytes. A bare K, M or G is not among them: it is read as a thousand by some and as 1024 by others.
var units = []struct {
	name  string
	bytes int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1},
}

// parseSize reads an amount of bytes such as 2GiB, 1.5GB or 1048576. It is never 0 and never rounded up.
func parseSize(text string) (int64, error) {
	number, factor := text, int64(1)
	for _, u := range units {
		if rest, found := cutSuffixFold(text, u.name); found {
			number, factor = rest, u.bytes
			break
		}
	}
	number = strings.TrimSpace(number)
	if number != "" && strings.ContainsRune("kKmMgGtT", rune(number[len(number)-1])) {
		unit := strings.ToUpper(number[len(number)-1:])
		return 0, fmt.Errorf("say %siB (1024s) or %sB (1000s)", unit, unit)
	}
	var bytes float64
	if n, err := strconv.ParseInt(number, 10, 64); err == nil {
		if n > 0 && n <= math.MaxInt64/factor {
			return n * factor, nil
		}
		bytes = float64(n) * float64(factor)
	} else if bytes, err = strconv.ParseFloat(number, 64); err != nil || strings.ContainsAny(number, "xXeEpPnN_") {
		return 0, errors.New("want an amount of bytes like 500MB, 2GiB or 1048576")
	} else {
		bytes *= float64(factor)
	}
	switch {
	case bytes < 1:
		return 0, errors.New("want at least 1 byte; leave it out for the deployment's default")
	case bytes >= math.MaxInt64:
		return 0, errors.New("want less than 8 EiB")
	}
	return int64(bytes), nil
}

func cutSuffixFold(s, suffix string) (string, bool) {
	if at := len(s) - len(suffix); at >= 0 && strings.EqualFold(s[at:], suffix) {
		return s[:at], true
	}
	return s, false
}

const day = 24 * time.Hour

// parseSpan reads a length of time such as 90s, 15m, 1h30m or 7d.
func parseSpan(text string) (time.Duration, error) {
	bad := errors.New("want a length of time like 90s, 15m, 1h30m or 7d")
	if days, rest, found := strings.Cut(text, "d"); found {
		n, err := strconv.ParseUint(days, 10, 16)
		if err != nil {
			return 0, bad
		}
		span := time.Duration(n) * day
		if rest == "" {
			return span, nil
		}
		more, err := parseSpan(rest)
		if err != nil || more >= day {
			return 0, bad
		}
		return span + more, nil
	}
	span, err := time.ParseDuration(text)
	switch {
	case err != nil:
		if _, err := strconv.ParseFloat(text, 64); err == nil {
			return 0, fmt.Errorf("say the unit, as in %sm", text)
		}
		return 0, bad
	case span < 0:
		return 0, bad
	case span%time.Second != 0:
		return 0, errors.New("want whole seconds")
	}
	return span, nil
}

// parseCount reads a whole number within bounds; otherwise says what else can be done.
func parseCount(text string, least, most int, otherwise string) (int32, error) {
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || int(n) < least || int(n) > most {
		return 0, fmt.Errorf("want a whole number from %d to %d%s", least, most, otherwise)
	}
	return int32(n), nil
}

// sizeText is an amount of bytes for people: 1.4 MiB.
func sizeText[N int64 | uint64](bytes N) string {
	value, unit := float64(bytes), "B"
	for _, next := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if value < 1024 {
			break
		}
		value, unit = value/1024, next
	}
	if unit == "B" {
		return fmt.Sprintf("%d B", bytes)
	}
	return fmt.Sprintf("%.1f %s", value, unit)
}

// countText groups the digits of a number: 1,234,567.
func countText(n uint64) string {
	digits := strconv.FormatUint(n, 10)
	for at := len(digits) - 3; at > 0; at -= 3 {
		digits = digits[:at] + "," + digits[at:]
	}
	return digits
}

// countOf is a number with its noun: 1 packet, 2 packets.
func countOf(n uint64, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return countText(n) + " " + noun
}

// spanText is a length of time without its empty parts: 15m, 1h30m, 45s.
func spanText(d time.Duration) string {
	text := d.Round(time.Second).String()
	text = strings.Replace(text, "m0s", "m", 1)
	return strings.Replace(text, "h0m", "h", 1)
}

// secondsText is spanText of whole seconds.
func secondsText(seconds int) string { return spanText(time.Duration(seconds) * time.Second) }

// timeText is a moment for people, in UTC as everywhere in the evidence.
func timeText(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05Z") }
