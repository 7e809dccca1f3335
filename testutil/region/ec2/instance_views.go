package ec2

import (
	"encoding/base64"
	"maps"
	"slices"
)

func showState(state string) map[string]any {
	return map[string]any{"Name": state, "Code": stateCodes[state]}
}

func (s *Service) showInstance(i *instance) map[string]any {
	m := map[string]any{
		"InstanceId": i.id, "InstanceType": i.typ, "ImageId": i.image, "State": showState(i.state), "AmiLaunchIndex": i.launchIndex, "Architecture": i.architecture,
		"LaunchTime": i.launched, "Hypervisor": "xen", "VirtualizationType": "hvm", "EnaSupport": true, "EbsOptimized": i.ebsOptimized,
		"RootDeviceName": i.root, "RootDeviceType": "ebs", "PlatformDetails": "Linux/UNIX", "Monitoring": map[string]any{"State": "disabled"},
		"Placement":             map[string]any{"AvailabilityZone": i.subnet.zone, "AvailabilityZoneId": s.zoneID(i.subnet.zone), "Tenancy": "default", "GroupName": ""},
		"StateTransitionReason": i.transition, "Tags": tagList(i.tags),
		"MetadataOptions": map[string]any{"State": "applied", "HttpTokens": i.metadata.tokens, "HttpEndpoint": i.metadata.endpoint, "HttpPutResponseHopLimit": i.metadata.hops,
			"InstanceMetadataTags": enabled(i.metadata.tags), "HttpProtocolIpv6": "disabled"},
	}
	set(m, "ClientToken", i.token)
	if i.reasonCode != "" {
		m["StateReason"] = map[string]any{"Code": i.reasonCode, "Message": i.reason}
	}
	if i.profile.ARN != "" {
		m["IamInstanceProfile"] = map[string]any{"Arn": i.profile.ARN, "Id": i.profile.ID}
	}
	if i.state == "terminated" {
		return m // its network is gone
	}
	m["VpcId"], m["SubnetId"] = i.subnet.vpc.id, i.subnet.id
	var interfaces, mappings []any
	for n, e := range s.interfacesOf(i) {
		shown := s.showCommon(e)
		a := e.attachment
		shown["Attachment"] = map[string]any{"AttachmentId": a.id, "DeviceIndex": a.device, "NetworkCardIndex": a.card, "Status": "attached", "AttachTime": a.at, "DeleteOnTermination": a.deleteOnTermination}
		interfaces = append(interfaces, shown)
		if n > 0 {
			continue
		}
		m["SecurityGroups"], m["SourceDestCheck"] = shown["Groups"], shown["SourceDestCheck"]
		if e.address.IsValid() {
			m["PrivateIpAddress"], m["PrivateDnsName"] = e.address.String(), s.privateDNS(e.address)
		}
		set(m, "PublicIpAddress", e.public)
		if len(e.ipv6) > 0 {
			m["Ipv6Address"] = e.ipv6[0].String()
		}
	}
	for _, id := range i.volumes {
		if v, ok := s.all[id].(*volume); ok {
			mappings = append(mappings, map[string]any{"DeviceName": v.device, "Ebs": map[string]any{"VolumeId": v.id, "Status": "attached",
				"AttachTime": i.launched, "DeleteOnTermination": v.deleteOnTermination}})
		}
	}
	m["NetworkInterfaces"], m["BlockDeviceMappings"] = interfaces, mappings
	return m
}

func enabled(on bool) string {
	if on {
		return "enabled"
	}
	return "disabled"
}

