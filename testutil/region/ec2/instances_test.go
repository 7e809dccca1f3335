package ec2

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// state describes an instance's state, or the error code.
func (l *land) state(id string) string {
	out, err := l.api.DescribeInstances(ctx, &sdk.DescribeInstancesInput{InstanceIds: []string{id}})
	if err != nil {
		return err.Error()
	}
	return string(out.Reservations[0].Instances[0].State.Name)
}

func TestInstanceLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var events, stopped []string
		var guests []Instance
		l := newLand(t, Config{Pending: 10 * time.Second, ShuttingDown: 30 * time.Second, Hooks: Hooks{
			Boot: func(i Instance) error { mu.Lock(); guests = append(guests, i); mu.Unlock(); return nil },
			Stop: func(id string) { mu.Lock(); stopped = append(stopped, id); mu.Unlock() },
			Event: func(source, kind string, detail any) {
				events = append(events, fmt.Sprint(source, " ", kind, " ", detail.(StateChange).State))
			},
		}})
		made, err := l.launch(func(in *sdk.RunInstancesInput) {
			in.UserData = aws.String(base64.StdEncoding.EncodeToString([]byte("#!/bin/sh\n")))
		})
		l.must(err)
		id := *made.InstanceId
		l.equal("state in the answer", made.State.Name, "pending")
		time.Sleep(9 * time.Second)
		l.equal("state after 9 s", l.state(id), "pending")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		l.equal("state after 11 s", l.state(id), "running")
		guest := guests[0]
		l.equal("the guest", []any{guest.ID, string(guest.UserData), guest.Type, guest.Profile.Name, guest.Addresses[0].String(), guest.Tags["app"], guest.ShutdownBehavior},
			[]any{id, "#!/bin/sh\n", "c7gn.large", "collector", *made.PrivateIpAddress, "flashtap", "terminate"})

		out, err := l.api.TerminateInstances(ctx, &sdk.TerminateInstancesInput{InstanceIds: []string{id}})
		l.must(err)
		change := out.TerminatingInstances[0]
		l.equal("the change", []any{change.PreviousState.Name, change.CurrentState.Name}, []any{"running", "shutting-down"})
		synctest.Wait()
		l.equal("guests told to stop", stopped, []string{id})
		time.Sleep(31 * time.Second)
		synctest.Wait()
		l.equal("state after 31 s", l.state(id), "terminated")
		left := l.Left()
		l.equal("left", left, "[]")
		_, err = l.api.TerminateInstances(ctx, &sdk.TerminateInstancesInput{InstanceIds: []string{id}})
		l.must(err) // a terminated instance may be terminated again
		time.Sleep(time.Hour)
		synctest.Wait()
		if state := l.state(id); !strings.Contains(state, "InvalidInstanceID.NotFound") {
			t.Errorf("an hour later the instance is %s", state)
		}
		const kind = "aws.ec2 EC2 Instance State-change Notification "
		l.equal("events", events, []string{kind + "pending", kind + "running", kind + "shutting-down", kind + "terminated"})
	})
}

func TestInstancePowersItselfOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLand(t, Config{ShuttingDown: time.Second, Stopping: time.Second})
		ends, err := l.launch()
		l.must(err)
		stops, err := l.launch(func(in *sdk.RunInstancesInput) { in.InstanceInitiatedShutdownBehavior = "stop" })
		l.must(err)
		time.Sleep(time.Second)
		synctest.Wait()
		l.PoweredOff(*ends.InstanceId)
		l.PoweredOff(*stops.InstanceId)
		l.equal("states at once", []string{l.state(*ends.InstanceId), l.state(*stops.InstanceId)}, []string{"shutting-down", "stopping"})
		time.Sleep(2 * time.Second)
		synctest.Wait()
		l.equal("states in the end", []string{l.state(*ends.InstanceId), l.state(*stops.InstanceId)}, []string{"terminated", "stopped"})
		out, err := l.api.DescribeInstances(ctx, &sdk.DescribeInstancesInput{InstanceIds: []string{*ends.InstanceId}})
		l.must(err)
		l.equal("reason", *out.Reservations[0].Instances[0].StateReason.Code, "Client.InstanceInitiatedShutdown")
		l.PoweredOff("i-0123456789abcdef0") // nobody's guest
	})
}

