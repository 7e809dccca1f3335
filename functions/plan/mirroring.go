package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"flashtap/events"
	"flashtap/functions/filter"
	"flashtap/functions/internal/describe"
)

// notATarget: an interface is in sessions as a source, or is a target, never both.
func notATarget(f Facts) events.Verdict {
	v := events.Verdict{Check: "not-a-target", Result: events.Pass, Reason: "no mirror target uses it"}
	for _, t := range f.Targets {
		if aws.ToString(t.NetworkInterfaceId) == aws.ToString(f.Interface.NetworkInterfaceId) {
			v.Result = events.Fail
			v.Reason = "it is itself the target of mirroring, and AWS does not mirror a target"
			v.Remedy = "delete target " + aws.ToString(t.TrafficMirrorTargetId) + ", or capture another interface"
			v.Evidence = []string{aws.ToString(t.TrafficMirrorTargetId)}
		}
	}
	return v
}

// maxSessions is the quota of sessions of one source interface; AWS does not raise it (VPC Traffic Mirroring guide,
// "Quotas").
const maxSessions = 3

// sessionNumber finds a free number. AWS tries sessions in ascending number and mirrors each packet once, to the first
// whose filter matches: so by default ours goes after those that are there, which keeps what others rely on, and the
// plan warns that they may take packets from us.
func sessionNumber(f Facts, wanted int32) (int32, events.Verdict) {
	v := events.Verdict{Check: "sessions", Result: events.Pass}
	taken := map[int32]string{}
	var highest int32
	others := 0
	for _, s := range f.Sessions {
		if !onSource(f, s) {
			continue
		}
		n := aws.ToInt32(s.SessionNumber)
		taken[n] = aws.ToString(s.TrafficMirrorSessionId)
		highest = max(highest, n)
		v.Evidence = append(v.Evidence, taken[n])
		if !isOurs(f, s) {
			others++
		}
	}
	if others >= maxSessions {
		v.Result = events.Fail
		v.Reason = fmt.Sprintf("it has %d mirror sessions already, and AWS allows %d", others, maxSessions)
		v.Remedy = "delete one of them, with its owner's consent: aws ec2 delete-traffic-mirror-session --traffic-mirror-session-id " + v.Evidence[len(v.Evidence)-1]
		return 0, v
	}
	number := wanted
	switch {
	case number != 0 && taken[number] != "":
		v.Result = events.Fail
		v.Reason = fmt.Sprintf("session number %d is taken by %s", number, taken[number])
		v.Remedy = "ask for another number, or for none"
		return 0, v
	case number == 0 && highest < events.MaxSessionNumber:
		number = highest + 1
	case number == 0:
		for number = 1; taken[number] != ""; number++ {
		}
	}
	v.Reason = fmt.Sprintf("%d of %d sessions exist; ours gets number %d", others, maxSessions, number)
	if others < len(taken) {
		v.Reason += "; this deployment captures from it already, and this request joins that capture"
	}
	if others > 0 {
		v.Reason += "; a packet goes only to the first session that wants it, in ascending number"
	}
	return number, v
}

