// Package config is what a deployment can be told: read from the context of the CDK app, checked, and turned into names,
// settings, rules and the launch template. It knows nothing of CDK, so that the local region reads the same.
package config

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"flashtap/events"
	"flashtap/infra/policy"
)

// Config is what a deployment is told.
type Config struct {
	Deployment string // its id: begins every name, and is the value of every tag

	// Evidence.
	RetentionMode  string // Governance, Compliance or NoLock
	RetentionDays  int    // how long an object can't be deleted
	TierDays       int    // after how many days segments move to a cheaper storage class; 0: never
	ExpireDays     int    // after how many days evidence is deleted; 0: never
	EvidenceBucket string // name of an existing bucket, perhaps of another account; "": one is made
	EvidenceKey    string // ARN of an existing KMS key; "": one is made
	AccessLogging  string // ToS3, ToCloudTrail or NoLogging
	WitnessTopic   string // ARN of an SNS topic, best of another account, that is told the digest of every manifest; "": none
	BreakGlass     []string
	LogDays        int // how long logs are kept

	// What starts captures.
	MinSeverity       float64  // of GuardDuty findings
	FindingTypes      []string // of GuardDuty findings; "prefix*" or the whole type; none: all
	SampleFindings    bool     // capture for sample findings, too
	SecurityHubAction bool     // make the custom action
	InstanceEvents    bool     // sweep whenever an instance of the account terminates
	Paused            bool     // nothing new starts

	// What may be captured, and how.
	VPCs            []string // ids; when there are any, suspects must be in one of them
	OptOutTag       string   // suspects that bear this tag with value "true" are never captured; "": no such rule
	MaxCaptures     int
	MaxInterfaces   int
	DurationSeconds int
	MaxBytes        int64
	PacketLength    int32
	Filter          *events.Filter
	Profile         string   // what is mirrored: one of events' profiles; "": everything, or the filter if there is one
	ControlCIDRs    []string // where the operators' own SSH and RDP come from: left out of captures

	AllowTemporaryEndpoint bool // a capture may make an S3 interface endpoint where no other way to S3 is

	InstanceTypes []string
	SpoolGiB      int
	VolumeKey     string // ARN of the KMS key of collectors' disks; "": the account's default key for EBS, which must be AWS's own then

	// The account.
	Tags                map[string]string // on all that the stacks make
	PermissionsBoundary string            // ARN or name of a policy
	AlertTopic          string            // ARN of an existing topic; "": one is made
	AlarmEmail          string
	CaptureHourUSD      float64 // what an hour of instance and mirror session costs here, for the dashboard; 0: it shows no money
	HubAccount          string  // account that may start and watch captures here: the spoke stack is made for it
	BuildDir            string  // where `make build` has put the programs
}

// Modes of retention (S3 User Guide, "Locking objects with Object Lock"), and none.
const (
	Governance = "governance"
	Compliance = "compliance"
	NoLock     = "none"
)

// Where accesses to the evidence are logged.
const (
	ToS3         = "s3"
	ToCloudTrail = "cloudtrail"
	NoLogging    = "none"
)

// Default holds every default. cdk.json repeats them, so that a reader of it sees what there is to set.
func Default() Config {
	s := events.DefaultSettings()
	return Config{
		Deployment: "main", RetentionMode: Governance, RetentionDays: 90, TierDays: 30, AccessLogging: ToS3, LogDays: 180,
		MinSeverity: 4, SecurityHubAction: true, InstanceEvents: true, OptOutTag: "flashtap:opt-out",
		MaxCaptures: s.MaxCaptures, MaxInterfaces: s.MaxInterfaces, DurationSeconds: s.DurationSeconds, MaxBytes: s.MaxBytes,
		InstanceTypes: s.InstanceTypes, SpoolGiB: int(s.SpoolBytes >> 30), BuildDir: "build",
	}
}

// maxDeployment leaves the longest of all names, "flashtap-<id>-collector-ap-southeast-1" of an IAM role, within IAM's 64
// characters (IAM User Guide, "IAM and AWS STS quotas").
const maxDeployment = 20

