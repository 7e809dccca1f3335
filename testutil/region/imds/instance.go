// Package imds is the instance metadata service of one EC2 instance, version 2 only.
//
// Paths and their meaning are those of the EC2 User Guide, "Instance metadata categories" and "Use the Instance
// Metadata Service". What it can't do: the hop limit, as all programs on one machine are equally near.
package imds

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Instance is what the service tells.
type Instance struct {
	ID, Type, ImageID, Architecture, AccountID, Region, AvailabilityZone string
	// LaunchTime is the pendingTime of the identity document.
	LaunchTime time.Time
	// Interfaces has the primary interface first.
	Interfaces []Interface
	// UserData is what the instance was launched with, already decoded; without any, its path isn't there.
	UserData []byte
	// Profile is the instance profile; without one, iam isn't there.
	Profile *Profile
	// MetadataTags is the option InstanceMetadataTags: without it, tags aren't there.
	MetadataTags bool
	// Tags are the tags at launch; see Server.SetTags.
	Tags map[string]string
}

// Interface is one network interface of the instance.
type Interface struct {
	ID, SubnetID, VPCID string
	MAC                 net.HardwareAddr
	// IPv4s has the primary private address first.
	IPv4s, IPv6s []netip.Addr
	// SubnetCIDR and VPCCIDR are the IPv4 blocks; zero ones aren't told.
	SubnetCIDR, VPCCIDR netip.Prefix
	SecurityGroupIDs    []string
	DeviceIndex         int
}

// Profile is an instance profile with its one role.
type Profile struct {
	ARN, ID, Role string
	// Credentials is asked at every request for credentials, so that it decides when they change. Its error is told as
	// EC2 tells that it couldn't assume the role.
	Credentials func() (Credentials, error)
}

// Credentials are temporary credentials of a role.
type Credentials struct {
	AccessKeyID, SecretAccessKey, Token string
	Updated, Expires                    time.Time
}

func (i Instance) validate() error {
	switch {
	case i.ID == "":
		return errors.New("an instance without id")
	case len(i.Interfaces) == 0:
		return fmt.Errorf("instance %s has no network interface", i.ID)
	case i.Profile != nil && (i.Profile.Role == "" || i.Profile.Credentials == nil):
		return fmt.Errorf("instance %s: a profile without role or credentials", i.ID)
	}
	for _, n := range i.Interfaces {
		if n.ID == "" || len(n.MAC) == 0 || len(n.IPv4s) == 0 {
			return fmt.Errorf("instance %s: interface %q needs id, MAC and IPv4 address", i.ID, n.ID)
		}
	}
	return validateTags(i.MetadataTags, i.Tags)
}

// validateTags refuses what EC2 refuses for an instance with tags in its metadata: keys that can't be a path segment
// (EC2 User Guide, "View tags for your EC2 instances using instance metadata").
func validateTags(inMetadata bool, tags map[string]string) error {
	if !inMetadata {
		return nil
	}
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		plain := func(r rune) bool {
			return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("+-=.,_:@", r)
		}
		if key == "" || slices.Contains([]string{".", "..", "_index"}, key) ||
			strings.ContainsFunc(key, func(r rune) bool { return !plain(r) }) {
			return fmt.Errorf("tag key %q can't be in the metadata", key)
		}
	}
	return nil
}
