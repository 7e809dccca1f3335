package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"

	"flashtap/events"
)

// keyUsable judges a KMS key that the capture writes with.
func keyUsable(check, what, arn string, key Answer[Key]) events.Verdict {
	v := events.Verdict{Check: check, Result: events.Pass, Evidence: []string{arn}}
	switch {
	case !key.Known && key.Why == "NotFoundException":
		v.Result = events.Fail
		v.Reason = fmt.Sprintf("the key of %s does not exist any more", what)
		v.Remedy = "deploy with another key"
	case !key.Known:
		v.Result = events.Warn
		v.Reason = "could not be checked: " + key.why()
	case key.Value.State == "PendingDeletion" || key.Value.State == "PendingReplicaDeletion":
		v.Result = events.Fail
		v.Reason = fmt.Sprintf("the key of %s is to be deleted", what)
		if !key.Value.Deleted.IsZero() {
			v.Reason += " on " + key.Value.Deleted.Format("2006-01-02")
		}
		v.Remedy = fmt.Sprintf("aws kms cancel-key-deletion --key-id %s; aws kms enable-key --key-id %s", arn, arn)
	case key.Value.State == "Disabled":
		v.Result = events.Fail
		v.Reason = fmt.Sprintf("the key of %s is disabled", what)
		v.Remedy = "aws kms enable-key --key-id " + arn
	case key.Value.State != "Enabled":
		v.Result = events.Fail
		v.Reason = fmt.Sprintf("the key of %s is %s", what, key.Value.State)
		v.Remedy = "make it usable (KMS Developer Guide, \"Key states\"), or deploy with another key"
	case key.Value.Usage != "" && key.Value.Usage != "ENCRYPT_DECRYPT":
		v.Result = events.Fail
		v.Reason = fmt.Sprintf("the key of %s is for %s and can't encrypt", what, key.Value.Usage)
		v.Remedy = "deploy with a symmetric key for encryption"
	default:
		v.Reason = "the key of " + what + " is enabled"
	}
	return v
}

// quotas: the collector's vCPUs must fit into what the account may run. How many run is CloudWatch's count, which is minutes old.
func quotas(f Facts, list []events.Candidate) events.Verdict {
	v := events.Verdict{Check: "quotas", Result: events.Warn, Evidence: []string{"L-1216C47A"}}
	var needs []int32
	for _, c := range list {
		if t := typeInfo(f, c.InstanceType); t != nil && t.VCpuInfo != nil && aws.ToInt32(t.VCpuInfo.DefaultVCpus) > 0 {
			needs = append(needs, aws.ToInt32(t.VCpuInfo.DefaultVCpus))
		}
	}
	for _, unknown := range []struct {
		is   bool
		what string
	}{
		{!f.VCPUQuota.Known, "the quota of vCPUs could not be checked: " + f.VCPUQuota.why()},
		{!f.UsedVCPUs.Known, "how many vCPUs run could not be checked: " + f.UsedVCPUs.why()},
		{len(list) > 0 && len(needs) == 0 && !f.Types.Known, "how many vCPUs the collector needs could not be checked: " + f.Types.why()},
		{len(needs) == 0, "how many vCPUs the collector needs is not known"},
	} {
		if unknown.is {
			v.Reason = unknown.what
			return v
		}
	}
	free := f.VCPUQuota.Value - f.UsedVCPUs.Value
	least := slices.Min(needs)
	v.Reason = fmt.Sprintf("%.0f of %.0f vCPUs of On-Demand Standard instances are in use; the collector needs %d", f.UsedVCPUs.Value, f.VCPUQuota.Value, needs[0])
	switch {
	case float64(least) > free:
		v.Result = events.Fail
		v.Remedy = fmt.Sprintf("stop what is not needed, or: aws service-quotas request-service-quota-increase --service-code ec2 --quota-code L-1216C47A --desired-value %.0f",
			f.UsedVCPUs.Value+float64(needs[0]))
	case float64(needs[0]) > free:
		v.Reason += fmt.Sprintf("; a smaller type, with %d, still fits", least)
	default:
		v.Result = events.Pass
	}
	return v
}