func TestInstanceEndsEarlyWhenItsGuestIsOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l *land
		l = newLand(t, Config{ShuttingDown: time.Hour, Hooks: Hooks{Stop: func(id string) { l.PoweredOff(id) }}})
		made, err := l.launch()
		l.must(err)
		time.Sleep(time.Second)
		synctest.Wait()
		_, err = l.api.TerminateInstances(ctx, &sdk.TerminateInstancesInput{InstanceIds: []string{*made.InstanceId}})
		l.must(err)
		synctest.Wait()
		l.equal("state", l.state(*made.InstanceId), "terminated")
	})
}

func TestInstanceThatCannotBootEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLand(t, Config{Hooks: Hooks{Boot: func(Instance) error { return errors.New("no kernel") }}})
		made, err := l.launch()
		l.must(err)
		time.Sleep(time.Second)
		synctest.Wait()
		l.equal("state", l.state(*made.InstanceId), "terminated")
	})
}

func TestInstanceStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLand(t, Config{Stopping: time.Second})
		out, err := l.api.StopInstances(ctx, &sdk.StopInstancesInput{InstanceIds: []string{l.host}})
		l.must(err)
		l.equal("the change", out.StoppingInstances[0].CurrentState.Name, "stopping")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		l.equal("state", l.state(l.host), "stopped")
		l.TerminateSuspect(l.host)
		_, err = l.api.StopInstances(ctx, &sdk.StopInstancesInput{InstanceIds: []string{l.host}})
		l.refused(err, "IncorrectInstanceState")
	})
}

func TestSuspectEndsWithItsInterfacesAndSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLand(t, Config{})
		_, err := l.session(l.source, l.target(l.collectorInterface("c7gn.large")), l.filter(), 1)
		l.must(err)
		l.TerminateSuspect(l.host)
		time.Sleep(time.Second)
		synctest.Wait()
		_, err = l.api.DescribeNetworkInterfaces(ctx, &sdk.DescribeNetworkInterfacesInput{NetworkInterfaceIds: []string{l.source}})
		l.refused(err, "InvalidNetworkInterfaceID.NotFound")
		out, err := l.api.DescribeTrafficMirrorSessions(ctx, &sdk.DescribeTrafficMirrorSessionsInput{})
		l.must(err)
		l.equal("sessions", len(out.TrafficMirrorSessions), 0)
	})
}

func TestTerminateProtectedOrUnknown(t *testing.T) {
	l := newLand(t, Config{Pending: time.Hour})
	safe, err := l.launch(func(in *sdk.RunInstancesInput) { in.DisableApiTermination = aws.Bool(true) })
	l.must(err)
	plain, err := l.launch()
	l.must(err)
	_, err = l.api.TerminateInstances(ctx, &sdk.TerminateInstancesInput{InstanceIds: []string{*plain.InstanceId, *safe.InstanceId}})
	l.refused(err, "OperationNotPermitted")
	_, err = l.api.TerminateInstances(ctx, &sdk.TerminateInstancesInput{InstanceIds: []string{*plain.InstanceId, "i-0123456789abcdef0"}})
	l.refused(err, "InvalidInstanceID.NotFound")
	_, err = l.api.TerminateInstances(ctx, &sdk.TerminateInstancesInput{InstanceIds: []string{"one"}})
	l.refused(err, "InvalidInstanceID.Malformed")
	l.equal("state of the other", l.state(*plain.InstanceId), "pending")
}

