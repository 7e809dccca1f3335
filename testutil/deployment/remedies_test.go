package deployment_test

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"flashtap/testutil/region/ec2"
	"flashtap/testutil/region/kms"
)

// command is an aws command within a sentence.
var command = regexp.MustCompile(`aws ([a-z0-9-]+ [a-z0-9-]+)((?: --[a-z0-9-]+(?: (?:'[^']*'|[^\s;()'-][^\s;()']*))?)*)`)

var option = regexp.MustCompile(`--([a-z0-9-]+)(?: ('[^']*'|[^\s;()'-][^\s;()']*))?`)

// carryOut does what the commands of a remedy do in AWS. A remedy without any, and a command that nobody has described here, is
// an error: a remedy must be literally what helps.
func (x *site) carryOut(remedy string) {
	commands := command.FindAllStringSubmatch(remedy, -1)
	if len(commands) == 0 {
		x.t.Errorf("%s: the remedy has no command: %q", x.name, remedy)
	}
	for _, c := range commands {
		do := carry[c[1]]
		if do == nil {
			x.t.Errorf("%s: what aws %s does is not described", x.name, c[1])
			continue
		}
		options := map[string]string{}
		for _, o := range option.FindAllStringSubmatch(c[2], -1) {
			options[o[1]] = strings.Trim(o[2], "'")
		}
		do(x, options)
	}
}

// carry are the commands that remedies consist of.
var carry = map[string]func(x *site, o map[string]string){
	"ec2 start-instances": func(x *site, o map[string]string) {
		x.call("StartInstances", map[string]any{"InstanceIds": []any{o["instance-ids"]}})
	},
	"ec2 delete-traffic-mirror-session": func(x *site, o map[string]string) {
		x.call("DeleteTrafficMirrorSession", map[string]any{"TrafficMirrorSessionId": o["traffic-mirror-session-id"]})
	},
	"ec2 modify-traffic-mirror-session": func(x *site, o map[string]string) {
		x.call("ModifyTrafficMirrorSession", map[string]any{"TrafficMirrorSessionId": o["traffic-mirror-session-id"], "SessionNumber": int64(x.number(o["session-number"]))})
	},
	"ec2 delete-traffic-mirror-target": func(x *site, o map[string]string) {
		x.call("DeleteTrafficMirrorTarget", map[string]any{"TrafficMirrorTargetId": o["traffic-mirror-target-id"]})
	},
	"ec2 delete-security-group": func(x *site, o map[string]string) {
		x.call("DeleteSecurityGroup", map[string]any{"GroupId": o["group-id"]})
	},
	"ec2 create-network-acl-entry": func(x *site, o map[string]string) {
		x.s.Region.EC2.AddACLEntry(o["network-acl-id"], x.entry(o))
	},
	"ec2 replace-network-acl-entry": func(x *site, o map[string]string) {
		x.s.Region.EC2.ReplaceACLEntry(o["network-acl-id"], x.entry(o))
	},
	"ec2 delete-route": func(x *site, o map[string]string) {
		x.s.Region.EC2.RemoveRoute(o["route-table-id"], o["destination-cidr-block"])
	},
	"ec2 replace-route": func(x *site, o map[string]string) {
		if _, local := o["local-target"]; !local {
			x.t.Errorf("%s: to where else than the VPC: %v", x.name, o)
		}
		x.s.Region.EC2.ReplaceRoute(o["route-table-id"], o["destination-cidr-block"], "local")
	},
	"ec2 modify-vpc-attribute": func(x *site, o map[string]string) {
		if o["enable-dns-support"] != `{"Value":true}` {
			x.t.Errorf("%s: %q does not turn DNS support on", x.name, o["enable-dns-support"])
		}
		x.s.Region.EC2.SetDNS(o["vpc-id"], true, true)
	},
	"ec2 create-vpc-endpoint": func(x *site, o map[string]string) {
		x.call("CreateVpcEndpoint", map[string]any{"VpcId": o["vpc-id"], "ServiceName": o["service-name"], "RouteTableIds": []any{o["route-table-ids"]}})
	},
	"ec2 modify-vpc-endpoint": func(x *site, o map[string]string) {
		if _, off := o["no-private-dns-enabled"]; !off {
			x.t.Errorf("%s: what else than private DNS: %v", x.name, o)
		}
		x.s.Region.EC2.SetPrivateDNS(o["vpc-endpoint-id"], false)
	},
	"kms cancel-key-deletion": func(x *site, o map[string]string) { x.s.Region.KMS.SetState(o["key-id"], kms.Disabled) },
	"kms enable-key":          func(x *site, o map[string]string) { x.s.Region.KMS.SetState(o["key-id"], kms.Enabled) },
	"service-quotas request-service-quota-increase": func(x *site, o map[string]string) {
		x.s.Region.EC2.SetLimits(func(l *ec2.Limits) {
			switch o["service-code"] + " " + o["quota-code"] {
			case "ec2 L-1216C47A":
				l.VCPUs = x.number(o["desired-value"])
			case "vpc L-E79EC296":
				l.SecurityGroupsInVPC = x.number(o["desired-value"])
			default:
				x.t.Errorf("%s: no such quota: %v", x.name, o)
			}
		})
	},
}

// entry is the rule of a network ACL that options are about.
func (x *site) entry(o map[string]string) ec2.ACLEntry {
	_, egress := o["egress"]
	var from, to int
	if _, err := fmt.Sscanf(o["port-range"], "From=%d,To=%d", &from, &to); err != nil {
		x.t.Errorf("%s: port range %q: %v", x.name, o["port-range"], err)
	}
	return ec2.ACLEntry{Number: x.number(o["rule-number"]), Egress: egress, Deny: o["rule-action"] != "allow",
		Protocol: x.number(o["protocol"]), CIDR: o["cidr-block"], From: from, To: to}
}

func (x *site) number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		x.t.Errorf("%s: %v", x.name, err)
	}
	return n
}
