package stacks_test

import "testing"

// TestLaunchTemplate holds what must hold of every collector, whatever a capture asks for.
func TestLaunchTemplate(t *testing.T) {
	for _, s := range []synthesized{plain, full} {
		data := at(s.one(t, "AWS::EC2::LaunchTemplate", "LaunchTemplate").Properties, "LaunchTemplateData")
		disk := at(data, "BlockDeviceMappings", 0, "Ebs")
		for what, pair := range map[string][2]any{
			"IMDSv2":           {at(data, "MetadataOptions", "HttpTokens"), "required"},
			"hop limit":        {at(data, "MetadataOptions", "HttpPutResponseHopLimit"), 1.0},
			"metadata tags":    {at(data, "MetadataOptions", "InstanceMetadataTags"), "enabled"},
			"ends by itself":   {at(data, "InstanceInitiatedShutdownBehavior"), "terminate"},
			"encrypted":        {at(disk, "Encrypted"), true},
			"gone with it":     {at(disk, "DeleteOnTermination"), true},
			"type of the disk": {at(disk, "VolumeType"), "gp3"},
			"size of the disk": {at(disk, "VolumeSize"), float64(12 + s.config.SpoolGiB)},
			"no key pair":      {at(data, "KeyName"), nil},
			"profile":          {at(data, "IamInstanceProfile", "Arn"), "arn:aws:iam::" + account + ":instance-profile/" + s.config.Prefix() + "-collector-" + region},
		} {
			if pair[0] != pair[1] {
				t.Errorf("%s: %s is %v, want %v", s.name, what, pair[0], pair[1])
			}
		}
	}
}
