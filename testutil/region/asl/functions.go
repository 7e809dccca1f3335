package asl

import (
	"crypto/md5"
	cryptorand "crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"unicode/utf8"
)

type function struct {
	min, max int // max is -1 for any number
	check    func([]argument) error
	eval     func([]any) (any, error)
	format   bool
}

// Limits of the developer guide, Intrinsic functions.
const (
	maxText  = 10_000 // characters given to Base64Encode, Base64Decode and Hash
	maxRange = 1000   // elements made by ArrayRange
)

var functions = map[string]function{
	"States.Array":          {0, -1, nil, array, false},
	"States.ArrayContains":  {2, 2, nil, arrayContains, false},
	"States.ArrayGetItem":   {2, 2, nil, arrayGetItem, false},
	"States.ArrayLength":    {1, 1, nil, arrayLength, false},
	"States.ArrayPartition": {2, 2, nil, arrayPartition, false},
	"States.ArrayRange":     {3, 3, nil, arrayRange, false},
	"States.ArrayUnique":    {1, 1, nil, arrayUnique, false},
	"States.Base64Decode":   {1, 1, nil, base64Decode, false},
	"States.Base64Encode":   {1, 1, nil, base64Encode, false},
	"States.Format":         {1, -1, checkFormat, nil, true},
	"States.Hash":           {2, 2, nil, hashOf, false},
	"States.JsonMerge":      {3, 3, nil, jsonMerge, false},
	"States.JsonToString":   {1, 1, checkNoLiteral, jsonToString, false},
	"States.MathAdd":        {2, 2, nil, mathAdd, false},
	"States.MathRandom":     {2, 3, nil, mathRandom, false},
	"States.StringSplit":    {2, 2, nil, stringSplit, false},
	"States.StringToJson":   {1, 1, nil, stringToJSON, false},
	"States.UUID":           {0, 0, nil, uuid, false},
}

func checkNoLiteral(args []argument) error {
	if args[0].path == nil && args[0].call == nil {
		return errors.New("the argument is no path")
	}
	return nil
}

func checkFormat(args []argument) error {
	first := args[0]
	if first.path != nil || first.call != nil {
		return nil
	}
	if _, ok := first.literal.(string); !ok {
		return errors.New("the first argument is no text")
	}
	if holes := strings.Count(stripEscapes(first.raw), "{}"); holes != len(args)-1 {
		return fmt.Errorf("%d values for %d {}", len(args)-1, holes)
	}
	return nil
}

// stripEscapes drops every escaped character, so that only the meaningful braces remain.
func stripEscapes(raw string) string {
	var b strings.Builder
	for i := 0; i < len(raw); i++ {
		if raw[i] == '\\' {
			b.WriteByte('\\')
			i++
			continue
		}
		b.WriteByte(raw[i])
	}
	return b.String()
}

