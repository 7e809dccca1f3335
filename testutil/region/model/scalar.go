package model

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The formats in which the models write a time.
const (
	iso8601       = "iso8601"
	unixTimestamp = "unixTimestamp"
	rfc822        = "rfc822"
)

// scalarFromText reads a value that a form, an XML body, a header or a URI
// carries as text.
func (d *decoder) scalarFromText(m *member, text, path, defaultTime string) (any, error) {
	bad := func() (any, error) {
		return nil, d.violation(InvalidValue, path, quoted(text)+" is not a "+m.target.Type)
	}
	switch m.target.Type {
	case "string", "character":
		return text, nil
	case "boolean":
		switch strings.ToLower(text) {
		case "true":
			return true, nil
		case "false":
			return false, nil
		}
		return bad()
	case "integer", "long":
		n, err := strconv.ParseInt(text, 10, integerBits(m.target.Type))
		if err != nil {
			return bad()
		}
		return n, nil
	case "float", "double":
		f, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return bad()
		}
		return f, nil
	case "timestamp":
		t, ok := parseTime(text, m.timestampFormat(defaultTime))
		if !ok {
			return bad()
		}
		return t, nil
	case "blob":
		raw, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return bad()
		}
		return raw, nil
	}
	return bad()
}

func integerBits(kind string) int {
	if kind == "integer" {
		return 32
	}
	return 64
}

func parseTime(text, format string) (time.Time, bool) {
	switch format {
	case unixTimestamp:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return time.Time{}, false
		}
		return timeOfEpoch(f)
	case rfc822:
		t, err := http.ParseTime(text)
		return t.UTC(), err == nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04Z", "2006-01-02"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC(), true
		}
	}
	return time.Time{}, false
}

// timeOfEpoch keeps to the years that every format can write.
func timeOfEpoch(seconds float64) (time.Time, bool) {
	const year9999 = 253402300800
	if math.IsNaN(seconds) || seconds < -62135596800 || seconds >= year9999 {
		return time.Time{}, false
	}
	whole, fraction := math.Modf(seconds)
	return time.Unix(int64(whole), int64(math.Round(fraction*1e6))*1e3).UTC(), true
}

// textOfTime writes a time as text. EC2 and the query protocol give milliseconds.
func textOfTime(t time.Time, format string) string {
	switch format {
	case unixTimestamp:
		return string(epoch(t))
	case rfc822:
		return t.UTC().Format(http.TimeFormat)
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z")
}

// epoch is a time as the number the JSON protocols use, to the millisecond.
func epoch(t time.Time) json.Number {
	ms := t.UnixMilli()
	if ms%1000 == 0 {
		return json.Number(strconv.FormatInt(ms/1000, 10))
	}
	return json.Number(strconv.FormatFloat(float64(ms)/1000, 'f', 3, 64))
}