var instanceFilters = with(map[string]string{
	"architecture": "Architecture", "availability-zone": "Placement.AvailabilityZone", "availability-zone-id": "Placement.AvailabilityZoneId",
	"block-device-mapping.delete-on-termination": "BlockDeviceMappings.Ebs.DeleteOnTermination", "block-device-mapping.device-name": "BlockDeviceMappings.DeviceName",
	"block-device-mapping.status": "BlockDeviceMappings.Ebs.Status", "block-device-mapping.volume-id": "BlockDeviceMappings.Ebs.VolumeId",
	"client-token": "ClientToken", "dns-name": "PublicDnsName", "ebs-optimized": "EbsOptimized", "ena-support": "EnaSupport", "hypervisor": "Hypervisor",
	"iam-instance-profile.arn": "IamInstanceProfile.Arn", "iam-instance-profile.id": "IamInstanceProfile.Id", "image-id": "ImageId", "instance-id": "InstanceId",
	"instance-lifecycle": "InstanceLifecycle", "instance-state-code": "State.Code", "instance-state-name": "State.Name", "instance-type": "InstanceType",
	"instance.group-id": "SecurityGroups.GroupId", "instance.group-name": "SecurityGroups.GroupName", "ip-address": "PublicIpAddress", "ipv6-address": "Ipv6Address",
	"key-name": "KeyName", "launch-index": "AmiLaunchIndex", "launch-time": "LaunchTime", "metadata-options.http-endpoint": "MetadataOptions.HttpEndpoint",
	"metadata-options.http-put-response-hop-limit": "MetadataOptions.HttpPutResponseHopLimit", "metadata-options.http-tokens": "MetadataOptions.HttpTokens",
	"metadata-options.instance-metadata-tags": "MetadataOptions.InstanceMetadataTags", "metadata-options.state": "MetadataOptions.State",
	"monitoring-state": "Monitoring.State", "owner-id": "OwnerId", "platform-details": "PlatformDetails", "private-dns-name": "PrivateDnsName",
	"private-ip-address": "PrivateIpAddress", "reason": "StateTransitionReason", "reservation-id": "ReservationId", "root-device-name": "RootDeviceName",
	"root-device-type": "RootDeviceType", "source-dest-check": "SourceDestCheck", "state-reason-code": "StateReason.Code", "state-reason-message": "StateReason.Message",
	"subnet-id": "SubnetId", "tenancy": "Placement.Tenancy", "virtualization-type": "VirtualizationType", "vpc-id": "VpcId",
}, interfaceFiltersOfInstance())

func interfaceFiltersOfInstance() map[string]string {
	filters := map[string]string{}
	for name, path := range map[string]string{"addresses.primary": "PrivateIpAddresses.Primary", "addresses.private-ip-address": "PrivateIpAddresses.PrivateIpAddress",
		"addresses.private-dns-name": "PrivateIpAddresses.PrivateDnsName", "association.public-ip": "Association.PublicIp", "attachment.attach-time": "Attachment.AttachTime",
		"attachment.attachment-id": "Attachment.AttachmentId", "attachment.delete-on-termination": "Attachment.DeleteOnTermination",
		"attachment.device-index": "Attachment.DeviceIndex", "attachment.status": "Attachment.Status", "description": "Description", "group-id": "Groups.GroupId",
		"group-name": "Groups.GroupName", "ipv6-addresses.ipv6-address": "Ipv6Addresses.Ipv6Address", "mac-address": "MacAddress",
		"network-interface-id": "NetworkInterfaceId", "owner-id": "OwnerId", "private-dns-name": "PrivateDnsName", "private-ip-address": "PrivateIpAddress",
		"status": "Status", "source-dest-check": "SourceDestCheck", "subnet-id": "SubnetId", "vpc-id": "VpcId"} {
		filters["network-interface."+name] = "NetworkInterfaces." + path
	}
	return filters
}

// describeInstances pages over instances and groups a page by reservation.
func (s *Service) describeInstances(r *request) (map[string]any, error) {
	if r.has("MaxResults") && (r.number("MaxResults") < 5 || r.number("MaxResults") > 1000) {
		return nil, invalidValue("Value ( %d ) for parameter maxResults is invalid. Expecting a value greater than or equal to 5 and at most 1000.", r.number("MaxResults"))
	}
	show := func(i *instance) map[string]any {
		m := s.showInstance(i)
		m["ReservationId"], m["OwnerId"] = i.reservation, s.cfg.Account // for filters only
		return m
	}
	l := listing{kind: kindInstance, ids: "InstanceIds", out: "Reservations", tags: "Tags", filters: instanceFilters, idsOrPages: true}
	views, err := r.chosen(viewsOf(s, show), l)
	if err != nil {
		return nil, err
	}
	page, next, err := r.page(views, l)
	if err != nil {
		return nil, err
	}
	var reservations []any
	byID := map[any]map[string]any{}
	for _, v := range page {
		id := v.fields["ReservationId"]
		delete(v.fields, "ReservationId")
		delete(v.fields, "OwnerId")
		if byID[id] == nil {
			byID[id] = map[string]any{"ReservationId": id, "OwnerId": s.cfg.Account, "Instances": []any{}}
			reservations = append(reservations, byID[id])
		}
		byID[id]["Instances"] = append(byID[id]["Instances"].([]any), v.fields)
	}
	result := map[string]any{"Reservations": reservations}
	set(result, "NextToken", next)
	return result, nil
}

