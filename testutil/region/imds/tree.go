package imds

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// tree is all that can be read, by path after /latest/. Folders are what paths have in common.
type tree map[string]func() ([]byte, error)

// newTree is built for each request, so that tags are those of the moment.
func newTree(i Instance, tags map[string]string) tree {
	t := tree{}
	first := i.Interfaces[0]
	t.text("meta-data/ami-id", i.ImageID)
	t.text("meta-data/ami-launch-index", "0")
	t.text("meta-data/hostname", hostname(i))
	t.text("meta-data/local-hostname", hostname(i))
	t.text("meta-data/instance-id", i.ID)
	t.text("meta-data/instance-life-cycle", "on-demand")
	t.text("meta-data/instance-type", i.Type)
	t.text("meta-data/local-ipv4", first.IPv4s[0].String())
	t.text("meta-data/mac", first.MAC.String())
	t.text("meta-data/placement/availability-zone", i.AvailabilityZone)
	t.text("meta-data/placement/region", i.Region)
	t.text("meta-data/services/domain", "amazonaws.com")
	t.text("meta-data/services/partition", "aws")
	if len(first.IPv6s) > 0 {
		t.text("meta-data/ipv6", first.IPv6s[0].String())
	}
	for _, n := range i.Interfaces {
		t.network(i, n)
	}
	if i.Profile != nil {
		t.profile(*i.Profile)
	}
	if i.MetadataTags {
		for key, value := range tags {
			t.text("meta-data/tags/instance/"+key, value)
		}
	}
	if len(i.UserData) > 0 {
		t["user-data"] = func() ([]byte, error) { return i.UserData, nil }
	}
	t["dynamic/instance-identity/document"] = func() ([]byte, error) { return identity(i) }
	return t
}

func (t tree) text(path, value string) {
	t[path] = func() ([]byte, error) { return []byte(value), nil }
}

func (t tree) network(i Instance, n Interface) {
	at := "meta-data/network/interfaces/macs/" + n.MAC.String() + "/"
	t.text(at+"device-number", strconv.Itoa(n.DeviceIndex))
	t.text(at+"interface-id", n.ID)
	t.text(at+"local-hostname", hostname(i))
	t.text(at+"local-ipv4s", lines(n.IPv4s))
	t.text(at+"mac", n.MAC.String())
	t.text(at+"owner-id", i.AccountID)
	t.text(at+"subnet-id", n.SubnetID)
	t.text(at+"vpc-id", n.VPCID)
	if len(n.IPv6s) > 0 {
		t.text(at+"ipv6s", lines(n.IPv6s))
	}
	if len(n.SecurityGroupIDs) > 0 {
		t.text(at+"security-group-ids", strings.Join(n.SecurityGroupIDs, "\n"))
	}
	if n.SubnetCIDR.IsValid() {
		t.text(at+"subnet-ipv4-cidr-block", n.SubnetCIDR.String())
	}
	if n.VPCCIDR.IsValid() {
		t.text(at+"vpc-ipv4-cidr-block", n.VPCCIDR.String())
		t.text(at+"vpc-ipv4-cidr-blocks", n.VPCCIDR.String())
	}
}

func lines[T fmt.Stringer](of []T) string {
	var out []string
	for _, v := range of {
		out = append(out, v.String())
	}
	return strings.Join(out, "\n")
}

// hostname is the IP name of an instance (EC2 User Guide, "EC2 instance hostnames and domains").
func hostname(i Instance) string {
	zone := i.Region + ".compute.internal"
	if i.Region == "us-east-1" {
		zone = "ec2.internal"
	}
	return "ip-" + strings.ReplaceAll(i.Interfaces[0].IPv4s[0].String(), ".", "-") + "." + zone
}

func (t tree) profile(p Profile) {
	t["meta-data/iam/info"] = func() ([]byte, error) {
		c, err := p.Credentials()
		if err != nil {
			return assumeError(err)
		}
		return document(struct{ Code, LastUpdated, InstanceProfileArn, InstanceProfileId string }{
			"Success", second(c.Updated), p.ARN, p.ID})
	}
	t["meta-data/iam/security-credentials/"+p.Role] = func() ([]byte, error) {
		c, err := p.Credentials()
		if err != nil {
			return assumeError(err)
		}
		return document(struct{ Code, LastUpdated, Type, AccessKeyId, SecretAccessKey, Token, Expiration string }{
			"Success", second(c.Updated), "AWS-HMAC", c.AccessKeyID, c.SecretAccessKey, c.Token, second(c.Expires)})
	}
}

// assumeError is how EC2 tells that it has no credentials: a document that is no success, with status 200 (IAM User
// Guide, "Troubleshoot IAM and Amazon EC2").
func assumeError(cause error) ([]byte, error) {
	return document(struct{ Code, Message, LastUpdated string }{
		"AssumeRoleUnauthorizedAccess", cause.Error(), second(time.Now())})
}

func identity(i Instance) ([]byte, error) {
	return document(map[string]any{
		"accountId": i.AccountID, "architecture": i.Architecture, "availabilityZone": i.AvailabilityZone,
		"billingProducts": nil, "devpayProductCodes": nil, "marketplaceProductCodes": nil,
		"imageId": i.ImageID, "instanceId": i.ID, "instanceType": i.Type, "kernelId": nil, "ramdiskId": nil,
		"pendingTime": second(i.LaunchTime), "privateIp": i.Interfaces[0].IPv4s[0].String(), "region": i.Region,
		"version": "2017-09-30",
	})
}

func document(v any) ([]byte, error) { return json.MarshalIndent(v, "", "  ") }

func second(at time.Time) string { return at.UTC().Format("2006-01-02T15:04:05Z") }

// read returns what is at path: a value, or of a folder the names in it, one a line, those of folders with a slash.
func (t tree) read(path string) (body []byte, found bool, err error) {
	path = strings.Trim(path, "/")
	if leaf, ok := t[path]; ok {
		body, err = leaf()
		return body, true, err
	}
	prefix := path + "/"
	if path == "" {
		prefix = ""
	}
	names := map[string]bool{}
	for p := range t {
		if rest, ok := strings.CutPrefix(p, prefix); ok {
			name, _, deeper := strings.Cut(rest, "/")
			if deeper {
				name += "/"
			}
			names[name] = true
		}
	}
	if len(names) == 0 {
		return nil, false, nil
	}
	return []byte(strings.Join(slices.Sorted(maps.Keys(names)), "\n")), true, nil
}