func TestLaunchRefusals(t *testing.T) {
	l := newLand(t, Config{Pending: time.Hour, Limits: Limits{GroupsOnInterface: 2, VCPUs: 100}})
	foreign := l.AddVPC(VPC{CIDR: "127.30.0.0/16"})
	foreignGroup := l.AddSecurityGroup(SecurityGroup{VPC: foreign, Name: "g", Description: "d"})
	group := l.AddSecurityGroup(SecurityGroup{VPC: l.vpc, Name: "g", Description: "d"})
	tiny := l.AddSubnet(Subnet{VPC: l.vpc, Zone: "us-east-1a", CIDR: "127.20.3.0/29"})
	intel := l.AddImage(Image{Name: "al2023-ami-2023.6-x86_64", Architecture: "x86_64"})
	l.Withdraw("c7gn.large", "us-east-1b")
	l.SetCapacity("c7g.large", "us-east-1a", 0)
	free := l.AddInterface(InterfaceSeed{Subnet: l.subnet})
	raw := func(size int) *string {
		return aws.String(base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", size))))
	}
	for _, row := range []struct {
		reason string
		change func(*sdk.RunInstancesInput)
		code   string
	}{
		{"no such image", func(in *sdk.RunInstancesInput) { in.ImageId = aws.String("ami-0123456789abcdef0") }, "InvalidAMIID.NotFound"},
		{"no image's id", func(in *sdk.RunInstancesInput) { in.ImageId = aws.String("latest") }, "InvalidAMIID.Malformed"},
		{"a parameter nobody resolves", func(in *sdk.RunInstancesInput) { in.ImageId = aws.String("resolve:ssm:/x") }, "InvalidParameterValue"},
		{"another architecture", func(in *sdk.RunInstancesInput) { in.ImageId = &intel }, "InvalidParameterValue"},
		{"a type this region does not know", func(in *sdk.RunInstancesInput) { in.InstanceType = "u-6tb1.metal" }, "Unsupported"},
		{"a type the zone does not offer", func(in *sdk.RunInstancesInput) { in.SubnetId = &l.other }, "Unsupported"},
		{"no capacity", func(in *sdk.RunInstancesInput) { in.InstanceType = "c7g.large" }, "InsufficientInstanceCapacity"},
		{"too many vCPUs", func(in *sdk.RunInstancesInput) {
			in.InstanceType, in.MinCount, in.MaxCount = "c7gn.16xlarge", aws.Int32(2), aws.Int32(2)
		}, "VcpuLimitExceeded"},
		{"no such subnet", func(in *sdk.RunInstancesInput) { in.SubnetId = aws.String("subnet-0123456789abcdef0") }, "InvalidSubnetID.NotFound"},
		{"no subnet", func(in *sdk.RunInstancesInput) { in.SubnetId = nil }, "MissingInput"},
		{"no such group", func(in *sdk.RunInstancesInput) { in.SecurityGroupIds = []string{"sg-0123456789abcdef0"} }, "InvalidGroup.NotFound"},
		{"a group of another VPC", func(in *sdk.RunInstancesInput) { in.SecurityGroupIds = []string{foreignGroup} }, "InvalidParameter"},
		{"too many groups", func(in *sdk.RunInstancesInput) { in.SecurityGroupIds = []string{group, group + "1", group + "2"} }, "SecurityGroupsPerInterfaceLimitExceeded"},
		{"no such template", func(in *sdk.RunInstancesInput) {
			in.LaunchTemplate = &types.LaunchTemplateSpecification{LaunchTemplateId: aws.String("lt-0123456789abcdef0")}
		}, "InvalidLaunchTemplateId.NotFound"},
		{"no template of that name", func(in *sdk.RunInstancesInput) {
			in.LaunchTemplate = &types.LaunchTemplateSpecification{LaunchTemplateName: aws.String("x")}
		}, "InvalidLaunchTemplateName.NotFoundException"},
		{"no such version", func(in *sdk.RunInstancesInput) { in.LaunchTemplate.Version = aws.String("2") }, "InvalidLaunchTemplateId.VersionNotFound"},
		{"a version that is no number", func(in *sdk.RunInstancesInput) { in.LaunchTemplate.Version = aws.String("newest") }, "InvalidParameterValue"},
		{"user data of 16 KB and a byte", func(in *sdk.RunInstancesInput) { in.UserData = raw(16385) }, "InvalidParameterValue"},
		{"user data that is not base64", func(in *sdk.RunInstancesInput) { in.UserData = aws.String("#!/bin/sh") }, "InvalidParameterValue"},
		{"no such profile", func(in *sdk.RunInstancesInput) {
			in.IamInstanceProfile = &types.IamInstanceProfileSpecification{Name: aws.String("x")}
		}, "InvalidParameterValue"},
		{"an address of another subnet", func(in *sdk.RunInstancesInput) { in.PrivateIpAddress = aws.String("127.20.2.9") }, "InvalidParameterValue"},
		{"an address AWS keeps", func(in *sdk.RunInstancesInput) { in.PrivateIpAddress = aws.String("127.20.1.1") }, "InvalidParameterValue"},
		{"an address in use", func(in *sdk.RunInstancesInput) {
			source, _ := l.Interface(l.source)
			in.PrivateIpAddress = aws.String(source.Address.String())
		}, "InvalidIPAddress.InUse"},
		{"more instances than addresses", func(in *sdk.RunInstancesInput) {
			in.SubnetId, in.MinCount, in.MaxCount = &tiny, aws.Int32(4), aws.Int32(4)
		}, "InsufficientFreeAddressesInSubnet"},
		{"interfaces and a subnet", func(in *sdk.RunInstancesInput) {
			in.NetworkInterfaces = []types.InstanceNetworkInterfaceSpecification{{DeviceIndex: aws.Int32(0), SubnetId: &l.subnet}}
		}, "InvalidParameterCombination"},
		{"an interface in use", func(in *sdk.RunInstancesInput) {
			in.SubnetId = nil
			in.NetworkInterfaces = []types.InstanceNetworkInterfaceSpecification{{DeviceIndex: aws.Int32(0), NetworkInterfaceId: &l.source}}
		}, "InvalidNetworkInterface.InUse"},
		{"two interfaces in one place", func(in *sdk.RunInstancesInput) {
			in.SubnetId = nil
			in.NetworkInterfaces = []types.InstanceNetworkInterfaceSpecification{{DeviceIndex: aws.Int32(0), SubnetId: &l.subnet}, {DeviceIndex: aws.Int32(0), NetworkInterfaceId: &free}}
		}, "InvalidParameterValue"},
		{"no first interface", func(in *sdk.RunInstancesInput) {
			in.SubnetId = nil
			in.NetworkInterfaces = []types.InstanceNetworkInterfaceSpecification{{DeviceIndex: aws.Int32(1), SubnetId: &l.subnet}}
		}, "InvalidParameterValue"},
		{"less than one", func(in *sdk.RunInstancesInput) { in.MinCount = aws.Int32(0) }, "InvalidParameterValue"},
		{"tags of what a launch does not make", func(in *sdk.RunInstancesInput) { in.TagSpecifications = tagSpec("vpc", "a", "b") }, "InvalidParameterValue"},
		{"a tag IMDS cannot serve", func(in *sdk.RunInstancesInput) { in.TagSpecifications = tagSpec("instance", "a b", "") }, "InvalidParameterValue"},
		{"a key pair nobody made", func(in *sdk.RunInstancesInput) { in.KeyName = aws.String("k") }, "InvalidKeyPair.NotFound"},
		{"spot, which is not played", func(in *sdk.RunInstancesInput) {
			in.InstanceMarketOptions = &types.InstanceMarketOptionsRequest{MarketType: "spot"}
		}, "UnsupportedOperation"},
		{"a UDP timeout of 29 s", func(in *sdk.RunInstancesInput) {
			in.SubnetId = nil
			in.NetworkInterfaces = []types.InstanceNetworkInterfaceSpecification{{DeviceIndex: aws.Int32(0), SubnetId: &l.subnet,
				ConnectionTrackingSpecification: &types.ConnectionTrackingSpecificationRequest{UdpTimeout: aws.Int32(29)}}}
		}, "InvalidParameterValue"},
		{"a hop limit of 65", func(in *sdk.RunInstancesInput) {
			in.MetadataOptions = &types.InstanceMetadataOptionsRequest{HttpPutResponseHopLimit: aws.Int32(65)}
		}, "InvalidParameterValue"},
		{"user data of 16 KB", func(in *sdk.RunInstancesInput) { in.UserData = raw(16384) }, ""},
	} {
		t.Run(row.reason, func(t *testing.T) {
			l.t = t
			before := len(l.Resources())
			_, err := l.launch(row.change)
			if row.code == "" {
				l.must(err)
				return
			}
			l.refused(err, row.code)
			l.equal("resources after the refusal", len(l.Resources()), before)
		})
	}
}

func TestLaunchTemplateIsMergedWithTheCall(t *testing.T) {
	l := newLand(t, Config{Pending: time.Hour})
	made, err := l.launch(func(in *sdk.RunInstancesInput) {
		in.InstanceType = "c7gn.xlarge"
		in.TagSpecifications = tagSpec("instance", "capture", "7")
		in.LaunchTemplate.Version = aws.String("1")
	})
	l.must(err)
	tags := l.Tags(*made.InstanceId)
	l.equal("tags", tags, map[string]string{"app": "flashtap", "capture": "7", "aws:ec2launchtemplate:id": l.lt, "aws:ec2launchtemplate:version": "1"})
	l.equal("the rest", []any{made.InstanceType, *made.ImageId, *made.IamInstanceProfile.Arn, made.MetadataOptions.HttpTokens, made.MetadataOptions.InstanceMetadataTags},
		[]any{"c7gn.xlarge", l.image, "arn:aws:iam::123456789012:instance-profile/collector", "required", "enabled"})
	guest, _ := l.Instance(*made.InstanceId)
	l.equal("shutdown behavior", guest.ShutdownBehavior, "terminate")

	l.AddLaunchTemplateVersion(l.lt, map[string]any{"ImageId": l.image, "InstanceType": "c7g.large", "NetworkInterfaces": []any{map[string]any{"DeviceIndex": int64(0), "Description": "mirror"}}})
	_, err = l.launch(func(in *sdk.RunInstancesInput) { in.LaunchTemplate.Version = aws.String("$Latest") })
	l.refused(err, "InvalidParameterCombination") // the template's interfaces, the call's subnet
	made, err = l.launch(func(in *sdk.RunInstancesInput) {
		in.LaunchTemplate.Version, in.SubnetId = aws.String("$Latest"), nil
		in.NetworkInterfaces = []types.InstanceNetworkInterfaceSpecification{{DeviceIndex: aws.Int32(0), SubnetId: &l.subnet}}
	})
	l.must(err)
	l.equal("description", *made.NetworkInterfaces[0].Description, "mirror")
	versions, err := l.api.DescribeLaunchTemplateVersions(ctx, &sdk.DescribeLaunchTemplateVersionsInput{LaunchTemplateId: &l.lt, Versions: []string{"$Latest", "$Default"}})
	l.must(err)
	l.equal("versions", []any{len(versions.LaunchTemplateVersions), *versions.LaunchTemplateVersions[0].DefaultVersion, versions.LaunchTemplateVersions[1].LaunchTemplateData.InstanceType},
		[]any{2, true, "c7g.large"})
	templates, err := l.api.DescribeLaunchTemplates(ctx, &sdk.DescribeLaunchTemplatesInput{LaunchTemplateNames: []string{"collector"}})
	l.must(err)
	l.equal("latest version", *templates.LaunchTemplates[0].LatestVersionNumber, 2)
}

func TestLaunchGivesTheNextFreeAddress(t *testing.T) {
	l := newLand(t, Config{Pending: time.Hour})
	first, err := l.launch()
	l.must(err)
	second, err := l.launch(func(in *sdk.RunInstancesInput) { in.Ipv6AddressCount = aws.Int32(1) })
	l.must(err)
	l.equal("addresses", []string{*first.PrivateIpAddress, *second.PrivateIpAddress, *second.Ipv6Address}, []string{"127.20.1.5", "127.20.1.6", "::1"})
	_, err = l.api.TerminateInstances(ctx, &sdk.TerminateInstancesInput{InstanceIds: []string{*first.InstanceId}})
	l.must(err)
	chosen, err := l.launch(func(in *sdk.RunInstancesInput) { in.PrivateIpAddress = aws.String("127.20.1.99") })
	l.must(err)
	l.equal("chosen address", *chosen.PrivateIpAddress, "127.20.1.99")
}

func TestLaunchCapacityIsUsedUp(t *testing.T) {
	l := newLand(t, Config{Pending: time.Hour})
	l.SetCapacity("c7gn.large", "us-east-1a", 1)
	_, err := l.launch()
	l.must(err)
	_, err = l.launch()
	l.refused(err, "InsufficientInstanceCapacity")
	_, err = l.launch(func(in *sdk.RunInstancesInput) { in.SubnetId = &l.other })
	l.must(err)
}

func TestLaunchedInterfaceAndVolumeEndWithTheInstance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLand(t, Config{})
		own, err := l.api.CreateNetworkInterface(ctx, &sdk.CreateNetworkInterfaceInput{SubnetId: &l.subnet, ClientToken: aws.String("eni")})
		l.must(err)
		kept := *own.NetworkInterface.NetworkInterfaceId
		made, err := l.launch(func(in *sdk.RunInstancesInput) {
			in.SubnetId = nil
			in.NetworkInterfaces = []types.InstanceNetworkInterfaceSpecification{{DeviceIndex: aws.Int32(0), SubnetId: &l.subnet}, {DeviceIndex: aws.Int32(1), NetworkInterfaceId: &kept}}
			in.BlockDeviceMappings = []types.BlockDeviceMapping{{DeviceName: aws.String("/dev/sdb"), Ebs: &types.EbsBlockDevice{VolumeSize: aws.Int32(9), DeleteOnTermination: aws.Bool(false)}}}
		})
		l.must(err)
		l.equal("interfaces and volumes", []int{len(made.NetworkInterfaces), len(made.BlockDeviceMappings)}, []int{2, 2})
		_, err = l.api.DeleteNetworkInterface(ctx, &sdk.DeleteNetworkInterfaceInput{NetworkInterfaceId: &kept})
		l.refused(err, "InvalidParameterValue")
		_, err = l.api.TerminateInstances(ctx, &sdk.TerminateInstancesInput{InstanceIds: []string{*made.InstanceId}})
		l.must(err)
		time.Sleep(time.Second)
		synctest.Wait()
		var left []string
		for _, r := range l.Left() {
			left = append(left, r.Type)
		}
		slices.Sort(left)
		l.equal("left", left, []string{"network-interface", "volume"})
		_, err = l.api.DeleteNetworkInterface(ctx, &sdk.DeleteNetworkInterfaceInput{NetworkInterfaceId: &kept})
		l.must(err)
	})
}

