package describe

import (
	"sort"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// sortTags makes the same tags always the same parameters: EC2 compares them when it sees a client token again.
func sortTags(tags []types.Tag) {
	sort.Slice(tags, func(i, j int) bool { return aws.ToString(tags[i].Key) < aws.ToString(tags[j].Key) })
}
