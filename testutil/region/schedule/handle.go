package schedule

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Handle answers one request of the Scheduler API whose members have AWS's names.
func (s *Service) Handle(operation string, params map[string]any) (map[string]any, error) {
	p := &members{values: params}
	var handler func(*members) (map[string]any, error)
	switch operation {
	case "CreateSchedule":
		handler = s.createSchedule
	case "GetSchedule":
		handler = s.getSchedule
	case "UpdateSchedule":
		handler = s.updateSchedule
	case "DeleteSchedule":
		handler = s.deleteSchedule
	case "ListSchedules":
		handler = s.listSchedules
	case "CreateScheduleGroup":
		handler = s.createScheduleGroup
	case "GetScheduleGroup":
		handler = s.getScheduleGroup
	default:
		return nil, &Error{code: "UnknownOperationException", message: "the operation " + operation + " is not known here", status: 404}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	answer, err := handler(p)
	if p.err != nil {
		return nil, p.err
	}
	if err != nil {
		return nil, err
	}
	return answer, nil
}

func (s *Service) createSchedule(p *members) (map[string]any, error) {
	k, token := p.key(), p.token()
	now := time.Now()
	r := p.request(now)
	if p.err != nil {
		return nil, p.err
	}
	if s.groups[k.group] == nil {
		return nil, notFound("Schedule group %s does not exist.", k.group)
	}
	if old := s.schedules[k]; old != nil {
		if token != "" && token == old.createToken {
			if reflect.DeepEqual(r, old.createdAs) {
				return map[string]any{"ScheduleArn": s.scheduleARN(k)}, nil
			}
			return nil, conflict("The client token %s was used with other parameters.", token)
		}
		return nil, conflict("Schedule %s already exists.", k.name)
	}
	each := &schedule{key: k, request: r, createdAs: r, createToken: token, created: now, modified: now}
	s.schedules[k] = each
	s.arm(each, now, true)
	return map[string]any{"ScheduleArn": s.scheduleARN(k)}, nil
}

// updateSchedule replaces everything: what the request does not name gets its default, whatever it was before.
func (s *Service) updateSchedule(p *members) (map[string]any, error) {
	k, token := p.key(), p.token()
	now := time.Now()
	r := p.request(now)
	each, err := s.existing(p, k)
	if err != nil {
		return nil, err
	}
	if token != "" && token == each.updateToken {
		if !reflect.DeepEqual(r, each.request) {
			return nil, conflict("The client token %s was used with other parameters.", token)
		}
		return map[string]any{"ScheduleArn": s.scheduleARN(k)}, nil
	}
	each.request, each.updateToken, each.modified = r, token, now
	s.arm(each, now, false)
	return map[string]any{"ScheduleArn": s.scheduleARN(k)}, nil
}

func (s *Service) getSchedule(p *members) (map[string]any, error) {
	k := p.key()
	each, err := s.existing(p, k)
	if err != nil {
		return nil, err
	}
	r := each.request
	answer := map[string]any{
		"Arn": s.scheduleARN(k), "GroupName": k.group, "Name": k.name,
		"CreationDate": each.created, "LastModificationDate": each.modified,
		"ScheduleExpression": r.text, "ScheduleExpressionTimezone": r.zone, "State": state(r.enabled),
		"ActionAfterCompletion": "NONE", "FlexibleTimeWindow": maps.Clone(r.window), "Target": r.target.members(),
	}
	if r.deleteAfter {
		answer["ActionAfterCompletion"] = "DELETE"
	}
	if r.description != "" {
		answer["Description"] = r.description
	}
	if r.kmsKey != "" {
		answer["KmsKeyArn"] = r.kmsKey
	}
	if !r.start.IsZero() {
		answer["StartDate"] = r.start
	}
	if !r.end.IsZero() {
		answer["EndDate"] = r.end
	}
	return answer, nil
}

// members completes the target with the retry policy that is in force.
func (t target) members() map[string]any {
	all := maps.Clone(t.parameters)
	all["RetryPolicy"] = map[string]any{
		"MaximumEventAgeInSeconds": int64(t.maxAge / time.Second), "MaximumRetryAttempts": int64(t.retries),
	}
	return all
}

func (s *Service) deleteSchedule(p *members) (map[string]any, error) {
	k, token := p.key(), p.token()
	if p.err != nil {
		return nil, p.err
	}
	if done, ok := s.deletions[token]; ok && token != "" && done == k && s.schedules[k] == nil {
		return map[string]any{}, nil
	}
	each, err := s.existing(p, k)
	if err != nil {
		return nil, err
	}
	each.disarm()
	delete(s.schedules, k)
	if token != "" {
		s.deletions[token] = k
	}
	return map[string]any{}, nil
}

func (s *Service) listSchedules(p *members) (map[string]any, error) {
	groupName := p.name("GroupName", false)
	prefix := p.name("NamePrefix", false)
	wanted := p.choice("State", "", "ENABLED", "DISABLED")
	most, limited := p.number("MaxResults", 1, 100)
	if !limited {
		most = 100
	}
	after, err := decodeToken(p.text("NextToken"))
	if p.err != nil || err != nil {
		return nil, cmp.Or(p.err, err)
	}
	if groupName != "" && s.groups[groupName] == nil {
		return nil, notFound("Schedule group %s does not exist.", groupName)
	}
	var keys []key
	for k, each := range s.schedules {
		if (groupName == "" || k.group == groupName) && strings.HasPrefix(k.name, prefix) &&
			(wanted == "" || wanted == state(each.request.enabled)) && (after == nil || compare(k, *after) > 0) {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, compare)
	answer := map[string]any{}
	if int64(len(keys)) > most {
		keys = keys[:most]
		answer["NextToken"] = encodeToken(keys[most-1])
	}
	list := []any{}
	for _, k := range keys {
		each := s.schedules[k]
		list = append(list, map[string]any{
			"Arn": s.scheduleARN(k), "GroupName": k.group, "Name": k.name, "State": state(each.request.enabled),
			"CreationDate": each.created, "LastModificationDate": each.modified,
			"Target": map[string]any{"Arn": each.request.target.arn},
		})
	}
	answer["Schedules"] = list
	return answer, nil
}

func compare(a, b key) int {
	return cmp.Or(cmp.Compare(a.group, b.group), cmp.Compare(a.name, b.name))
}

func encodeToken(k key) string {
	return base64.RawURLEncoding.EncodeToString([]byte(k.group + "/" + k.name))
}

func decodeToken(token string) (*key, error) {
	if token == "" {
		return nil, nil
	}
	plain, err := base64.RawURLEncoding.DecodeString(token)
	group, name, ok := strings.Cut(string(plain), "/")
	if err != nil || !ok {
		return nil, invalid("Invalid NextToken %s.", token)
	}
	return &key{group, name}, nil
}

func (s *Service) createScheduleGroup(p *members) (map[string]any, error) {
	name, token := p.name("Name", true), p.token()
	if p.err != nil {
		return nil, p.err
	}
	if old := s.groups[name]; old != nil {
		if token == "" || token != old.token || !reflect.DeepEqual(p.values["Tags"], old.tags) {
			return nil, conflict("Schedule group %s already exists.", name)
		}
		return map[string]any{"ScheduleGroupArn": s.groupARN(name)}, nil
	}
	if len(s.groups) >= maxGroups {
		return nil, &Error{code: "ServiceQuotaExceededException", message: fmt.Sprintf("There are %d schedule groups already.", maxGroups), status: 402}
	}
	s.groups[name] = &group{name: name, created: time.Now(), token: token, tags: p.values["Tags"]}
	return map[string]any{"ScheduleGroupArn": s.groupARN(name)}, nil
}

func (s *Service) getScheduleGroup(p *members) (map[string]any, error) {
	name := p.name("Name", true)
	if p.err != nil {
		return nil, p.err
	}
	g := s.groups[name]
	if g == nil {
		return nil, notFound("Schedule group %s does not exist.", name)
	}
	return map[string]any{
		"Arn": s.groupARN(name), "Name": name, "State": "ACTIVE", "CreationDate": g.created, "LastModificationDate": g.created,
	}, nil
}

func (s *Service) existing(p *members, k key) (*schedule, error) {
	if p.err != nil {
		return nil, p.err
	}
	if s.groups[k.group] == nil {
		return nil, notFound("Schedule group %s does not exist.", k.group)
	}
	each := s.schedules[k]
	if each == nil {
		return nil, notFound("Schedule %s does not exist.", k.name)
	}
	return each, nil
}

func state(enabled bool) string {
	if enabled {
		return "ENABLED"
	}
	return "DISABLED"
}
