package authorization

import "strings"

// element is one character of a pattern, or a run of any number of them.
type element struct {
	char byte
	run  bool
	one  bool   // any one character
	stop string // characters that the run may not contain
}

// wide are the placeholders whose values contain the characters that separate the parts of an ARN.
var wide = []string{
	"ObjectName", "LogGroupName", "LogStreamName", "RoleNameWithPath", "ParameterNameWithoutLeadingSlash", "InstanceProfileNameWithPath",
}

// templateElements reads an ARN as the reference writes it: arn:${Partition}:s3:::${BucketName}/${ObjectName}.
func templateElements(template string) []element {
	var list []element
	for template != "" {
		if rest, isPlaceholder := strings.CutPrefix(template, "${"); isPlaceholder {
			name, after, _ := strings.Cut(rest, "}")
			e := element{run: true, stop: "/:"}
			for _, w := range wide {
				if name == w {
					e.stop = ""
				}
			}
			list, template = append(list, e), after
			continue
		}
		list, template = append(list, element{char: template[0]}), template[1:]
	}
	return list
}

// resourceElements reads the Resource of a statement: "*" and "?" as wildcards, and policy variables as any text.
func resourceElements(resource string) []element {
	var list []element
	for resource != "" {
		rest, isVariable := strings.CutPrefix(resource, "${")
		switch {
		case isVariable:
			_, after, _ := strings.Cut(rest, "}")
			list, resource = append(list, element{run: true}), after
			continue
		case resource[0] == '*':
			list = append(list, element{run: true})
		case resource[0] == '?':
			list = append(list, element{one: true})
		default:
			list = append(list, element{char: resource[0]})
		}
		resource = resource[1:]
	}
	return list
}

// overlaps says whether some ARN of the template is one that the resource's pattern means.
func overlaps(resource, template string) bool {
	return meet(resourceElements(resource), templateElements(template))
}

func meet(a, b []element) bool {
	known := map[[2]int]bool{}
	var from func(i, j int) bool
	from = func(i, j int) bool {
		at := [2]int{i, j}
		if met, done := known[at]; done {
			return met
		}
		var met bool
		switch {
		case i == len(a) && j == len(b):
			met = true
		case i < len(a) && a[i].run:
			met = from(i+1, j) || j < len(b) && a[i].takes(b[j]) && from(i, j+1)
		case j < len(b) && b[j].run:
			met = from(i, j+1) || i < len(a) && b[j].takes(a[i]) && from(i+1, j)
		case i < len(a) && j < len(b):
			met = (a[i].one || b[j].one || a[i].char == b[j].char) && from(i+1, j+1)
		}
		known[at] = met
		return met
	}
	return from(0, 0)
}

// takes says whether a run may contain what e stands for.
func (run element) takes(e element) bool {
	return e.run || e.one || !strings.ContainsRune(run.stop, rune(e.char))
}

// matchesKey says whether a condition key is the one of this name. Names may have placeholders, and IAM does not mind the
// case of keys.
func matchesKey(key, name string) bool {
	for _, open := range []string{"${", "<"} {
		if beginning, _, has := strings.Cut(name, open); has {
			return len(key) > len(beginning) && strings.EqualFold(key[:len(beginning)], beginning)
		}
	}
	return strings.EqualFold(key, name)
}
