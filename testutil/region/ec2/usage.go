package ec2

import "strings"

// standardFamilies are the first letters of the families of the quota "Running On-Demand Standard (A, C, D, H, I, M, R, T,
// Z) instances" (EC2 User Guide, "On-Demand Instance quotas").
const standardFamilies = "acdhimrtz"

// otherFamilies begin with such a letter and have quotas of their own.
var otherFamilies = []string{"dl", "hpc", "inf", "mac", "trn"}

func standard(instanceType string) bool {
	for _, other := range otherFamilies {
		if strings.HasPrefix(instanceType, other) {
			return false
		}
	}
	return instanceType != "" && strings.ContainsRune(standardFamilies, rune(instanceType[0]))
}

// StandardVCPUs is how many vCPUs the instances of standard families have that are pending or run.
func (s *Service) StandardVCPUs() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	sum := 0
	for _, i := range every[*instance](s) {
		if (i.state == "pending" || i.state == "running") && standard(i.typ) {
			sum += instanceTypes[i.typ].vcpus
		}
	}
	return sum
}