// format fills the "{}" of a pattern. Values must be scalars (Appendix B, States.Format); the
// service would print an array or object as Java does, which nobody can want.
func format(pattern string, values []any) (any, error) {
	if n := strings.Count(stripEscapes(pattern), "{}"); n != len(values) {
		return nil, fmt.Errorf("%d values for %d {}", len(values), n)
	}
	var b strings.Builder
	for i := 0; i < len(pattern); i++ {
		switch {
		case pattern[i] == '\\':
			if i++; i == len(pattern) || strings.IndexByte(`'{}\`, pattern[i]) < 0 {
				return nil, fmt.Errorf("a backslash escapes nothing in %q", pattern)
			}
			b.WriteByte(pattern[i])
		case strings.HasPrefix(pattern[i:], "{}"):
			switch v := values[0].(type) {
			case string:
				b.WriteString(v)
			case []any, *object:
				return nil, fmt.Errorf("%s cannot be formatted", kind(v))
			default:
				b.Write(encode(v))
			}
			values = values[1:]
			i++
		default:
			b.WriteByte(pattern[i])
		}
	}
	return b.String(), nil
}

func array(args []any) (any, error) { return append([]any{}, args...), nil }

func list(v any) ([]any, error) {
	l, ok := v.([]any)
	if !ok {
		return nil, fmt.Errorf("%s is no array", kind(v))
	}
	return l, nil
}

func arrayContains(args []any) (any, error) {
	l, err := list(args[0])
	if err != nil {
		return nil, err
	}
	for _, e := range l {
		if equal(e, args[1]) {
			return true, nil
		}
	}
	return false, nil
}

func arrayGetItem(args []any) (any, error) {
	l, err := list(args[0])
	if err != nil {
		return nil, err
	}
	i, err := rounded(args[1])
	if err != nil {
		return nil, err
	}
	if i < 0 || i >= int64(len(l)) {
		return nil, fmt.Errorf("no element %d in an array of %d", i, len(l))
	}
	return l[i], nil
}

func arrayLength(args []any) (any, error) {
	l, err := list(args[0])
	return number(len(l)), err
}

func arrayPartition(args []any) (any, error) {
	l, err := list(args[0])
	if err != nil {
		return nil, err
	}
	size, err := rounded(args[1])
	if err != nil {
		return nil, err
	}
	if size < 1 {
		return nil, fmt.Errorf("chunk size %d", size)
	}
	parts := []any{}
	for len(l) > 0 {
		n := min(size, int64(len(l)))
		parts, l = append(parts, l[:n:n]), l[n:]
	}
	return parts, nil
}

func arrayRange(args []any) (any, error) {
	var n [3]int64
	for i := range n {
		var err error
		if n[i], err = rounded(args[i]); err != nil {
			return nil, err
		}
	}
	first, last, step := n[0], n[1], n[2]
	if step == 0 {
		return nil, errors.New("step 0")
	}
	if steps := (last - first) / step; steps >= maxRange {
		return nil, fmt.Errorf("more than %d elements", maxRange)
	}
	l := []any{}
	for i := first; step > 0 && i <= last || step < 0 && i >= last; i += step {
		l = append(l, json.Number(strconv.FormatInt(i, 10)))
	}
	return l, nil
}

func arrayUnique(args []any) (any, error) {
	l, err := list(args[0])
	if err != nil {
		return nil, err
	}
	unique := []any{}
next:
	for _, e := range l {
		for _, u := range unique {
			if equal(e, u) {
				continue next
			}
		}
		unique = append(unique, e)
	}
	return unique, nil
}

func text(v any) (string, error) {
	s, ok := v.(string)
	if !ok {
		return "", fmt.Errorf("%s is no string", kind(v))
	}
	return s, nil
}

func shortText(v any) (string, error) {
	s, err := text(v)
	if err == nil && utf8.RuneCountInString(s) > maxText {
		err = fmt.Errorf("more than %d characters", maxText)
	}
	return s, err
}

func base64Encode(args []any) (any, error) {
	s, err := shortText(args[0])
	return base64.StdEncoding.EncodeToString([]byte(s)), err
}

func base64Decode(args []any) (any, error) {
	s, err := shortText(args[0])
	if err != nil {
		return nil, err
	}
	data, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return nil, err
	}
	if !utf8.Valid(data) {
		return nil, errors.New("decoded data is no text")
	}
	return string(data), nil
}

func hashOf(args []any) (any, error) {
	data, ok := args[0].(string)
	if !ok {
		data = string(encode(args[0]))
	}
	if _, err := shortText(data); err != nil {
		return nil, err
	}
	makers := map[string]func() hash.Hash{
		"MD5": md5.New, "SHA-1": sha1.New, "SHA-256": sha256.New, "SHA-384": sha512.New384, "SHA-512": sha512.New,
	}
	name, err := text(args[1])
	if err != nil {
		return nil, err
	}
	maker, ok := makers[name]
	if !ok {
		return nil, fmt.Errorf("hash algorithm %q is unknown", name)
	}
	h := maker()
	h.Write([]byte(data))
	return hex.EncodeToString(h.Sum(nil)), nil
}

// jsonMerge merges shallowly: the service knows no other mode (developer guide, States.JsonMerge).
func jsonMerge(args []any) (any, error) {
	a, aok := args[0].(*object)
	b, bok := args[1].(*object)
	if !aok || !bok {
		return nil, fmt.Errorf("%s and %s are not both objects", kind(args[0]), kind(args[1]))
	}
	if args[2] != false {
		return nil, errors.New("only a shallow merge, false, is supported")
	}
	merged := newObject()
	for _, o := range []*object{a, b} {
		for _, n := range o.names {
			merged.set(n, o.fields[n])
		}
	}
	return merged, nil
}

func jsonToString(args []any) (any, error) { return string(encode(args[0])), nil }

func stringToJSON(args []any) (any, error) {
	s, err := text(args[0])
	if err != nil {
		return nil, err
	}
	// Blank text is null, as the service was seen to answer.
	if strings.TrimSpace(s) == "" {
		return nil, nil
	}
	v, err := decode([]byte(s))
	if err != nil {
		return nil, fmt.Errorf("text is no JSON: %w", err)
	}
	return v, nil
}

// rounded reads a number and rounds half up towards positive infinity, as the service was seen to do
// (-1.5 becomes -1). Numbers outside 32 bits are refused (developer guide, States.MathAdd).
func rounded(v any) (int64, error) {
	n, ok := v.(json.Number)
	if !ok {
		return 0, fmt.Errorf("%s is no number", kind(v))
	}
	f := math.Floor(double(n) + 0.5)
	if !(f >= math.MinInt32 && f <= math.MaxInt32) {
		return 0, fmt.Errorf("number %s is out of range", n)
	}
	return int64(f), nil
}

func mathAdd(args []any) (any, error) {
	a, err := rounded(args[0])
	if err != nil {
		return nil, err
	}
	b, err := rounded(args[1])
	return json.Number(strconv.FormatInt(a+b, 10)), err
}

// mathRandom returns a number from start up to, but without, end.
func mathRandom(args []any) (any, error) {
	start, err := rounded(args[0])
	if err != nil {
		return nil, err
	}
	end, err := rounded(args[1])
	if err != nil {
		return nil, err
	}
	if start >= end {
		return nil, fmt.Errorf("no number from %d to %d", start, end)
	}
	draw := rand.Int64N
	if len(args) == 3 {
		seed, err := rounded(args[2])
		if err != nil {
			return nil, err
		}
		draw = rand.New(rand.NewPCG(uint64(seed), 0)).Int64N
	}
	return json.Number(strconv.FormatInt(start+draw(end-start), 10)), nil
}

// stringSplit cuts at every character of the second argument and drops empty pieces.
func stringSplit(args []any) (any, error) {
	s, err := text(args[0])
	if err != nil {
		return nil, err
	}
	cut, err := text(args[1])
	if err != nil {
		return nil, err
	}
	pieces := []any{}
	for _, p := range strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune(cut, r) }) {
		pieces = append(pieces, p)
	}
	return pieces, nil
}

// uuid makes a random UUID (RFC 9562, section 5.4).
func uuid([]any) (any, error) { return newUUID(), nil }

func newUUID() string {
	var b [16]byte
	cryptorand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
