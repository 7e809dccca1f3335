package observe

import (
	"flashtap/infra/config"
	"flashtap/infra/policy"
)

// Metric is a metric of CloudWatch.
type Metric struct {
	Namespace, Name string
	Dimensions      []Dimension
}

// Dimension is one dimension of a metric.
type Dimension struct{ Name, Value string }

// Alarm calls people when a metric crosses its threshold in Of of the last periods at least At times.
type Alarm struct {
	Name        string // what follows the deployment's prefix
	Description string // what it means, and what to do
	Metric      Metric
	Statistic   string // Sum, Maximum or Minimum
	Period      int    // seconds
	At, Of      int    // periods
	Below       bool   // alarm below the threshold instead of at or above it
	Threshold   float64
	// Missing says what a period without data means. Ours have no data when nothing happened, which is fine; the one that
	// watches the sweep's pulse takes silence for failure.
	Missing string
	// Settles says that the end of the alarm is news, too: it tells of a state, and not of something that happened once.
	Settles bool
}

// What a period without data means.
const (
	Fine   = "notBreaching"
	Failed = "breaching"
)

// fiveMinutes is the sweep's interval, and the shortest period in which each of the sweep's figures has a value.
const fiveMinutes = config.SweepMinutes * 60

// Longest is the age in seconds after which nothing of a capture may be left: the state machine's own time limit, which
// holds the longest capture, its start, its drain and its removal.
const Longest = 93600

// Alarms are all alarms of a deployment.
func Alarms(s policy.Scope) []Alarm {
	own := func(name string) Metric { return own(s, name) }
	once := func(name, description string, m Metric) Alarm {
		return Alarm{Name: name, Description: description, Metric: m, Statistic: "Sum", Period: fiveMinutes, At: 1, Of: 1, Threshold: 1, Missing: Fine}
	}
	failing := func(function, description string) Alarm {
		a := once(function+"-failing", description, lambda(s, function, "Errors"))
		a.At, a.Of, a.Settles = 2, 3, true
		return a
	}
	deadLetters := func(name, q, description string) Alarm {
		a := once(name, description, queue(s, q, "ApproximateNumberOfMessagesVisible"))
		a.Statistic, a.Settles = "Maximum", true
		return a
	}
	return []Alarm{
		once("teardown-stuck", "A capture is over and something of it would not go. Guard and sweep keep trying. Read its last teardown certificate, "+
			"captures/<capture>/certificates/ in the evidence bucket: it names what remains, and why.", own(TeardownStuck)),
		{Name: "leak-refused", Description: "Something bears this deployment's tags and is not provably its own, so it is not removed. The log of the sweep names it " +
			"(\"refused to remove\"). Remove it by hand, or take its tags off.",
			Metric: own(SweepRefused), Statistic: "Maximum", Period: fiveMinutes, At: 1, Of: 1, Threshold: 1, Missing: Fine, Settles: true},
		{Name: "leak-orphans", Description: "Things of captures that are over are still there after four sweeps. Mirror sessions bill until they are deleted. " +
			"The log of the sweep and the captures' teardown certificates name them.",
			Metric: own(SweepRemaining), Statistic: "Minimum", Period: fiveMinutes, At: 4, Of: 6, Threshold: 1, Missing: Fine, Settles: true},
		{Name: "leak-age", Description: "Something of a capture is older than any capture can be (26 hours). Look at EC2's instances and mirror sessions with the tag flashtap:deployment.",
			Metric: own(OldestSeconds), Statistic: "Maximum", Period: fiveMinutes, At: 1, Of: 1, Threshold: Longest, Missing: Fine, Settles: true},
		once("guard-fired", "A guard schedule had to remove a capture: its execution ended without doing so, or hangs. Look at the execution of the capture that teardown's log names with \"by\": \"guard\".", own(GuardFired)),
		once("capture-timed-out", "An execution of the state machine reached its own time limit, and so did not tear down; guard and sweep do. Look at where it hung.",
			executions(s, "ExecutionsTimedOut")),
		{Name: "schedules-failing", Description: "Schedules of the group can't call their target for 15 minutes: guards would not remove, and the sweep would not look. " +
			"Check the scheduler's role, and that teardown and sweep exist.",
			Metric:    Metric{"AWS/Scheduler", "TargetErrorCount", []Dimension{{"ScheduleGroup", s.ScheduleGroup()}}},
			Statistic: "Sum", Period: fiveMinutes, At: 3, Of: 3, Threshold: 1, Missing: Fine, Settles: true},
		failing("sweep", "The sweep fails, so orphans may stay and captures unsealed. Its log says why (\"step failed\")."),
		{Name: "sweep-silent", Description: "The sweep has not run for 15 minutes. Check its schedule, and whether Lambda is throttled.",
			Metric: lambda(s, "sweep", "Invocations"), Statistic: "Sum", Period: fiveMinutes, At: 3, Of: 3, Below: true, Threshold: 1, Missing: Failed, Settles: true},
		failing("teardown", "Teardown fails. Its log says why (\"step failed\"); state machine, guard and sweep keep calling it."),
		failing("intake", "Intake fails as a whole: findings wait, and end in the dead-letter queue after five attempts. Its log says why."),
		{Name: "intake-errors", Description: "Intake gives events back because it can't take them now; after five attempts they end in the dead-letter queue. Its log says why " +
			"(\"event not taken\").",
			Metric: own(EventsReturned), Statistic: "Sum", Period: fiveMinutes, At: 2, Of: 3, Threshold: 1, Missing: Fine, Settles: true},
		{Name: "intake-late", Description: "A finding has waited for intake for 15 minutes. Check whether intake is called at all: its event source mapping, and Lambda's concurrency.",
			Metric: queue(s, policy.IntakeQueue, "ApproximateAgeOfOldestMessage"), Statistic: "Maximum", Period: fiveMinutes, At: 1, Of: 1, Threshold: 900, Missing: Fine, Settles: true},
		deadLetters("intake-dlq", policy.IntakeDeadLetter, "Findings could not be taken and lie in intake's dead-letter queue. Read intake's log, then redrive the queue."),
		deadLetters("waiting-dlq", policy.WaitingDeadLetter, "Findings that waited for a place, or events that a rule could not deliver, lie in the dead-letter queue. "+
			"Redrive it, or start captures by hand."),
		once("no-packets", "A capture runs and gets no packets, or was sealed without any. The source may be idle; else a security group, a network ACL, a route, another session "+
			"or the filter keeps its copies away.", own(NoPackets)),
		once("incomplete-evidence", "A capture was sealed as incomplete. Its manifest names how much is missing, and why (\"reasons\").", own(VerdictIncomplete)),
	}
}

func own(s policy.Scope, name string) Metric {
	return Metric{Namespace: Namespace(s), Name: name}
}

func lambda(s policy.Scope, function, name string) Metric {
	return Metric{"AWS/Lambda", name, []Dimension{{"FunctionName", s.FunctionName(function)}}}
}

func queue(s policy.Scope, queue, name string) Metric {
	return Metric{"AWS/SQS", name, []Dimension{{"QueueName", s.QueueName(queue)}}}
}

func executions(s policy.Scope, name string) Metric {
	return Metric{"AWS/States", name, []Dimension{{"StateMachineArn", s.StateMachineARN()}}}
}
