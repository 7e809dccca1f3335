package schedule

import (
	"regexp"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // time zones must not depend on the machine
)

// expression says when a schedule fires: at one moment, or at an interval.
type expression struct {
	at    time.Time
	every time.Duration // 0 for a moment
}

var (
	rateForm = regexp.MustCompile(`^rate\(\s*([1-9][0-9]{0,8})\s+(minutes?|hours?|days?)\s*\)$`)
	atForm   = regexp.MustCompile(`^at\((.*)\)$`)
)

// parseExpression reads at(yyyy-mm-ddThh:mm:ss) and rate(value unit) (Scheduler guide, "Schedule types in EventBridge
// Scheduler"). A day is 24 hours whatever the zone.
func parseExpression(text string, zone *time.Location) (expression, error) {
	if strings.HasPrefix(text, "cron(") {
		return expression{}, invalid("Invalid Schedule Expression %s. Cron expressions are not supported by this scheduler.", text)
	}
	if m := atForm.FindStringSubmatch(text); m != nil {
		at, err := time.ParseInLocation("2006-01-02T15:04:05", m[1], zone)
		if err != nil || strings.ContainsAny(m[1], ".,") { // Go would read fractions, too
			return expression{}, invalid("Invalid Schedule Expression %s.", text)
		}
		return expression{at: at}, nil
	}
	m := rateForm.FindStringSubmatch(text)
	if m == nil {
		return expression{}, invalid("Invalid Schedule Expression %s.", text)
	}
	value, err := strconv.Atoi(m[1])
	if err != nil {
		return expression{}, invalid("Invalid Schedule Expression %s.", text)
	}
	unit := map[string]time.Duration{"minute": time.Minute, "hour": time.Hour, "day": 24 * time.Hour}[strings.TrimSuffix(m[2], "s")]
	every := time.Duration(value) * unit
	if every/unit != time.Duration(value) {
		return expression{}, invalid("Invalid Schedule Expression %s.", text)
	}
	return expression{every: every}, nil
}
