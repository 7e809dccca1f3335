package remove

import (
	"reflect"
	"testing"

	"flashtap/events"
)

const capture = events.CaptureID("20261122T030405Z-eni-0a0a0a0a0a0a0a0a0")

func item(kind, id, state string) Item {
	return Item{Resource: events.Resource{Kind: kind, ID: id, State: state}, Capture: capture}
}

func TestGone(t *testing.T) {
	for _, row := range []struct {
		item Item
		want bool
	}{
		{item(KindInstance, "i-1", "terminated"), true},
		{item(KindInstance, "i-1", "shutting-down"), false},
		{item(KindInstance, "i-1", "stopped"), false},
		{item(KindInstance, "i-1", ""), false},
		{item(KindSession, "tms-1", "terminated"), false},
		{item(KindInterface, "eni-1", "available"), false},
	} {
		if got := row.item.Gone(); got != row.want {
			t.Errorf("%+v is gone: %t", row.item, got)
		}
	}
}

func TestOnly(t *testing.T) {
	guard := item(KindGuard, "eni-1", "")
	for name, row := range map[string]struct {
		items []Item
		want  bool
	}{
		"nothing else":                        {[]Item{guard}, true},
		"a terminated instance":               {[]Item{item(KindInstance, "i-1", "terminated"), guard}, true},
		"an instance on its way out":          {[]Item{item(KindInstance, "i-1", "shutting-down"), guard}, false},
		"a filter":                            {[]Item{item(KindFilter, "tmf-1", ""), guard}, false},
		"an interface of the same id":         {[]Item{item(KindInterface, "eni-1", "available"), guard}, false},
		"a session's schedule":                {[]Item{item(KindSessionSchedule, "tms-1", ""), guard}, false},
		"something that is not provably ours": {[]Item{{Resource: events.Resource{Kind: KindSecurityGroup, ID: "sg-1"}, Capture: capture, doubt: "its name"}, guard}, false},
	} {
		if got := only(row.items, guard); got != row.want {
			t.Errorf("%s: the guard may go: %t", name, got)
		}
	}
}

func TestCertify(t *testing.T) {
	session, schedule := item(KindSession, "tms-1", ""), item(KindSessionSchedule, "tms-1", "") // a schedule has its session's name
	instance, ended := item(KindInstance, "i-1", "running"), item(KindInstance, "i-1", "terminated")
	leaving := item(KindInstance, "i-1", "shutting-down")
	group, late := item(KindSecurityGroup, "sg-1", ""), item(KindFilter, "tmf-9", "")
	res := func(items ...Item) []events.Resource {
		list := []events.Resource{}
		for _, i := range items {
			list = append(list, i.Resource)
		}
		return list
	}
	refusedSession := session.Resource
	refusedSession.Reason = "its VNI"

	for name, row := range map[string]struct {
		before, after []Item
		refused       map[Item]string
		found, gone   []events.Resource
		remaining, no []events.Resource
	}{
		"nothing":                            {nil, nil, nil, res(), res(), res(), res()},
		"all gone":                           {[]Item{session, instance}, []Item{ended}, nil, res(session, instance), res(session, instance), res(), res()},
		"one on its way":                     {[]Item{instance, group}, []Item{leaving, group}, nil, res(instance, group), res(), res(leaving, group), res()},
		"terminated from the beginning":      {[]Item{ended}, []Item{ended}, nil, res(ended), res(ended), res(), res()},
		"the session gone, its schedule not": {[]Item{session, schedule}, []Item{schedule}, nil, res(session, schedule), res(session), res(schedule), res()},
		"the schedule gone, the session not": {[]Item{session, schedule}, []Item{session}, nil, res(session, schedule), res(schedule), res(session), res()},
		"the session refused, its schedule left": {[]Item{session, schedule}, []Item{session, schedule}, map[Item]string{session: "its VNI"},
			res(session, schedule), res(), res(schedule), []events.Resource{refusedSession}},
		"refused, and gone all the same":    {[]Item{session}, nil, map[Item]string{session: "its VNI"}, res(session), res(session), res(), res()},
		"made while the pass was under way": {[]Item{session}, []Item{late}, nil, res(session), res(session), res(late), res()},
	} {
		refused := map[string]string{}
		for i, why := range row.refused {
			refused[i.key()] = why
		}
		c := certify(capture, events.ByGuard, nil, row.before, row.after, refused)
		for what, pair := range map[string][2][]events.Resource{
			"found": {c.Found, row.found}, "gone": {c.Gone, row.gone}, "remaining": {c.Remaining, row.remaining}, "refused": {c.Refused, row.no},
		} {
			if !reflect.DeepEqual(pair[0], pair[1]) {
				t.Errorf("%s: %s %+v, want %+v", name, what, pair[0], pair[1])
			}
		}
		if c.Version != events.RecordVersion || c.Capture != capture || c.By != events.ByGuard || c.At.IsZero() {
			t.Errorf("%s: %+v", name, c)
		}
	}
}
