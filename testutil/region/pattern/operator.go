package pattern

import (
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"
)

// test is one alternative of a clause.
type test struct {
	absent bool // the field must not be there
	holds  func(value) bool
}

func exists(want bool) test {
	if !want {
		return test{absent: true, holds: func(value) bool { return false }}
	}
	return test{holds: func(value) bool { return true }}
}

// exact compares character by character, numbers too: 300 is not 3.0e2 (user guide, "Event pattern syntax").
func exact(want value) test {
	return test{holds: func(v value) bool { return v == want }}
}

// onText makes a test that only strings can pass.
func onText(holds func(string) bool) test {
	return test{holds: func(v value) bool { return v.kind == text && holds(v.text) }}
}

// anythingBut holds for every value that passes none of the tests; an absent field is no value.
func anythingBut(tests []test) test {
	return test{holds: func(v value) bool {
		for _, t := range tests {
			if t.holds(v) {
				return false
			}
		}
		return true
	}}
}

func equalFold(want string) test {
	return onText(func(s string) bool { return strings.EqualFold(s, want) })
}

func prefix(want string) test {
	return onText(func(s string) bool { return strings.HasPrefix(s, want) })
}

func suffix(want string) test {
	return onText(func(s string) bool { return strings.HasSuffix(s, want) })
}

func prefixFold(want string) test {
	return onText(func(s string) bool {
		// As many characters, not bytes: letters of different case may differ in length.
		end := 0
		for range utf8.RuneCountInString(want) {
			_, size := utf8.DecodeRuneInString(s[end:])
			end += size
		}
		return strings.EqualFold(s[:end], want)
	})
}

func suffixFold(want string) test {
	return onText(func(s string) bool {
		start := len(s)
		for range utf8.RuneCountInString(want) {
			_, size := utf8.DecodeLastRuneInString(s[:start])
			start -= size
		}
		return strings.EqualFold(s[start:], want)
	})
}

// wildcard matches the pieces between the stars in order; the first and the last are tied to the ends.
func wildcard(pieces []string) test {
	return onText(func(s string) bool {
		first, rest := pieces[0], pieces[1:]
		if len(rest) == 0 {
			return s == first
		}
		s, ok := strings.CutPrefix(s, first)
		if !ok {
			return false
		}
		last := rest[len(rest)-1]
		for _, piece := range rest[:len(rest)-1] {
			_, after, ok := strings.Cut(s, piece)
			if !ok {
				return false
			}
			s = after
		}
		return strings.HasSuffix(s, last)
	})
}

func cidr(network netip.Prefix) test {
	return onText(func(s string) bool {
		address, err := netip.ParseAddr(s)
		return err == nil && address.Zone() == "" && network.Contains(address)
	})
}

// bound is one half of a numeric range.
type bound struct {
	operator string
	limit    float64
}

func numeric(bounds []bound) test {
	return test{holds: func(v value) bool {
		if v.kind != number {
			return false
		}
		x, ok := double(v.text)
		if !ok {
			return false
		}
		for _, b := range bounds {
			switch b.operator {
			case "=":
				ok = x == b.limit
			case "<":
				ok = x < b.limit
			case "<=":
				ok = x <= b.limit
			case ">":
				ok = x > b.limit
			case ">=":
				ok = x >= b.limit
			}
			if !ok {
				return false
			}
		}
		return true
	}}
}

// double reads a number that a 64-bit float holds without loss. Any other is not treated as a number (user guide,
// "Comparison operators": numeric matching).
func double(s string) (float64, bool) {
	x, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return 0, false
	}
	wantDigits, wantPower, ok := decimal(s)
	if !ok {
		return 0, false
	}
	digits, power, _ := decimal(strconv.FormatFloat(x, 'e', -1, 64))
	return x, digits == wantDigits && power == wantPower
}

// decimal splits a JSON number into its sign with its significant digits and a power of ten.
func decimal(s string) (digits string, power int, ok bool) {
	sign := ""
	if s, ok = strings.CutPrefix(s, "-"); ok {
		sign = "-"
	}
	mantissa, exponent := s, ""
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		mantissa, exponent = s[:i], s[i+1:]
	}
	if exponent != "" {
		n, err := strconv.Atoi(exponent)
		if err != nil {
			return "", 0, false // further than any float reaches
		}
		power = n
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	digits = strings.TrimLeft(whole+fraction, "0")
	power -= len(fraction)
	trimmed := strings.TrimRight(digits, "0")
	power += len(digits) - len(trimmed)
	if trimmed == "" {
		return "0", 0, true
	}
	return sign + trimmed, power, true
}
