// Package ec2 is Amazon EC2 on one machine: instances, interfaces, security groups
// and traffic mirroring with the rules, quotas, delays and errors of the real one.
//
// RULES.md lists the rules it keeps, where each is documented and which test
// covers it.
package ec2

import (
	"errors"
	"io"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"time"

	"flashtap/testutil/region/model"
)

// Config says what region a Service plays.
type Config struct {
	Account string // default 123456789012
	Region  string // default us-east-1
	Zones   []string

	// Now is the clock behind every time and delay that answers show. Timers run
	// on the real clock, or on the one of a testing/synctest bubble.
	Now func() time.Time

	// Consistency is how long a new resource stays unknown to other calls.
	Consistency time.Duration
	// Pending, ShuttingDown and Stopping are the times an instance spends in these
	// states. A guest that powers itself off ends the last two early.
	Pending, ShuttingDown, Stopping time.Duration
	// TerminatedVisible is how long a terminated instance is still described;
	// default one hour.
	TerminatedVisible time.Duration
	// EndpointDelay is the time that making and deleting a VPC endpoint takes.
	EndpointDelay time.Duration

	// OuterIPv6 has mirrored copies travel between the interfaces' IPv6 addresses.
	OuterIPv6 bool

	// DocumentedNotFound makes the traffic-mirror operations spell "not found" as
	// the API reference does, in place of what is seen in practice.
	DocumentedNotFound bool
	// ResolveParameter answers resolve:ssm: image ids.
	ResolveParameter func(name string) (value string, ok bool)

	Limits Limits
	Hooks  Hooks

	// Fault is asked before each operation; its error is the answer in place of
	// the operation's. LoseAnswer lets the operation take effect all the same.
	Fault func(*model.Call) error
}

// Limits are an account's quotas. A zero means the default that newLimits names.
type Limits struct {
	VCPUs               int // of running instances; default unlimited
	SecurityGroupsInVPC int
	RulesInGroup        int
	GroupsOnInterface   int
	MirrorSessions      int
	MirrorTargets       int
	MirrorFilters       int
}

// Hooks tell the rest of the region what happens. They are called in the order
// of the changes, without the service's lock, before the call that made the
// change returns; Boot and Stop have goroutines of their own.
type Hooks struct {
	// Boot is called when an instance becomes running. An error ends the instance.
	Boot func(Instance) error
	// Stop is the ACPI signal by which EC2 asks a guest to power off.
	Stop func(instanceID string)
	// Tagged tells all tags of an instance after they changed.
	Tagged func(instanceID string, tags map[string]string)
	// Mirrors tells all sessions, and what loses their copies, after any change that affects mirroring.
	Mirrors func([]MirrorSession)
	// Event is a message on the default event bus.
	Event func(source, detailType string, detail any)
}

// StateChange is the detail of the event "EC2 Instance State-change Notification".
type StateChange struct {
	InstanceID string `json:"instance-id"`
	State      string `json:"state"`
}

// Service is one account's EC2 in one region.
type Service struct {
	cfg Config

	mu         sync.Mutex
	closed     bool
	timers     map[*time.Timer]bool
	serial     uint64 // of ids and of the order of resources
	all        map[string]resource
	tokens     map[string]*remembered
	terminated map[string]bool // instances, also those no longer described
	profiles   map[string]Profile
	balancers  map[string]bool
	prefixes   map[string]string // service name to prefix list id
	capacity   map[capacityKey]int
	offers     map[capacityKey]bool
	console    map[string]string
	calls      []Record
	violations []error
	mirrors    []MirrorSession // as last told to the hook

	outbox   []func()
	delivers bool
}

// Record is one call as it was answered.
type Record struct {
	At        time.Time
	Principal string
	Operation string
	Params    map[string]any
	Err       error
}

// New returns an EC2 with zones and the gateway prefix lists, and nothing else.
func New(cfg Config) *Service {
	if cfg.Account == "" {
		cfg.Account = "123456789012"
	}
	if cfg.Region == "" {
		cfg.Region = "us-east-1"
	}
	if len(cfg.Zones) == 0 {
		cfg.Zones = []string{cfg.Region + "a", cfg.Region + "b", cfg.Region + "c"}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.TerminatedVisible == 0 {
		cfg.TerminatedVisible = time.Hour
	}
	cfg.Limits = newLimits(cfg.Limits)
	s := &Service{
		cfg: cfg, timers: map[*time.Timer]bool{}, all: map[string]resource{}, tokens: map[string]*remembered{},
		terminated: map[string]bool{}, profiles: map[string]Profile{}, balancers: map[string]bool{},
		prefixes: map[string]string{}, capacity: map[capacityKey]int{}, offers: map[capacityKey]bool{}, console: map[string]string{},
		mirrors: []MirrorSession{},
	}
	s.addGatewayPrefixLists()
	return s
}

// newLimits fills in the defaults: Amazon VPC quotas ("Amazon VPC quotas",
// security groups) and traffic-mirroring-quotas.
func newLimits(l Limits) Limits {
	for _, d := range []struct {
		limit  *int
		amount int
	}{{&l.SecurityGroupsInVPC, 2500}, {&l.RulesInGroup, 60}, {&l.GroupsOnInterface, 5},
		{&l.MirrorSessions, 10000}, {&l.MirrorTargets, 10000}, {&l.MirrorFilters, 10000}} {
		if *d.limit == 0 {
			*d.limit = d.amount
		}
	}
	return l
}

// Close stops all timers. What has not happened by then never does.
func (s *Service) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for timer := range s.timers {
		timer.Stop()
	}
}