// The forms of what is configured.
var (
	deploymentForm = regexp.MustCompile(`^[a-z][a-z0-9]*$`) // no dash: "flashtap-a-*" must not mean the rules of "a-b"
	vpcForm        = regexp.MustCompile(`^vpc-[0-9a-f]{8}([0-9a-f]{9})?$`)
	accountForm    = regexp.MustCompile(`^[0-9]{12}$`)
	keyForm        = regexp.MustCompile(`^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+$`)
	topicForm      = regexp.MustCompile(`^arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,256}$`)
	principalForm  = regexp.MustCompile(`^arn:aws[a-z-]*:iam::[0-9]{12}:(root|(role|user)/[A-Za-z0-9+=,.@_/*-]+)$`)
	bucketForm     = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	boundaryForm   = regexp.MustCompile(`^(arn:aws[a-z-]*:iam::([0-9]{12}|aws):policy/)?[A-Za-z0-9+=,.@_/-]+$`)
	emailForm      = regexp.MustCompile(`^[^@\s]+@[^@\s]+$`)
	typeForm       = regexp.MustCompile(`^[A-Za-z0-9:/!&._-]+\*?$`)
	instanceForm   = regexp.MustCompile(`^[a-z][a-z0-9-]*\.[a-z0-9-]+$`)

	// Instance metadata serves only tags whose keys consist of these characters (EC2 User Guide, "View tags for your EC2
	// instances using instance metadata"), and refuses an instance with others. "." and ".." are paths there.
	tagKeyForm   = regexp.MustCompile(`^[A-Za-z0-9+=.,_:@-]{1,128}$`)
	tagValueForm = regexp.MustCompile(`^[\p{L}\p{Z}\p{N}_.:/=+@-]{0,256}$`)
)

// logDays are the retentions that CloudWatch Logs knows (CloudWatch Logs API Reference, PutRetentionPolicy).
var logDays = []int{1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653}

// Validate names every key that is wrong and what would be right.
func (c Config) Validate() error {
	var errs []error
	bad := func(key, format string, args ...any) {
		errs = append(errs, fmt.Errorf("context %s: %s", key, fmt.Sprintf(format, args...)))
	}
	c.validateEvidence(bad)
	c.validateCaptures(bad)
	c.validateAccount(bad)
	if n, err := c.settingsSize(); err != nil {
		errs = append(errs, fmt.Errorf("settings: %w", err))
	} else if n > mostSettings {
		bad("tags, vpcs and filter", "with them the settings have %d bytes, and Lambda takes %d: leave some out", n, mostSettings)
	}
	return errors.Join(errs...)
}

type complain func(key, format string, args ...any)

func (c Config) validateEvidence(bad complain) {
	if !slices.Contains([]string{Governance, Compliance, NoLock}, c.RetentionMode) {
		bad("retentionMode", "%q: want %s, %s or %s", c.RetentionMode, Governance, Compliance, NoLock)
	}
	const century = 36500 // S3 User Guide, "Object Lock": default retention of up to 100 years
	if c.RetentionMode != NoLock && (c.RetentionDays < 1 || c.RetentionDays > century) {
		bad("retentionDays", "%d: want 1 to %d", c.RetentionDays, century)
	}
	if c.ExpireDays < 0 || c.ExpireDays > 0 && c.RetentionMode != NoLock && c.ExpireDays < c.RetentionDays {
		bad("expireDays", "%d: want 0 (never), or no less than retentionDays (%d), before which nothing can be deleted", c.ExpireDays, c.RetentionDays)
	}
	if c.TierDays < 0 || c.ExpireDays > 0 && c.TierDays >= c.ExpireDays {
		bad("tierDays", "%d: want 0 (never), or less than expireDays (%d)", c.TierDays, c.ExpireDays)
	}
	if !slices.Contains([]string{ToS3, ToCloudTrail, NoLogging}, c.AccessLogging) {
		bad("accessLogging", "%q: want %s, %s or %s", c.AccessLogging, ToS3, ToCloudTrail, NoLogging)
	}
	if c.EvidenceBucket != "" && !bucketForm.MatchString(c.EvidenceBucket) {
		bad("evidenceBucket", "%q: want the name of a bucket", c.EvidenceBucket)
	}
	if c.EvidenceKey != "" && !keyForm.MatchString(c.EvidenceKey) {
		bad("evidenceKey", "%q: want the ARN of a KMS key, not of an alias", c.EvidenceKey)
	}
	if c.EvidenceBucket != "" && c.EvidenceKey == "" {
		bad("evidenceKey", "want the ARN of the KMS key with which %s is encrypted, since statements name it", c.EvidenceBucket)
	}
	if c.EvidenceBucket != "" && c.AccessLogging != NoLogging {
		bad("accessLogging", "%q: want %s: what is logged about an existing bucket is its owner's", c.AccessLogging, NoLogging)
	}
	if c.WitnessTopic != "" && (!topicForm.MatchString(c.WitnessTopic) || strings.HasSuffix(c.WitnessTopic, ".fifo")) {
		bad("witnessTopic", "%q: want the ARN of a standard SNS topic", c.WitnessTopic)
	}
	for _, p := range c.BreakGlass {
		if !principalForm.MatchString(p) {
			bad("breakGlass", "%q: want ARNs of roles or users, not of sessions; a * may end one", p)
		}
	}
	if !slices.Contains(logDays, c.LogDays) {
		bad("logDays", "%d: CloudWatch Logs knows %v", c.LogDays, logDays)
	}
}

