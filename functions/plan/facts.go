package plan

import (
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"flashtap/events"
)

// Facts are what AWS says about the suspect and its surroundings at the moment of planning. Package survey gathers them.
type Facts struct {
	Settings  events.Settings
	Tool      string
	Request   events.Request // with the capture id fixed
	Start     time.Time      // of the capture: its id's
	Now       time.Time
	Interface types.NetworkInterface
	Why       string          // how the interface was found
	Instance  *types.Instance // with all its interfaces; nil when the interface is attached to none that we can see

	Finding Answer[*events.Finding] // what started the capture; nil and known: it was asked for by hand

	Sessions []types.TrafficMirrorSession // all of the account
	Targets  []types.TrafficMirrorTarget  // all of the account
	Filters  []types.TrafficMirrorFilter  // all of the account

	Subnets      []types.Subnet        // of the interface's VPC and zone
	RouteTables  []types.RouteTable    // of the VPC
	ACLs         []types.NetworkAcl    // of the VPC
	Groups       []types.SecurityGroup // of the VPC
	Endpoints    []types.VpcEndpoint   // of S3 in the VPC
	NATGateways  []types.NatGateway    // of the VPC
	S3PrefixList string                // id of com.amazonaws.<region>.s3
	DNSSupport   bool                  // the VPC's enableDnsSupport

	// What a plan can do without.
	Types      Answer[[]types.InstanceTypeInfo] // of the suspect's type and of those that the collector may have; unknown ones are left out
	Offered    Answer[[]string]                 // of the types that the collector may have, those offered in the zone
	Load       Answer[Load]                     // of the suspect's instance
	UsedVCPUs  Answer[float64]                  // running On-Demand Standard vCPUs of the account
	VCPUQuota  Answer[float64]                  // of those
	GroupQuota Answer[float64]                  // security groups of the Region
	BucketKey  Answer[Key]
	VolumeKey  Answer[Key]        // not asked when the deployment names none
	Rights     Answer[[]Decision] // of Simulations

	DrawVNI func() uint32 // a random 24-bit number
}

// Answer is what AWS said to a question that a plan can do without, or why it said nothing. The zero Answer was never asked for.
type Answer[T any] struct {
	Value T
	Known bool
	Why   string // not known: what came instead of an answer
}

// Known is an answer.
func Known[T any](value T) Answer[T] { return Answer[T]{Value: value, Known: true} }

// why says why something is not known.
func (a Answer[T]) why() string {
	if a.Why == "" {
		return "it was not asked for"
	}
	return a.Why
}

// Load is what an instance received and sent lately, over all its interfaces.
type Load struct {
	From, To time.Time
	Periods  []Period // oldest first; empty: CloudWatch has none, as for an instance that has just started
}

// Period is one period of Load.
type Period struct {
	At      time.Time
	Seconds int
	In, Out float64 // bytes
}

// Key is what KMS says of a key.
type Key struct {
	ARN     string
	State   string // Enabled, Disabled, PendingDeletion ...
	Usage   string // ENCRYPT_DECRYPT for a key that can encrypt
	Deleted time.Time
}

// Decision is what IAM would decide about a call of one of the deployment's roles.
type Decision struct {
	Step             string // whose role
	Role             string // ARN
	Action, Resource string
	Decision         string   // allowed, explicitDeny or implicitDeny
	Organizations    string   // "", or whether the organization's policies allow it: true or false
	Boundary         string   // "", or whether the role's permissions boundary allows it: true or false
	Missing          []string // condition keys that IAM had no value for
}