// request is one call while it is handled.
type request struct {
	params
	service   *Service
	call      *model.Call
	principal string
	now       time.Time
}

// Handle answers a decoded call. An error is an *APIError, or what Fault returned.
func (s *Service) Handle(call *model.Call, principal string) (map[string]any, error) {
	var lost *lostAnswer
	if s.cfg.Fault != nil {
		if err := s.cfg.Fault(call); err != nil && !errors.As(err, &lost) {
			s.record(call, principal, err)
			return nil, err
		}
	}
	s.mu.Lock()
	result, err := s.perform(&request{params: call.Params, service: s, call: call, principal: principal, now: s.cfg.Now()})
	s.unlock()
	if lost != nil && err == nil {
		result, err = nil, lost.cause
	}
	s.record(call, principal, err)
	return result, err
}

func (s *Service) perform(r *request) (map[string]any, error) {
	do := operations[r.call.Operation]
	if do == nil {
		return nil, apiError("UnsupportedOperation", "the local region has no %s", r.call.Operation)
	}
	for _, parameter := range without[r.call.Operation] {
		if value, given := r.params[parameter]; given && value != false {
			return nil, unsupported(parameter)
		}
	}
	if r.flag("DryRun") {
		return nil, &APIError{Code: "DryRunOperation", Message: "Request would have succeeded, but DryRun flag is set.", Status: http.StatusPreconditionFailed}
	}
	return do(s, r)
}

func (s *Service) record(call *model.Call, principal string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, Record{At: s.cfg.Now(), Principal: principal, Operation: call.Operation, Params: call.Params, Err: err})
}

// Calls returns every call so far in the order of its answer.
func (s *Service) Calls() []Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Record(nil), s.calls...)
}

// Violations returns every request which ServeHTTP refused because AWS's service
// model does, and every answer of its own which the model does not allow.
func (s *Service) Violations() []error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]error(nil), s.violations...)
}

// unlock ends a change: it releases the lock and then calls the hooks the change
// has earned, in order.
func (s *Service) unlock() {
	if s.cfg.Hooks.Mirrors != nil {
		if now := s.sessionsNow(); !reflect.DeepEqual(now, s.mirrors) {
			s.mirrors = now
			s.outbox = append(s.outbox, func() { s.cfg.Hooks.Mirrors(now) })
		}
	}
	// A hook may call the service again: whoever delivers goes on until nothing is
	// left, and nobody waits for him.
	if s.delivers {
		s.mu.Unlock()
		return
	}
	s.delivers = true
	for len(s.outbox) > 0 {
		tell := s.outbox[0]
		s.outbox = s.outbox[1:]
		s.mu.Unlock()
		tell()
		s.mu.Lock()
	}
	s.delivers = false
	s.mu.Unlock()
}

// later runs a change after a delay.
func (s *Service) later(delay time.Duration, change func()) {
	var timer *time.Timer
	ready := make(chan struct{})
	timer = time.AfterFunc(delay, func() {
		<-ready
		s.mu.Lock()
		delete(s.timers, timer)
		if !s.closed {
			change()
		}
		s.unlock()
	})
	s.timers[timer] = true
	close(ready)
}

// ServeHTTP lets the service be used alone by the SDK's clients. The principal is
// the access key of the request's signature.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	wire := model.MustLoad("ec2")
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	requestID := s.newID("req").id
	s.mu.Unlock()
	answer, err := s.answer(wire, r, body, requestID)
	if err != nil {
		if errors.Is(err, errDropped) {
			panic(http.ErrAbortHandler) // net/http's way to close the connection unanswered
		}
		api := asAPIError(err)
		answer = wire.EncodeError(api.Code, api.Message, requestID, api.Status)
	}
	// The client may be gone by now, which harms nobody.
	_ = answer.Send(w)
}

func (s *Service) answer(wire *model.Service, r *http.Request, body []byte, requestID string) (model.Answer, error) {
	call, err := wire.Decode(r, body)
	if err != nil {
		s.violated(err)
		return model.Answer{}, err
	}
	result, err := s.Handle(call, accessKey(r))
	if err != nil {
		return model.Answer{}, err
	}
	answer, err := wire.Encode(call.Operation, result, requestID)
	if err != nil {
		s.violated(err)
	}
	return answer, err
}

func (s *Service) violated(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.violations = append(s.violations, err)
}

func accessKey(r *http.Request) string {
	_, credential, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
	key, _, _ := strings.Cut(credential, "/")
	return key
}
