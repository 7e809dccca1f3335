// Package requests tells what AWS asks IAM before it carries out a call that the local region has recorded: one request
// for each resource of the call, and one for each right that the call needs beside its own, such as tagging at birth,
// passing a role, or the bucket's key.
//
// Actions, resource types and condition keys are those of the Service Authorization Reference. A call that is not
// described here is an error: no call passes because nobody thought of it.
package requests

import (
	"fmt"
	"maps"
	"strings"

	"flashtap/testutil/iam"
	"flashtap/testutil/region"
)

// Account is what calls do not say of where they are made.
type Account struct {
	Partition, ID, Region string
	BucketKeys            map[string]string // ARN of the KMS key by which a bucket encrypts, by bucket; it uses a bucket key
	ProfileRoles          map[string]string // ARN of the role in an instance profile, by the profile's ARN
}

// Caller is who makes a call.
type Caller struct {
	iam.Principal
	UserID  string      // aws:userid; "" for a service
	Context iam.Context // what else AWS knows of the caller
}

// UnknownResource is the error about a call that names a resource that does not exist: AWS knows no tags of it, and says
// that it is not found or that the call is not allowed, as it pleases.
type UnknownResource struct{ Operation, ID string }

func (e UnknownResource) Error() string {
	return e.Operation + " names " + e.ID + ", which is not there"
}

// Of lists the requests of a call.
func (a Account) Of(c region.Call, by Caller) ([]iam.Request, error) {
	q := &asking{account: a, call: c, by: by, params: c.Params}
	describe := services[c.Service]
	if describe == nil {
		return nil, fmt.Errorf("what AWS asks about calls of %s is not described", c.Service)
	}
	if err := describe(q); err != nil {
		return nil, err
	}
	if len(q.requests) == 0 {
		return nil, fmt.Errorf("what AWS asks about %s.%s is not described", c.Service, c.Operation)
	}
	return q.requests, nil
}

// services are the services whose calls are described, as they sign.
var services = map[string]func(*asking) error{
	"ec2": (*asking).ec2, "s3": (*asking).s3, "scheduler": (*asking).scheduler, "states": (*asking).states, "sqs": (*asking).sqs,
	"events": (*asking).events, "lambda": (*asking).lambda, "monitoring": (*asking).cloudwatch, "kms": (*asking).kms,
	"sns": (*asking).sns, "servicequotas": (*asking).quotas, "iam": (*asking).iam,
}

// asking is the list of requests of one call as it grows.
type asking struct {
	account  Account
	call     region.Call
	by       Caller
	params   params
	requests []iam.Request
}

// ask adds a request. Keys are those that the service itself fills in.
func (q *asking) ask(action, resource string, keys iam.Context) {
	c := q.common(action)
	maps.Copy(c, q.by.Context)
	maps.Copy(c, keys)
	q.requests = append(q.requests, iam.Request{Principal: q.by.Principal, Action: action, Resource: resource, Context: c})
}

// common are the global condition keys that AWS has for every request (IAM User Guide, "AWS global condition context
// keys"). Keys about the network are left to the caller.
func (q *asking) common(action string) iam.Context {
	c := iam.Context{
		"aws:SecureTransport": {"true"},
		"aws:CurrentTime":     {q.call.At.UTC().Format("2006-01-02T15:04:05Z")},
		"aws:EpochTime":       {fmt.Sprint(q.call.At.Unix())},
		"aws:ResourceAccount": {q.account.ID},
		"aws:ViaAWSService":   {"false"},
	}
	if !strings.HasPrefix(action, "iam:") { // IAM is asked in a Region of its own
		c["aws:RequestedRegion"] = []string{q.account.Region}
	}
	if q.by.Service != "" {
		c["aws:PrincipalIsAWSService"] = []string{"true"}
		c["aws:PrincipalServiceName"] = []string{q.by.Service}
		c["aws:SourceAccount"] = []string{q.account.ID}
		c["aws:SourceArn"] = []string{q.call.Source}
		return c
	}
	c["aws:PrincipalIsAWSService"] = []string{"false"}
	c["aws:PrincipalArn"] = []string{q.by.ARN}
	c["aws:PrincipalAccount"] = []string{q.by.Account}
	c["aws:PrincipalType"] = []string{"AssumedRole"}
	c["aws:userid"] = []string{q.by.UserID}
	return c
}

// arn is the ARN of something of the account in its Region.
func (a Account) arn(service, resource string) string {
	return strings.Join([]string{"arn", a.Partition, service, a.Region, a.ID, resource}, ":")
}

// passRole asks whether the caller may give a role to a service.
func (q *asking) passRole(role, service string) {
	q.ask("iam:PassRole", role, iam.Context{"iam:PassedToService": {service}})
}

// params reads the members of a decoded call.
type params map[string]any

func (p params) str(name string) string { s, _ := p[name].(string); return s }

func (p params) object(name string) params { m, _ := p[name].(map[string]any); return m }

func (p params) has(name string) bool { _, ok := p[name]; return ok }

// strs are the texts of a list, or the one text.
func (p params) strs(name string) []string {
	if s := p.str(name); s != "" {
		return []string{s}
	}
	list, _ := p[name].([]any)
	var out []string
	for _, item := range list {
		if s, ok := item.(string); ok {
			out = append(out, s)
		}
	}
	return out
}

func (p params) objects(name string) []params {
	list, _ := p[name].([]any)
	var out []params
	for _, item := range list {
		if m, ok := item.(map[string]any); ok {
			out = append(out, m)
		}
	}
	return out
}
