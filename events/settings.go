package events

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"sort"
	"strconv"
	"strings"
	"time"
)

// Settings are what a deployment tells its Lambdas, through environment variables. They are read once at the door
// (ParseSettings) and passed by value.
type Settings struct {
	Deployment string `env:"FLASHTAP_DEPLOYMENT"` // several deployments may share an account
	Account    string `env:"FLASHTAP_ACCOUNT"`
	Region     string `env:"AWS_REGION"`
	Bucket     string `env:"FLASHTAP_BUCKET"`

	StateMachineARN string `env:"FLASHTAP_STATE_MACHINE_ARN"`
	IntakeQueueURL  string `env:"FLASHTAP_INTAKE_QUEUE_URL"`
	WaitingQueueURL string `env:"FLASHTAP_WAITING_QUEUE_URL"`
	EventBus        string `env:"FLASHTAP_EVENT_BUS"`

	ScheduleGroup   string `env:"FLASHTAP_SCHEDULE_GROUP"`
	ScheduleRoleARN string `env:"FLASHTAP_SCHEDULE_ROLE_ARN"`
	TeardownARN     string `env:"FLASHTAP_TEARDOWN_ARN"`

	LaunchTemplateID       string            `env:"FLASHTAP_LAUNCH_TEMPLATE_ID"`
	LaunchTemplateVersion  string            `env:"FLASHTAP_LAUNCH_TEMPLATE_VERSION"`
	InstanceProfileARN     string            `env:"FLASHTAP_INSTANCE_PROFILE_ARN"`
	CollectorRoleID        string            `env:"FLASHTAP_COLLECTOR_ROLE_ID"`
	InstanceTypes          []string          `env:"FLASHTAP_INSTANCE_TYPES"`           // in order of preference
	Images                 map[string]string `env:"FLASHTAP_IMAGES"`                   // image id by architecture
	BinaryKeys             map[string]string `env:"FLASHTAP_BINARY_KEYS"`              // object key of the collector by architecture
	BinaryDigests          map[string]string `env:"FLASHTAP_BINARY_DIGESTS"`           // its SHA-256 by architecture, hexadecimal
	VPCs                   []string          `env:"FLASHTAP_VPCS"`                     // ids; when there are any, suspects must be in one of them
	OptOutTag              string            `env:"FLASHTAP_OPT_OUT_TAG"`              // tag key; what bears it with value "true" is never captured; "": no such rule
	Tags                   map[string]string `env:"FLASHTAP_TAGS"`                     // on everything that is made for a capture, beside ours
	AllowSamples           bool              `env:"FLASHTAP_ALLOW_SAMPLES"`            // capture for sample findings, to rehearse
	MaxCaptures            int               `env:"FLASHTAP_MAX_CAPTURES"`             // at once, in this deployment
	MaxInterfaces          int               `env:"FLASHTAP_MAX_INTERFACES"`           // captures started for one finding
	DurationSeconds        int               `env:"FLASHTAP_DURATION_SECONDS"`         // when the request says nothing
	MaxBytes               int64             `env:"FLASHTAP_MAX_BYTES"`                // when the request says nothing
	PacketLength           int32             `env:"FLASHTAP_PACKET_LENGTH"`            // when the request says nothing; 0: whole packets
	Filter                 *Filter           `env:"FLASHTAP_FILTER"`                   // as JSON, of the profile custom when the request has none
	Profile                string            `env:"FLASHTAP_PROFILE"`                  // when the request says nothing
	ControlCIDRs           []string          `env:"FLASHTAP_CONTROL_CIDRS"`            // when the request says nothing
	AllowTemporaryEndpoint bool              `env:"FLASHTAP_ALLOW_TEMPORARY_ENDPOINT"` // for every capture
	BucketKeyARN           string            `env:"FLASHTAP_BUCKET_KEY_ARN"`           // KMS key of the evidence bucket
	VolumeKeyARN           string            `env:"FLASHTAP_VOLUME_KEY_ARN"`           // KMS key of collectors' disks; "": the account's own
	Roles                  map[string]string `env:"FLASHTAP_ROLES"`                    // ARNs of the roles whose rights preflight simulates, by step
	SigningKeyARN          string            `env:"FLASHTAP_SIGNING_KEY_ARN"`          // KMS key (ECC_NIST_P256) that signs manifests
	WitnessTopicARN        string            `env:"FLASHTAP_WITNESS_TOPIC_ARN"`        // SNS topic that is told the digest of every manifest; "": none
	DrainSeconds           int               `env:"FLASHTAP_DRAIN_SECONDS"`
	SegmentBytes           int64             `env:"FLASHTAP_SEGMENT_BYTES"`
	SegmentSeconds         int               `env:"FLASHTAP_SEGMENT_SECONDS"`
	CheckpointSeconds      int               `env:"FLASHTAP_CHECKPOINT_SECONDS"`
	CollectorPollSeconds   int               `env:"FLASHTAP_COLLECTOR_POLL_SECONDS"`
	SpoolBytes             int64             `env:"FLASHTAP_SPOOL_BYTES"`
	PollSeconds            int               `env:"FLASHTAP_POLL_SECONDS"`      // between looks, in the first 5 minutes of a phase
	SlowPollSeconds        int               `env:"FLASHTAP_SLOW_POLL_SECONDS"` // afterwards
	ReadySeconds           int               `env:"FLASHTAP_READY_SECONDS"`     // how long a collector may take to become ready
	ProofSeconds           int               `env:"FLASHTAP_PROOF_SECONDS"`     // how long to wait for the first packet
}

