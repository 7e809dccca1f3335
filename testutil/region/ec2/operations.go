package ec2

// operations are the calls the service answers, by their names in the model.
var operations = map[string]func(*Service, *request) (map[string]any, error){
	"RunInstances":                  (*Service).runInstances,
	"TerminateInstances":            (*Service).terminateInstances,
	"StopInstances":                 (*Service).stopInstances,
	"StartInstances":                (*Service).startInstances,
	"DescribeInstances":             (*Service).describeInstances,
	"DescribeInstanceStatus":        (*Service).describeInstanceStatus,
	"DescribeInstanceAttribute":     (*Service).describeInstanceAttribute,
	"DescribeInstanceTypes":         (*Service).describeInstanceTypes,
	"DescribeInstanceTypeOfferings": (*Service).describeInstanceTypeOfferings,
	"GetConsoleOutput":              (*Service).getConsoleOutput,

	"CreateTags":   (*Service).createTags,
	"DeleteTags":   (*Service).deleteTags,
	"DescribeTags": (*Service).describeTags,

	"CreateNetworkInterface":    (*Service).createNetworkInterface,
	"DeleteNetworkInterface":    (*Service).deleteNetworkInterface,
	"DescribeNetworkInterfaces": (*Service).describeNetworkInterfaces,

	"DescribeVpcs":               (*Service).describeVPCs,
	"DescribeVpcAttribute":       (*Service).describeVPCAttribute,
	"DescribeSubnets":            (*Service).describeSubnets,
	"DescribeRouteTables":        (*Service).describeRouteTables,
	"DescribeNetworkAcls":        (*Service).describeNetworkACLs,
	"DescribeInternetGateways":   (*Service).describeInternetGateways,
	"DescribeNatGateways":        (*Service).describeNATGateways,
	"DescribePrefixLists":        (*Service).describePrefixLists,
	"DescribeManagedPrefixLists": (*Service).describeManagedPrefixLists,
	"DescribeAvailabilityZones":  (*Service).describeAvailabilityZones,

	"CreateVpcEndpoint":    (*Service).createVPCEndpoint,
	"DeleteVpcEndpoints":   (*Service).deleteVPCEndpoints,
	"DescribeVpcEndpoints": (*Service).describeVPCEndpoints,

	"CreateSecurityGroup":           (*Service).createSecurityGroup,
	"DeleteSecurityGroup":           (*Service).deleteSecurityGroup,
	"DescribeSecurityGroups":        (*Service).describeSecurityGroups,
	"DescribeSecurityGroupRules":    (*Service).describeSecurityGroupRules,
	"AuthorizeSecurityGroupIngress": (*Service).authorizeIngress,
	"AuthorizeSecurityGroupEgress":  (*Service).authorizeEgress,
	"RevokeSecurityGroupIngress":    (*Service).revokeIngress,
	"RevokeSecurityGroupEgress":     (*Service).revokeEgress,

	"DescribeLaunchTemplates":        (*Service).describeLaunchTemplates,
	"DescribeLaunchTemplateVersions": (*Service).describeLaunchTemplateVersions,
	"DescribeImages":                 (*Service).describeImages,

	"CreateTrafficMirrorTarget":                (*Service).createMirrorTarget,
	"DeleteTrafficMirrorTarget":                (*Service).deleteMirrorTarget,
	"DescribeTrafficMirrorTargets":             (*Service).describeMirrorTargets,
	"CreateTrafficMirrorFilter":                (*Service).createMirrorFilter,
	"DeleteTrafficMirrorFilter":                (*Service).deleteMirrorFilter,
	"DescribeTrafficMirrorFilters":             (*Service).describeMirrorFilters,
	"ModifyTrafficMirrorFilterNetworkServices": (*Service).modifyFilterServices,
	"CreateTrafficMirrorFilterRule":            (*Service).createMirrorRule,
	"ModifyTrafficMirrorFilterRule":            (*Service).modifyMirrorRule,
	"DeleteTrafficMirrorFilterRule":            (*Service).deleteMirrorRule,
	"DescribeTrafficMirrorFilterRules":         (*Service).describeMirrorRules,
	"CreateTrafficMirrorSession":               (*Service).createMirrorSession,
	"ModifyTrafficMirrorSession":               (*Service).modifyMirrorSession,
	"DeleteTrafficMirrorSession":               (*Service).deleteMirrorSession,
	"DescribeTrafficMirrorSessions":            (*Service).describeMirrorSessions,
}

// without lists the parameters that AWS takes and the local region does not play.
// They are refused, so that nobody believes they had an effect.
var without = map[string][]string{
	"RunInstances": {"AdditionalInfo", "CapacityReservationSpecification", "ElasticGpuSpecification", "ElasticInferenceAccelerators", "EnablePrimaryIpv6", "EnclaveOptions",
		"HibernationOptions", "InstanceMarketOptions", "KernelId", "LicenseSpecifications", "Operator", "RamdiskId", "SecondaryInterfaces", "SecurityGroups"},
	"TerminateInstances":             {"Force", "SkipOsShutdown"},
	"StartInstances":                 {"AdditionalInfo"},
	"StopInstances":                  {"Force", "Hibernate", "SkipOsShutdown"},
	"CreateNetworkInterface":         {"EnablePrimaryIpv6", "Operator"},
	"CreateVpcEndpoint":              {"ResourceConfigurationArn", "ServiceNetworkArn", "ServiceRegion", "SubnetConfigurations"},
	"AuthorizeSecurityGroupIngress":  {"SourceSecurityGroupName", "SourceSecurityGroupOwnerId"},
	"AuthorizeSecurityGroupEgress":   {"SourceSecurityGroupName", "SourceSecurityGroupOwnerId"},
	"RevokeSecurityGroupIngress":     {"SourceSecurityGroupName", "SourceSecurityGroupOwnerId"},
	"RevokeSecurityGroupEgress":      {"SourceSecurityGroupName", "SourceSecurityGroupOwnerId"},
	"DescribeLaunchTemplateVersions": {"MinVersion", "MaxVersion", "ResolveAlias"},
	"DescribeImages":                 {"ExecutableUsers"},
}

func unsupported(parameter string) *APIError {
	return apiError("UnsupportedOperation", "the local region does not play the parameter %s", parameter)
}