func TestDescribeInstancesFiltersAndPages(t *testing.T) {
	l := newLand(t, Config{Pending: time.Hour})
	for n := range 11 {
		_, err := l.launch(func(in *sdk.RunInstancesInput) {
			in.TagSpecifications = tagSpec("instance", "capture", fmt.Sprint(n))
			in.ClientToken = aws.String(fmt.Sprint("token-", n))
		})
		l.must(err)
	}
	count := func(filters []types.Filter) int {
		out, err := l.api.DescribeInstances(ctx, &sdk.DescribeInstancesInput{Filters: filters})
		l.must(err)
		n := 0
		for _, r := range out.Reservations {
			n += len(r.Instances)
		}
		return n
	}
	source, _ := l.Interface(l.source)
	for _, row := range []struct {
		name, value string
		want        int
	}{{"tag:app", "flashtap", 11}, {"tag:capture", "1*", 2}, {"tag-key", "Name", 1}, {"instance-state-name", "pending", 11}, {"instance-type", "c5.large", 1},
		{"client-token", "token-3", 1}, {"network-interface.network-interface-id", l.source, 1}, {"private-ip-address", source.Address.String(), 1},
		{"vpc-id", l.vpc, 12}, {"availability-zone", "us-east-1b", 0}, {"tag:aws:ec2launchtemplate:id", l.lt, 11}} {
		l.equal("instances by "+row.name, count(filterOf(row.name, row.value)), row.want)
	}
	l.equal("instances by two filters", count(append(filterOf("tag:app", "flashtap"), filterOf("tag:capture", "4", "5")...)), 2)
	_, err := l.api.DescribeInstances(ctx, &sdk.DescribeInstancesInput{Filters: filterOf("state", "running")})
	l.refused(err, "InvalidParameterValue")

	seen := map[string]bool{}
	pages := sdk.NewDescribeInstancesPaginator(l.api, &sdk.DescribeInstancesInput{MaxResults: aws.Int32(5)})
	turns := 0
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		l.must(err)
		turns++
		for _, r := range page.Reservations {
			for _, i := range r.Instances {
				seen[*i.InstanceId] = true
			}
		}
	}
	l.equal("pages and instances", []int{turns, len(seen)}, []int{3, 12})
	_, err = l.api.DescribeInstances(ctx, &sdk.DescribeInstancesInput{MaxResults: aws.Int32(4)})
	l.refused(err, "InvalidParameterValue")
	_, err = l.api.DescribeInstances(ctx, &sdk.DescribeInstancesInput{MaxResults: aws.Int32(5), InstanceIds: []string{l.host}})
	l.refused(err, "InvalidParameterCombination")
	_, err = l.api.DescribeInstances(ctx, &sdk.DescribeInstancesInput{NextToken: aws.String("zzz")})
	l.refused(err, "InvalidNextToken")
}