func (s *Service) describeInstanceStatus(r *request) (map[string]any, error) {
	show := func(i *instance) map[string]any {
		health, reach := "ok", "passed"
		if i.state != "running" {
			health, reach = "not-applicable", ""
		}
		summary := func() map[string]any {
			m := map[string]any{"Status": health}
			if reach != "" {
				m["Details"] = []any{map[string]any{"Name": "reachability", "Status": reach}}
			}
			return m
		}
		return map[string]any{"InstanceId": i.id, "InstanceState": showState(i.state), "AvailabilityZone": i.subnet.zone, "AvailabilityZoneId": s.zoneID(i.subnet.zone),
			"InstanceStatus": summary(), "SystemStatus": summary()}
	}
	views := viewsOf(s, show)
	if !r.flag("IncludeAllInstances") {
		if _, err := s.instancesNamed(r); err != nil {
			return nil, err
		}
		wanted := r.strs("InstanceIds")
		views = slices.DeleteFunc(views, func(v view) bool {
			return v.fields["InstanceState"].(map[string]any)["Name"] != "running" || len(wanted) > 0 && !slices.Contains(wanted, v.id)
		})
		r = &request{params: maps.Clone(r.params), service: s, call: r.call, principal: r.principal, now: r.now}
		delete(r.params, "InstanceIds")
	}
	return r.list(views, listing{kind: kindInstance, ids: "InstanceIds", out: "InstanceStatuses", idsOrPages: true, filters: map[string]string{
		"availability-zone": "AvailabilityZone", "availability-zone-id": "AvailabilityZoneId", "instance-state-code": "InstanceState.Code",
		"instance-state-name": "InstanceState.Name", "instance-status.status": "InstanceStatus.Status", "instance-status.reachability": "InstanceStatus.Details.Status",
		"system-status.status": "SystemStatus.Status", "system-status.reachability": "SystemStatus.Details.Status"}})
}

func (s *Service) describeInstanceAttribute(r *request) (map[string]any, error) {
	i, err := find[*instance](s, kindInstance, r.str("InstanceId"))
	if err != nil {
		return nil, err
	}
	result := map[string]any{"InstanceId": i.id}
	value := func(v any) map[string]any { return map[string]any{"Value": v} }
	switch attribute := r.str("Attribute"); attribute {
	case "userData":
		result["UserData"] = map[string]any{}
		if len(i.userData) > 0 {
			result["UserData"] = value(base64.StdEncoding.EncodeToString(i.userData))
		}
	case "instanceInitiatedShutdownBehavior":
		result["InstanceInitiatedShutdownBehavior"] = value(i.behavior)
	case "disableApiTermination":
		result["DisableApiTermination"] = value(i.protected)
	case "instanceType":
		result["InstanceType"] = value(i.typ)
	case "rootDeviceName":
		result["RootDeviceName"] = value(i.root)
	case "ebsOptimized":
		result["EbsOptimized"] = value(i.ebsOptimized)
	case "enaSupport":
		result["EnaSupport"] = value(true)
	case "sourceDestCheck", "groupSet", "blockDeviceMapping":
		shown := s.showInstance(i)
		switch attribute {
		case "sourceDestCheck":
			result["SourceDestCheck"] = value(shown["SourceDestCheck"])
		case "groupSet":
			result["Groups"] = shown["SecurityGroups"]
		default:
			result["BlockDeviceMappings"] = shown["BlockDeviceMappings"]
		}
	default:
		return nil, invalidValue("Value (%s) for parameter attribute is invalid. Unknown attribute.", attribute)
	}
	return result, nil
}

func (s *Service) getConsoleOutput(r *request) (map[string]any, error) {
	i, err := find[*instance](s, kindInstance, r.str("InstanceId"))
	if err != nil {
		return nil, err
	}
	result := map[string]any{"InstanceId": i.id, "Timestamp": r.now}
	set(result, "Output", base64.StdEncoding.EncodeToString([]byte(s.console[i.id])))
	return result, nil
}