// DefaultSettings holds every default. What has none must be set by the deployment.
func DefaultSettings() Settings {
	c := DefaultCollectorConfig()
	return Settings{
		LaunchTemplateVersion: "$Latest",
		InstanceTypes:         []string{"c7gn.large", "c6gn.large", "c6in.large", "c7g.large", "c7i.large"},
		MaxCaptures:           10,
		MaxInterfaces:         4,
		DurationSeconds:       900,
		MaxBytes:              50 << 30,
		DrainSeconds:          c.DrainSeconds,
		SegmentBytes:          c.SegmentBytes,
		SegmentSeconds:        c.SegmentSeconds,
		CheckpointSeconds:     c.CheckpointSeconds,
		CollectorPollSeconds:  c.PollSeconds,
		SpoolBytes:            c.SpoolBytes,
		PollSeconds:           15,
		SlowPollSeconds:       60,
		ReadySeconds:          300,
		ProofSeconds:          120,
	}
}

// ParseSettings reads the environment over the defaults. It names every variable that can't be read.
func ParseSettings(getenv func(string) string) (Settings, error) {
	s := DefaultSettings()
	var errs []error
	s.eachField(func(name string, field reflect.Value) {
		if text := getenv(name); text != "" {
			if err := setField(field, text); err != nil {
				errs = append(errs, fmt.Errorf("setting %s=%q: %w", name, text, err))
			}
		}
	})
	return s, errors.Join(errs...)
}

// Validate names every setting with which no step could work: an interval of nothing would never wait.
func (s Settings) Validate() error {
	var errs []error
	for name, value := range map[string]int{
		"FLASHTAP_MAX_CAPTURES": s.MaxCaptures, "FLASHTAP_MAX_INTERFACES": s.MaxInterfaces, "FLASHTAP_DURATION_SECONDS": s.DurationSeconds,
		"FLASHTAP_DRAIN_SECONDS": s.DrainSeconds, "FLASHTAP_SEGMENT_SECONDS": s.SegmentSeconds, "FLASHTAP_CHECKPOINT_SECONDS": s.CheckpointSeconds,
		"FLASHTAP_COLLECTOR_POLL_SECONDS": s.CollectorPollSeconds, "FLASHTAP_POLL_SECONDS": s.PollSeconds,
		"FLASHTAP_SLOW_POLL_SECONDS": s.SlowPollSeconds, "FLASHTAP_READY_SECONDS": s.ReadySeconds, "FLASHTAP_PROOF_SECONDS": s.ProofSeconds,
	} {
		if value < 1 {
			errs = append(errs, fmt.Errorf("setting %s is %d: want 1 or more", name, value))
		}
	}
	return errors.Join(errs...)
}

