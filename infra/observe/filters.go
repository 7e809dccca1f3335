// Package observe says what a deployment measures about itself, what it alarms about and what its dashboard shows, as plain
// data: the CDK app deploys it, and tests read it without CDK.
package observe

import (
	"fmt"

	"flashtap/events"
	"flashtap/infra/policy"
)

// Filter makes a metric of the log lines of one function.
type Filter struct {
	Function string
	Metric   string
	Pattern  string // CloudWatch Logs' filter pattern
	Value    string // what a line adds: a number, or the member that holds it
}

// The metrics that filters make. None has a default value: with one, every other line would publish a zero, and each
// metric that gets values is billed, so a deployment at rest would cost something.
const (
	CapturesStarted  = "CapturesStarted"
	CapturesRefused  = "CapturesRefused"
	CapturesJoined   = "CapturesJoined"
	CapturesDeferred = "CapturesDeferred"
	CapturesSealed   = "CapturesSealed"

	Packets        = "Packets"
	Bytes          = "Bytes"          // of segment files
	PacketsLost    = "PacketsLost"    // known to be missing from the evidence
	CaptureSeconds = "CaptureSeconds" // from the first packet to the last
	BilledSeconds  = "BilledSeconds"  // for which a collector and a session can have been there, at most

	VerdictComplete   = "VerdictComplete"
	VerdictTruncated  = "VerdictTruncated"
	VerdictIncomplete = "VerdictIncomplete"
	VerdictNothing    = "VerdictNothing"

	NoPackets       = "NoPackets"       // a capture had no packet in its first minutes, or none at all
	TeardownStuck   = "TeardownStuck"   // the state machine gave up removing
	GuardFired      = "GuardFired"      // a pass by the guard: the state machine did not remove in time
	SweepRemaining  = "SweepRemaining"  // things of captures that are over, still there after a sweep
	SweepRefused    = "SweepRefused"    // things that bear our tags and are not provably ours
	OldestSeconds   = "OldestSeconds"   // age of the capture whose things are the oldest there
	EventsReturned  = "EventsReturned"  // events that intake could not take, and that come again
	EventsTakenLate = "EventsTakenLate" // waiting findings that got a place
)

// Namespace is where the metrics of a deployment are.
func Namespace(s policy.Scope) string { return "Flashtap/" + s.Deployment }

// verdicts are those of a manifest, each with its metric.
var verdicts = []struct{ verdict, metric string }{
	{events.VerdictComplete, VerdictComplete},
	{events.VerdictTruncated, VerdictTruncated},
	{events.VerdictIncomplete, VerdictIncomplete},
	{events.VerdictNothing, VerdictNothing},
}

// Filters are all metric filters. Figures that are mostly zero are published only when they are not.
func Filters() []Filter {
	list := []Filter{
		// Whoever holds the lock is the one that captures, whichever way the request came.
		{"guard", CapturesStarted, line("guarded"), "1"},
		{"guard", CapturesJoined, line("joined"), "1"},
		{"intake", CapturesJoined, line("joined"), "1"},
		{"intake", CapturesDeferred, line("deferred: all places are taken"), "1"},
		{"intake", CapturesRefused, line("refused"), "1"},
		{"preflight", CapturesRefused, line("planned", "$.go IS FALSE"), "1"},
		{"sweep", CapturesRefused, line("swept", "$.expired > 0"), "$.expired"},
		{"sweep", EventsTakenLate, line("swept", "$.admitted > 0"), "$.admitted"},
		{"watch", NoPackets, line("looked", text("status", events.StatusSilent)), "1"},
		{"teardown", TeardownStuck, line("torn down", text("status", events.StatusStuck)), "1"},
		{"teardown", GuardFired, line("torn down", text("by", events.ByGuard)), "1"},
		{"sweep", SweepRemaining, line("swept", "$.remaining > 0"), "$.remaining"},
		{"sweep", SweepRefused, line("swept", "$.refused > 0"), "$.refused"},
		{"sweep", OldestSeconds, line("swept", "$.oldest > 0"), "$.oldest"},
		{"intake", EventsReturned, line("event not taken; it comes again"), "1"},
	}
	for _, sealer := range []string{"seal", "sweep"} {
		list = append(list,
			Filter{sealer, CapturesSealed, line("sealed"), "1"},
			Filter{sealer, Packets, line("sealed", "$.packets > 0"), "$.packets"},
			Filter{sealer, Bytes, line("sealed", "$.bytes > 0"), "$.bytes"},
			Filter{sealer, PacketsLost, line("sealed", "$.lost > 0"), "$.lost"},
			Filter{sealer, CaptureSeconds, line("sealed", "$.seconds > 0"), "$.seconds"},
			Filter{sealer, BilledSeconds, line("sealed", "$.billed > 0"), "$.billed"},
			Filter{sealer, NoPackets, line("sealed", text("verdict", events.VerdictNothing)), "1"})
		for _, v := range verdicts {
			list = append(list, Filter{sealer, v.metric, line("sealed", text("verdict", v.verdict)), "1"})
		}
	}
	return list
}

// line is a pattern for lines with this message that also meet the conditions.
func line(message string, conditions ...string) string {
	pattern := "{ " + text("msg", message)
	for _, c := range conditions {
		pattern += " && " + c
	}
	return pattern + " }"
}

func text(member, value string) string { return fmt.Sprintf(`$.%s = "%s"`, member, value) }
