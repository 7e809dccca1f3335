package config

// Sizes of the collector's disk.
const (
	systemGiB   = 12    // Amazon Linux 2023 needs 8 (EC2 User Guide); the rest is for logs and the segments in the making
	maxSpoolGiB = 16000 // a gp3 volume has 16 TiB at most (EBS User Guide, "General Purpose SSD volumes")
)

// Bounds of gp3's throughput in MiB/s: what is included, and what its included 3,000 IOPS carry at 0.25 MiB/s each (EBS
// User Guide, "General Purpose SSD volumes").
const (
	leastThroughput = 125
	mostThroughput  = 750
)

// Throughput of the collector's disk in MiB/s, by the size of the spool: the spool must not fill slower than segments
// arrive, and a capture that needs a larger one needs a faster one. 20 GiB, the default, get 250 MiB/s, which fill them in 82
// seconds.
func Throughput(spoolGiB int) int {
	return min(max(spoolGiB*25/2, leastThroughput), mostThroughput)
}

// LaunchTemplate is the data of the collector's launch template, in the words that EC2's API and CloudFormation share. What
// depends on a capture (image, type, subnet, group, user data, tags) is in the RunInstances call.
func (c Config) LaunchTemplate(instanceProfileARN string) map[string]any {
	disk := map[string]any{
		"VolumeType": "gp3", "VolumeSize": int64(systemGiB + c.SpoolGiB), "Throughput": int64(Throughput(c.SpoolGiB)),
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
