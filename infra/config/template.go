package config

import "flashtap/events"

// maxSpoolGiB leaves the system room on the disk: a gp3 volume has 16 TiB at most (EBS User Guide, "General Purpose SSD volumes").
const maxSpoolGiB = 16000

// LaunchTemplate is the data of the collector's launch template, in the words that EC2's API and CloudFormation share. What
// depends on a capture (image, type, subnet, group, user data, tags) is in the RunInstances call.
func (c Config) LaunchTemplate(instanceProfileARN string) map[string]any {
	size, throughput := events.CollectorDisk(int64(c.SpoolGiB) << 30)
	disk := map[string]any{
		"VolumeType": "gp3", "VolumeSize": int64(size), "Throughput": int64(throughput),
		"Encrypted": true, "DeleteOnTermination": true,
	}
	if c.VolumeKey != "" {
		disk["KmsKeyId"] = c.VolumeKey
	}
	return map[string]any{
		"IamInstanceProfile":                map[string]any{"Arn": instanceProfileARN},
		"InstanceInitiatedShutdownBehavior": "terminate", // a collector ends itself by powering off
		"MetadataOptions": map[string]any{
			"HttpEndpoint": "enabled", "HttpTokens": "required", "HttpPutResponseHopLimit": int64(1),
			"InstanceMetadataTags": "enabled", // the stop signal is a tag
		},
		"BlockDeviceMappings": []any{map[string]any{
			"DeviceName": "/dev/xvda", // Amazon Linux's root
			"Ebs":        disk,
		}},
	}
}