func TestInstanceStatusAttributeAndConsole(t *testing.T) {
	l := newLand(t, Config{Pending: time.Hour})
	made, err := l.launch(func(in *sdk.RunInstancesInput) { in.UserData = aws.String("aGk=") })
	l.must(err)
	status, err := l.api.DescribeInstanceStatus(ctx, &sdk.DescribeInstanceStatusInput{})
	l.must(err)
	l.equal("running", []any{len(status.InstanceStatuses), *status.InstanceStatuses[0].InstanceId, status.InstanceStatuses[0].InstanceStatus.Status}, []any{1, l.host, "ok"})
	status, err = l.api.DescribeInstanceStatus(ctx, &sdk.DescribeInstanceStatusInput{IncludeAllInstances: aws.Bool(true), InstanceIds: []string{*made.InstanceId}})
	l.must(err)
	l.equal("the new one", status.InstanceStatuses[0].InstanceState.Name, "pending")
	for attribute, get := range map[types.InstanceAttributeName]func(*sdk.DescribeInstanceAttributeOutput) any{
		"userData": func(o *sdk.DescribeInstanceAttributeOutput) any { return *o.UserData.Value == "aGk=" },
		"instanceInitiatedShutdownBehavior": func(o *sdk.DescribeInstanceAttributeOutput) any {
			return *o.InstanceInitiatedShutdownBehavior.Value == "terminate"
		},
		"disableApiTermination": func(o *sdk.DescribeInstanceAttributeOutput) any { return !*o.DisableApiTermination.Value },
		"instanceType":          func(o *sdk.DescribeInstanceAttributeOutput) any { return *o.InstanceType.Value == "c7gn.large" },
		"groupSet":              func(o *sdk.DescribeInstanceAttributeOutput) any { return len(o.Groups) == 1 },
		"blockDeviceMapping":    func(o *sdk.DescribeInstanceAttributeOutput) any { return len(o.BlockDeviceMappings) == 1 },
		"sourceDestCheck":       func(o *sdk.DescribeInstanceAttributeOutput) any { return *o.SourceDestCheck.Value },
	} {
		out, err := l.api.DescribeInstanceAttribute(ctx, &sdk.DescribeInstanceAttributeInput{InstanceId: made.InstanceId, Attribute: attribute})
		l.must(err)
		l.equal(string(attribute), get(out), true)
	}
	l.SetConsoleOutput(*made.InstanceId, "booting")
	console, err := l.api.GetConsoleOutput(ctx, &sdk.GetConsoleOutputInput{InstanceId: made.InstanceId})
	l.must(err)
	l.equal("console", *console.Output, base64.StdEncoding.EncodeToString([]byte("booting")))
}
