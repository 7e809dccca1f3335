package stacks_test

import "testing"

// TestLaunchTemplate holds what must hold of every collector, whatever a capture asks for.
func TestLaunchTemplate(t *testing.T) {
	for _, s := range []synthesized{plain, full} {
		data := at(s.one(t, "AWS::EC2::LaunchTemplate", "LaunchTemplate").Properties, "LaunchTemplateData")
		disk := at(data, "BlockDeviceMappings", 0, "Ebs")
		var key any // none: EBS takes the account's
		if s.config.VolumeKey != "" {
			key = s.config.VolumeKey
		}
		for what, pair := range map[string][2]any{
			"IMDSv2":           {at(data, "MetadataOptions", "HttpTokens"), "required"},
			"hop limit":        {at(data, "MetadataOptions", "HttpPutResponseHopLimit"), 1.0},
			"metadata tags":    {at(data, "MetadataOptions", "InstanceMetadataTags"), "enabled"},
			"ends by itself":   {at(data, "InstanceInitiatedShutdownBehavior"), "terminate"},
			"encrypted":        {at(disk, "Encrypted"), true},
			"key of the disk":  {at(disk, "KmsKeyId"), key},
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
		if got := s.config.Scope(s.place(t)).VolumeKeyARN; got != s.config.VolumeKey { // or launch may not use it
			t.Errorf("%s: policies name %q for the disk's key, want %q", s.name, got, s.config.VolumeKey)
		}
	}
}
