package authorization

import (
	"slices"
	"strings"

	"flashtap/events"
	"flashtap/infra/policy"
)

// owned demands that what a statement lets be made, changed or deleted is the deployment's: by its tag, given at birth or
// borne already, or by its name.
func (c *check) owned(st policy.Statement, p pair) {
	if c.Kind != Identity || p.on == nil || p.def.Access == "Read" || p.def.Access == "List" {
		return
	}
	requestTag, resourceTag := "aws:RequestTag/"+c.TagKey, "aws:ResourceTag/"+c.TagKey
	on := p.action + " " + p.kind()
	switch {
	case p.action == "ec2:CreateTags":
		born := c.isOurs(st, requestTag) && bound(st, "ec2:CreateAction")
		marked := c.isOurs(st, resourceTag) && bound(st, "aws:TagKeys")
		if !born && !marked {
			c.report(RuleBirth, on, "%s on %s: want the tag at birth with ec2:CreateAction, or the tag borne and the keys named", p.action, p.kind())
		}
	case makes(p.action) && p.knows(requestTag):
		if !c.isOurs(st, requestTag) {
			c.report(RuleBirth, on, "%s makes a %s without %s", p.action, p.kind(), requestTag)
		}
	case c.isOurs(st, resourceTag) || c.named(p.resource):
	default:
		c.report(RuleOwner, on, "%s acts on any %s, with or without %s", p.action, p.kind(), resourceTag)
	}
}

func makes(action string) bool {
	_, verb, _ := strings.Cut(action, ":")
	return strings.HasPrefix(verb, "Create") || strings.HasPrefix(verb, "Run")
}

// isOurs says whether a statement demands the deployment's tag under a key.
func (c *check) isOurs(st policy.Statement, key string) bool {
	for k, values := range st.Condition["StringEquals"] {
		if strings.EqualFold(k, key) {
			return slices.Equal(values, []string{c.TagValue})
		}
	}
	return false
}

// named says whether an ARN means one thing, or only things whose names are the deployment's.
func (c *check) named(resource string) bool {
	for _, name := range c.Named {
		if name != "" && strings.Contains(resource, name) {
			return true
		}
	}
	return !strings.ContainsAny(resource, "*?")
}

// demand is what a call of an action on a type of resource must be bound to.
type demand struct {
	action, kind string // kind "": every type that knows the key
	key          string
	value        string // "": any
}

// demands are those of AWS's own advice and of the design: nothing is launched but by our template, from Amazon's images,
// with version 2 of instance metadata, encrypted and without a public address; endpoints are of one service; nothing is overwritten; the key serves
// only the bucket, and the disks' key only EC2; grants are for AWS's own resources; only digests are signed, in the one way
// that the evidence knows; a legal hold is placed and never lifted; and a role is passed only to the service that it is for.
var demands = []demand{
	{"ec2:RunInstances", "", "ec2:LaunchTemplate", ""},
	{"ec2:RunInstances", "image", "ec2:Owner", "amazon"},
	{"ec2:RunInstances", "instance", "ec2:MetadataHttpTokens", "required"},
	{"ec2:RunInstances", "instance", "ec2:InstanceProfile", ""},
	{"ec2:RunInstances", "volume", "ec2:Encrypted", "true"},
	{"ec2:RunInstances", "network-interface", "ec2:AssociatePublicIpAddress", "false"},
	{"ec2:TerminateInstances", "instance", "ec2:InstanceProfile", ""},
	{"ec2:CreateVpcEndpoint", "vpc-endpoint", "ec2:VpceServiceName", ""},
	{"ec2:GetConsoleOutput", "instance", "aws:ResourceTag/" + events.TagDeployment, ""}, // a read, but of what a machine says
	{"kms:Decrypt", "key", "kms:ViaService", ""},
	{"kms:GenerateDataKey", "key", "kms:ViaService", ""},
	{"kms:CreateGrant", "key", "kms:GrantIsForAWSResource", "true"},
	{"kms:Sign", "key", "kms:SigningAlgorithm", "ECDSA_SHA_256"},
	{"kms:Sign", "key", "kms:MessageType", "DIGEST"},
	{"s3:PutObjectLegalHold", "object", "s3:object-lock-legal-hold", "ON"},
	{"iam:PassRole", "role", "iam:PassedToService", ""},
	{"events:PutEvents", "event-bus", "events:source", ""},
}

// ofRole are those that a resource's own policy can't make: the key's does not know its bucket, and a service that logs
// into a bucket sends no such header.
var ofRole = []demand{
	{"s3:PutObject", "object", "s3:if-none-match", "false"}, // Null: it is there
	{"kms:Decrypt", "key", "kms:EncryptionContext:aws:s3:arn", ""},
	{"kms:GenerateDataKey", "key", "kms:EncryptionContext:aws:s3:arn", ""},
}

// ofResource are those that only a resource's own policy must make: a key that signs evidence signs for nobody else, whatever
// the account's policies allow.
var ofResource = []demand{
	{"kms:Sign", "key", "aws:PrincipalArn", ""},
}

func (c *check) demands(st policy.Statement, p pair) {
	list := demands
	switch {
	case c.VolumeKey != "" && p.resource == c.VolumeKey && p.action != "kms:DescribeKey": // it knows no bucket, and all is done with it by EC2
		list = slices.Concat(demands, []demand{{p.action, "key", "kms:ViaService", "ec2." + c.Region + ".amazonaws.com"}})
	case c.Kind == Identity:
		list = slices.Concat(demands, ofRole)
	case c.Kind == Resource:
		list = slices.Concat(demands, ofResource)
	}
	for _, d := range list {
		if d.action != p.action || d.kind != "" && d.kind != p.kind() || d.kind == "" && !p.knows(d.key) || p.resource == "*" {
			continue
		}
		if c.named(p.resource) && p.kind() == "launch-template" {
			continue // it is the template itself
		}
		if !demanded(st, d) {
			c.report(RuleDemand, p.action+" "+p.kind(), "%s on %s is not bound to %s %s", p.action, p.kind(), d.key, d.value)
		}
	}
}

func demanded(st policy.Statement, d demand) bool {
	for operator, keys := range st.Condition {
		for key, values := range keys {
			if strings.EqualFold(key, d.key) && (d.value == "" || slices.Equal(values, []string{d.value})) && !lenient(st, operator, key) {
				return true
			}
		}
	}
	return false
}

// complete demands of EC2's calls that the document allows each of them on all the types of resources that it needs. AWS
// would deny it for the one that is missing, and name none. Other services list alternatives as needed, too.
func (c *check) complete(doc policy.Document) {
	if c.Kind != Identity {
		return
	}
	allowed := map[string]map[string]bool{}
	for _, st := range doc.Statement {
		if st.Effect != policy.Allow {
			continue
		}
		for _, action := range st.Action {
			service, def := c.action(action)
			if def == nil || !strings.HasPrefix(action, "ec2:") {
				continue
			}
			if allowed[action] == nil {
				allowed[action] = map[string]bool{}
			}
			for _, resource := range st.Resource {
				for _, kind := range service.types(def, resource) {
					allowed[action][kind] = true
				}
			}
		}
	}
	for action, kinds := range allowed {
		_, def := c.action(action)
		for _, on := range def.On {
			if on.Required && !kinds[on.Type] && !kinds["*"] {
				c.report(RuleWhole, action+" "+on.Type, "%s also needs a %s, on which no statement allows it", action, on.Type)
			}
		}
	}
}