// unprovable is what no simulation covers (IAM User Guide, "How the IAM policy simulator works").
const unprovable = "not provable before launch: policies of resources and endpoints, conditions on what is made only then, and AWS's own capacity"

// permissions judges what IAM would decide about the calls of the steps that make and remove things. Those of a temporary endpoint
// count only when the capture makes one.
func permissions(f Facts, endpoint bool) events.Verdict {
	v := events.Verdict{Check: "permissions", Result: events.Pass}
	if !f.Rights.Known {
		v.Result, v.Reason = events.Warn, "could not be checked: "+f.Rights.why()+"; "+unprovable
		return v
	}
	var denied, open said
	var remedies []string
	matters := func(action string) bool { return endpoint || action != makesEndpoint && action != removesEndpoint }
	simulated := 0
	answered := map[Right]bool{}
	for _, d := range f.Rights.Value {
		if !matters(d.Action) {
			continue
		}
		simulated++
		answered[Right{d.Action, d.Resource}] = true
		if !slices.Contains(v.Evidence, d.Role) {
			v.Evidence = append(v.Evidence, d.Role)
		}
		deny := func(how, remedy string) {
			denied.add(fmt.Sprintf("%s by the role of %s (%s) is %s", d.Action, d.Step, nameOf(d.Role), how), resourceKind(d.Resource))
			if !slices.Contains(remedies, remedy) {
				remedies = append(remedies, remedy)
			}
		}
		switch {
		case d.Organizations == "false":
			deny("explicitly denied by a policy of the organization (SCP)", "have the SCP leave out "+nameOf(d.Role))
		case d.Boundary == "false":
			deny("denied by the role's permissions boundary", "let the permissions boundary of "+nameOf(d.Role)+" allow "+d.Action)
		case d.Decision == "explicitDeny":
			deny("explicitly denied", "take the statement that denies "+d.Action+" out of the policies of "+nameOf(d.Role))
		case d.Decision == "implicitDeny" && len(d.Missing) > 0:
			open.add(fmt.Sprintf("%s by the role of %s depends on %s", d.Action, d.Step, strings.Join(d.Missing, ", ")), resourceKind(d.Resource))
		case d.Decision != "allowed" && d.Action == makesEndpoint:
			deny("not allowed", "deploy with -c allowTemporaryEndpoint=true, which gives the right")
		case d.Decision != "allowed":
			deny("not allowed", "deploy again, which restores the policy of "+nameOf(d.Role))
		}
	}
	for _, s := range Simulations(f.Settings, f.Interface) {
		for _, r := range s.Rights {
			if matters(r.Action) && !answered[r] {
				open.add(fmt.Sprintf("IAM said nothing of %s by the role of %s", r.Action, s.Step), resourceKind(r.Resource))
			}
		}
	}
	switch {
	case len(denied) > 0:
		v.Result, v.Reason, v.Remedy = events.Fail, denied.String(), strings.Join(remedies, "; ")
	case len(open) > 0:
		v.Result, v.Reason = events.Warn, unprovable+", and beside those: "+open.String()
	default:
		v.Reason = fmt.Sprintf("the roles may make all %d calls that were simulated; %s", simulated, unprovable)
	}
	return v
}

// said are sentences, each with the sorts of resources that it is about.
type said []struct {
	what  string
	kinds []string
}

func (s *said) add(what, kind string) {
	for i := range *s {
		if (*s)[i].what == what {
			(*s)[i].kinds = append((*s)[i].kinds, kind)
			return
		}
	}
	*s = append(*s, struct {
		what  string
		kinds []string
	}{what, []string{kind}})
}

func (s said) String() string {
	var list []string
	for _, one := range s {
		list = append(list, one.what+" (on "+strings.Join(one.kinds, ", ")+")")
	}
	return strings.Join(list, "; ")
}

// nameOf is the last part of an ARN.
func nameOf(arn string) string { return arn[strings.LastIndexByte(arn, '/')+1:] }

// resourceKind is the sort of resource that an ARN names.
func resourceKind(arn string) string {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) < 6 {
		return arn
	}
	kind, _, _ := strings.Cut(parts[5], "/")
	return kind
}