func (c Config) validateCaptures(bad complain) {
	if c.MinSeverity < 0 || c.MinSeverity > 10 {
		bad("minSeverity", "%v: want 0 to 10, GuardDuty's scale", c.MinSeverity)
	}
	for _, t := range c.FindingTypes {
		if !typeForm.MatchString(t) {
			bad("findingTypes", "%q: want types such as Backdoor:EC2/C&CActivity.B, or beginnings such as Backdoor:EC2/*", t)
		}
	}
	for _, v := range c.VPCs {
		if !vpcForm.MatchString(v) {
			bad("vpcs", "%q: want ids such as vpc-0a1b2c3d4e5f60718", v)
		}
	}
	if len(c.VPCs) > policy.MaxVPCs {
		bad("vpcs", "%d: want %d at most, or the policies that name them outgrow IAM's quota", len(c.VPCs), policy.MaxVPCs)
	}
	if c.OptOutTag != "" && !tagKeyForm.MatchString(c.OptOutTag) {
		bad("optOutTag", "%q: want a tag key of letters, digits and +=.,_:@-", c.OptOutTag)
	}
	for key, n := range map[string]int{"maxCaptures": c.MaxCaptures, "maxInterfaces": c.MaxInterfaces, "spoolGiB": c.SpoolGiB} {
		if n < 1 {
			bad(key, "%d: want 1 or more", n)
		}
	}
	if c.SpoolGiB > maxSpoolGiB {
		bad("spoolGiB", "%d: want %d at most", c.SpoolGiB, maxSpoolGiB)
	}
	if c.DurationSeconds < 1 || c.MaxBytes < 1 {
		bad("durationSeconds and maxBytes", "%d and %d: want more than 0", c.DurationSeconds, c.MaxBytes)
	}
	options := events.Options{DurationSeconds: c.DurationSeconds, MaxBytes: c.MaxBytes, PacketLength: c.PacketLength, Filter: c.Filter,
		Profile: c.Profile, ControlCIDRs: c.ControlCIDRs}
	if c.Profile == events.ProfileCustom && c.Filter == nil {
		bad("profile", "%q: want a filter beside it", c.Profile)
	}
	if err := options.Validate(); err != nil {
		bad("of what captures are by default", "%s", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	if c.VolumeKey != "" && !keyForm.MatchString(c.VolumeKey) {
		bad("volumeKey", "%q: want the ARN of a KMS key, not of an alias", c.VolumeKey)
	}
	if len(c.InstanceTypes) == 0 {
		bad("instanceTypes", "want at least one, in order of preference")
	}
	for _, t := range c.InstanceTypes {
		if !instanceForm.MatchString(t) {
			bad("instanceTypes", "%q: want types such as c7gn.large", t)
		}
	}
}

func (c Config) validateAccount(bad complain) {
	if !deploymentForm.MatchString(c.Deployment) || len(c.Deployment) > maxDeployment {
		bad("deployment", "%q: want lower-case letters and digits, a letter first, %d characters at most", c.Deployment, maxDeployment)
	}
	const mostTags = 40 // of AWS's 50 on most resources, less ours (AWS General Reference, "Tagging AWS resources")
	if len(c.Tags) > mostTags {
		bad("tags", "%d: want %d at most", len(c.Tags), mostTags)
	}
	for key, value := range c.Tags {
		lower := strings.ToLower(key)
		switch {
		case !tagKeyForm.MatchString(key) || key == "." || key == ".." || key == "_index":
			bad("tags", "key %q: want letters, digits and +=.,_:@- alone; instance metadata refuses \"/\" and spaces", key)
		case strings.HasPrefix(lower, "aws:") || strings.HasPrefix(lower, "flashtap:"):
			bad("tags", "key %q: aws: and flashtap: are taken", key)
		case !tagValueForm.MatchString(value):
			bad("tags", "value %q of %s: AWS takes letters, digits, spaces and _.:/=+@-, 256 at most", value, key)
		}
	}
	if c.PermissionsBoundary != "" && !boundaryForm.MatchString(c.PermissionsBoundary) {
		bad("permissionsBoundary", "%q: want the name or the ARN of a managed policy", c.PermissionsBoundary)
	}
	if c.AlertTopic != "" && !topicForm.MatchString(c.AlertTopic) {
		bad("alertTopic", "%q: want the ARN of a standard SNS topic", c.AlertTopic)
	}
	if c.AlarmEmail != "" && !emailForm.MatchString(c.AlarmEmail) {
		bad("alarmEmail", "%q: want an e-mail address", c.AlarmEmail)
	}
	if c.AlarmEmail != "" && c.AlertTopic != "" {
		bad("alarmEmail", "want none: subscriptions of the existing topic are its owner's")
	}
	if c.CaptureHourUSD < 0 || c.CaptureHourUSD > 1000 {
		bad("captureHourUSD", "%v: want the price of an hour in USD, or 0", c.CaptureHourUSD)
	}
	if c.HubAccount != "" && !accountForm.MatchString(c.HubAccount) {
		bad("hubAccount", "%q: want 12 digits", c.HubAccount)
	}
	if c.BuildDir == "" {
		bad("buildDir", "want the folder into which `make build` has put the programs")
	}
}