// shadowing finds the sessions on the source that AWS tries before ours, and what of ours their filters take.
func shadowing(f Facts, number int32, ours events.Filter) ([]events.Shadow, events.Verdict) {
	v := events.Verdict{Check: "shadowing", Result: events.Pass, Reason: "no other session is tried before ours"}
	if number == 0 {
		v.Result, v.Reason = events.Warn, "not judged: no session number is free for ours"
		return nil, v
	}
	var shadows []events.Shadow
	first := int32(events.MaxSessionNumber)
	for _, s := range f.Sessions {
		n := aws.ToInt32(s.SessionNumber)
		if !onSource(f, s) || isOurs(f, s) || n >= number {
			continue
		}
		shadow := events.Shadow{Session: aws.ToString(s.TrafficMirrorSessionId), Owner: aws.ToString(s.OwnerId), Number: n, Filter: aws.ToString(s.TrafficMirrorFilterId)}
		theirs := slices.IndexFunc(f.Filters, func(t types.TrafficMirrorFilter) bool { return aws.ToString(t.TrafficMirrorFilterId) == shadow.Filter })
		if theirs < 0 {
			shadow.Takes = []string{"perhaps anything: its filter can't be described"}
		} else {
			shadow.Takes, shadow.All = filter.Shadows(ours, describe.MirrorFilter(f.Filters[theirs]))
		}
		if len(shadow.Takes) > 0 {
			shadows = append(shadows, shadow)
			first = min(first, n)
		}
	}
	slices.SortFunc(shadows, func(a, b events.Shadow) int { return cmp.Compare(a.Number, b.Number) })
	if len(shadows) == 0 {
		return nil, v
	}
	v.Result = events.Warn
	var reasons []string
	for _, s := range shadows {
		v.Evidence = append(v.Evidence, s.Session, s.Filter)
		what := strings.Join(s.Takes, "; ")
		if s.All {
			v.Result, what = events.Fail, "everything that ours wants"
		}
		reasons = append(reasons, fmt.Sprintf("session %s of account %s at number %d takes %s", s.Session, s.Owner, s.Number, what))
	}
	v.Reason = strings.Join(reasons, "; ")
	if below := freeBelow(f, first); below > 0 {
		v.Remedy = fmt.Sprintf("ask again with session number %d, so that ours is tried first; the other sessions then lose what ours takes", below)
	} else {
		v.Remedy = fmt.Sprintf("give the other session a higher number (aws ec2 modify-traffic-mirror-session --traffic-mirror-session-id %s --session-number %d) and ask again with session number 1",
			shadows[0].Session, free(f, number))
	}
	return shadows, v
}

// free is the lowest number above one that no session of the source has.
func free(f Facts, above int32) int32 {
	n := above + 1
	for isTaken(f, n) {
		n++
	}
	return n
}

// freeBelow is the highest number below one that no session of the source has; 0 when there is none.
func freeBelow(f Facts, number int32) int32 {
	n := number - 1
	for n > 0 && isTaken(f, n) {
		n--
	}
	return n
}

func isTaken(f Facts, number int32) bool {
	return slices.ContainsFunc(f.Sessions, func(s types.TrafficMirrorSession) bool {
		return onSource(f, s) && aws.ToInt32(s.SessionNumber) == number
	})
}

// isOurs says that a session is this deployment's. While it is there its capture holds the source: whoever asks for another one
// joins it, or waits until it is removed, so it is in nobody's way.
func isOurs(f Facts, s types.TrafficMirrorSession) bool {
	return describe.Tag(s.Tags, events.TagDeployment) == f.Settings.Deployment
}

func onSource(f Facts, s types.TrafficMirrorSession) bool {
	return aws.ToString(s.NetworkInterfaceId) == aws.ToString(f.Interface.NetworkInterfaceId)
}

// The account's quotas of mirroring, none of which AWS raises, and the fewest sources that a target takes (VPC Traffic Mirroring
// guide, "Quotas").
const (
	maxAccount = 10000 // sessions, targets and filters, of each
	maxSources = 10
)

// targetLimits: the collector's target is made for one source alone, so only the account's quotas can stand against it.
func targetLimits(f Facts) events.Verdict {
	v := events.Verdict{Check: "target-limits", Result: events.Pass}
	var full []string
	for _, has := range []struct {
		what string
		n    int
	}{{"sessions", len(f.Sessions)}, {"targets", len(f.Targets)}, {"filters", len(f.Filters)}} {
		switch {
		case has.n >= maxAccount:
			v.Result = events.Fail
		case has.n >= maxAccount*9/10 && v.Result == events.Pass:
			v.Result = events.Warn
		case has.n < maxAccount*9/10:
			continue
		}
		full = append(full, fmt.Sprintf("%d mirror %s", has.n, has.what))
	}
	if len(full) > 0 {
		v.Reason = fmt.Sprintf("the account has %s, and AWS allows %d", strings.Join(full, " and "), maxAccount)
		v.Remedy = "delete what nobody uses (aws ec2 describe-traffic-mirror-sessions names owners and descriptions)"
		return v
	}
	v.Reason = fmt.Sprintf("the collector's target gets 1 source of %d; the account has %d sessions, %d targets and %d filters of %d each",
		maxSources, len(f.Sessions), len(f.Targets), len(f.Filters), maxAccount)
	return v
}
