package dataplane

import "flashtap/functions/filter"

// The filters of sessions are matched by the product's own model of AWS, so that there is one.
type (
	Filter    = filter.Matcher
	Rule      = filter.Rule
	PortRange = filter.PortRange
	Action    = filter.Action
	Verdict   = filter.Verdict
)

const (
	Accept    = filter.Accept
	Reject    = filter.Reject
	AmazonDNS = filter.AmazonDNS
)

// Resolvers are the addresses at which a VPC answers DNS.
var Resolvers = filter.Resolvers
