package iam

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// operator is a condition operator without qualifier and suffix.
type operator struct {
	not       bool // it holds when the comparison fails with every value
	wildcards bool // * and ? have a meaning in its values
	compare   func(got string, wanted glob) (bool, error)
}

// operators are all that IAM has but Null (IAM User Guide, "IAM JSON policy elements: Condition operators").
var operators = map[string]operator{
	"StringEquals":              {compare: equal},
	"StringNotEquals":           {compare: equal, not: true},
	"StringEqualsIgnoreCase":    {compare: equalFold},
	"StringNotEqualsIgnoreCase": {compare: equalFold, not: true},
	"StringLike":                {compare: like, wildcards: true},
	"StringNotLike":             {compare: like, wildcards: true, not: true},

	// The two pairs behave alike.
	"ArnEquals":    {compare: likeARN, wildcards: true},
	"ArnLike":      {compare: likeARN, wildcards: true},
	"ArnNotEquals": {compare: likeARN, wildcards: true, not: true},
	"ArnNotLike":   {compare: likeARN, wildcards: true, not: true},

	"Bool":         {compare: sameBool},
	"BinaryEquals": {compare: sameBytes},
	"IpAddress":    {compare: inBlock},
	"NotIpAddress": {compare: inBlock, not: true},

	"NumericEquals":            {compare: numeric(func(c int) bool { return c == 0 })},
	"NumericNotEquals":         {compare: numeric(func(c int) bool { return c == 0 }), not: true},
	"NumericLessThan":          {compare: numeric(func(c int) bool { return c < 0 })},
	"NumericLessThanEquals":    {compare: numeric(func(c int) bool { return c <= 0 })},
	"NumericGreaterThan":       {compare: numeric(func(c int) bool { return c > 0 })},
	"NumericGreaterThanEquals": {compare: numeric(func(c int) bool { return c >= 0 })},

	"DateEquals":            {compare: date(func(c int) bool { return c == 0 })},
	"DateNotEquals":         {compare: date(func(c int) bool { return c == 0 }), not: true},
	"DateLessThan":          {compare: date(func(c int) bool { return c < 0 })},
	"DateLessThanEquals":    {compare: date(func(c int) bool { return c <= 0 })},
	"DateGreaterThan":       {compare: date(func(c int) bool { return c > 0 })},
	"DateGreaterThanEquals": {compare: date(func(c int) bool { return c >= 0 })},
}

func (g glob) String() string {
	var b strings.Builder
	for _, t := range g {
		b.WriteRune(t.char)
	}
	return b.String()
}

func equal(got string, wanted glob) (bool, error) { return got == wanted.String(), nil }

func equalFold(got string, wanted glob) (bool, error) {
	return strings.EqualFold(got, wanted.String()), nil
}

func like(got string, wanted glob) (bool, error) { return wanted.matches(got), nil }

// likeARN takes a value only as a whole ARN, unlike a Resource, in which the end may be left out.
func likeARN(got string, wanted glob) (bool, error) {
	return (wanted.isStar() || len(wanted.split()) == arnParts) && wanted.matchesARN(got), nil
}

func sameBool(got string, wanted glob) (bool, error) {
	for _, text := range []string{got, wanted.String()} {
		if !strings.EqualFold(text, "true") && !strings.EqualFold(text, "false") {
			return false, fmt.Errorf("%q is neither true nor false", text)
		}
	}
	return strings.EqualFold(got, wanted.String()), nil
}

func sameBytes(got string, wanted glob) (bool, error) {
	a, err := base64.StdEncoding.DecodeString(got)
	if err != nil {
		return false, fmt.Errorf("%q: %w", got, err)
	}
	b, err := base64.StdEncoding.DecodeString(wanted.String())
	if err != nil {
		return false, fmt.Errorf("%q: %w", wanted, err)
	}
	return bytes.Equal(a, b), nil
}

func inBlock(got string, wanted glob) (bool, error) {
	address, err := netip.ParseAddr(got)
	if err != nil {
		return false, err
	}
	text := wanted.String()
	if !strings.Contains(text, "/") {
		alone, err := netip.ParseAddr(text)
		return err == nil && alone.Unmap() == address.Unmap(), err
	}
	block, err := netip.ParsePrefix(text)
	return err == nil && block.Contains(address.Unmap()), err
}

func numeric(holds func(int) bool) func(string, glob) (bool, error) {
	return func(got string, wanted glob) (bool, error) {
		a, err := strconv.ParseFloat(got, 64)
		if err != nil {
			return false, err
		}
		b, err := strconv.ParseFloat(wanted.String(), 64)
		if err != nil {
			return false, err
		}
		switch {
		case a < b:
			return holds(-1), nil
		case a > b:
			return holds(1), nil
		}
		return holds(0), nil
	}
}

func date(holds func(int) bool) func(string, glob) (bool, error) {
	return func(got string, wanted glob) (bool, error) {
		a, err := moment(got)
		if err != nil {
			return false, err
		}
		b, err := moment(wanted.String())
		return err == nil && holds(a.Compare(b)), err
	}
}

// moment reads a date as the W3C's profile of ISO 8601 has it, or seconds since 1970.
func moment(text string) (time.Time, error) {
	if seconds, err := strconv.ParseInt(text, 10, 64); err == nil && len(text) > len("2026") {
		return time.Unix(seconds, 0), nil
	}
	var last error
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04Z07:00", "2006-01-02", "2006-01", "2006"} {
		t, err := time.Parse(layout, text)
		if err == nil {
			return t, nil
		}
		last = err
	}
	return time.Time{}, last
}