// Environ is the environment that makes ParseSettings return s.
func (s Settings) Environ() map[string]string {
	env := map[string]string{}
	s.eachField(func(name string, field reflect.Value) {
		if text := fieldText(field); text != "" {
			env[name] = text
		}
	})
	return env
}

// Require says which of the named settings are missing, so that a step refuses to start half configured.
func (s Settings) Require(names ...string) error {
	env := s.Environ()
	var errs []error
	for _, name := range names {
		if env[name] == "" {
			errs = append(errs, fmt.Errorf("setting %s is missing: the deployment must give it", name))
		}
	}
	return errors.Join(errs...)
}

func (s *Settings) eachField(visit func(name string, field reflect.Value)) {
	v := reflect.ValueOf(s).Elem()
	for i := range v.NumField() {
		visit(v.Type().Field(i).Tag.Get("env"), v.Field(i))
	}
}

func setField(field reflect.Value, text string) error {
	switch field.Kind() {
	case reflect.String:
		field.SetString(text)
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return errors.New("want true or false")
		}
		field.SetBool(b)
	case reflect.Int, reflect.Int32, reflect.Int64:
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 0 || field.OverflowInt(n) {
			return errors.New("want a whole number of 0 or more")
		}
		field.SetInt(n)
	case reflect.Slice:
		field.Set(reflect.ValueOf(strings.Split(text, ",")))
	case reflect.Map:
		m := map[string]string{}
		for _, pair := range strings.Split(text, ",") {
			key, value, found := strings.Cut(pair, "=")
			if !found {
				return errors.New("want name=value,name=value")
			}
			m[key] = value
		}
		field.Set(reflect.ValueOf(m))
	case reflect.Pointer:
		value := reflect.New(field.Type().Elem())
		dec := json.NewDecoder(strings.NewReader(text))
		dec.DisallowUnknownFields()
		if err := dec.Decode(value.Interface()); err != nil {
			return fmt.Errorf("want JSON: %w", err)
		}
		field.Set(value)
	default:
		return fmt.Errorf("a setting of kind %s has no text form", field.Kind())
	}
	return nil
}

func fieldText(field reflect.Value) string {
	switch v := field.Interface().(type) {
	case []string:
		return strings.Join(v, ",")
	case map[string]string:
		var pairs []string
		for key, value := range v {
			pairs = append(pairs, key+"="+value)
		}
		sort.Strings(pairs)
		return strings.Join(pairs, ",")
	case *Filter:
		if v == nil {
			return ""
		}
		text, err := json.Marshal(v)
		if err != nil {
			return "" // a Filter holds only what JSON has words for
		}
		return string(text)
	default:
		if field.IsZero() && field.Kind() == reflect.String {
			return ""
		}
		return fmt.Sprint(v)
	}
}

// Options fills what the request left open, and caps the duration. A filter without a profile means the profile custom, in the
// request as in the deployment. The deployment's packet length goes with its own profile and with filters, which have none; another
// profile brings its own.
func (s Settings) Options(o Options) Options {
	if o.DurationSeconds == 0 {
		o.DurationSeconds = s.DurationSeconds
	}
	o.DurationSeconds = min(o.DurationSeconds, int(MaxDuration/time.Second))
	if o.MaxBytes == 0 {
		o.MaxBytes = s.MaxBytes
	}
	own := s.profile()
	if o.Profile == "" && o.Filter != nil {
		o.Profile = ProfileCustom
	}
	if o.Profile == "" {
		o.Profile = own
	}
	if o.Profile == ProfileCustom && o.Filter == nil {
		o.Filter = s.Filter
	}
	if o.PacketLength == 0 && (o.Profile == own || o.Profile == ProfileCustom) {
		o.PacketLength = s.PacketLength
	}
	if len(o.ControlCIDRs) == 0 {
		o.ControlCIDRs = s.ControlCIDRs
	}
	o.AllowTemporaryEndpoint = o.AllowTemporaryEndpoint || s.AllowTemporaryEndpoint
	return o
}

// profile is the one that the deployment means.
func (s Settings) profile() string {
	switch {
	case s.Profile != "":
		return s.Profile
	case s.Filter != nil:
		return ProfileCustom
	}
	return ProfileEverything
}
