package authorization

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"flashtap/infra/policy"
)

// Table says of every role how much it may, as a table in Markdown: statements, distinct actions, the statements whose
// Resource is "*", and the characters of IAM's quota. Below it stands why a Resource is "*".
func Table(s policy.Scope) string {
	var b strings.Builder
	b.WriteString("| role | statements | actions | with `\"*\"` | which | characters of 10,240 |\n| --- | ---: | ---: | ---: | --- | ---: |\n")
	all, statements, stars := map[string]bool{}, 0, 0
	var reasons []string
	for _, r := range policy.Roles() {
		d := r.Policy(s)
		actions := map[string]bool{}
		var which []string
		for _, st := range d.Statement {
			for _, a := range st.Action {
				actions[a], all[a] = true, true
			}
			if !slices.Contains(st.Resource, "*") {
				continue
			}
			which = append(which, st.Sid)
			if reason := fmt.Sprintf("- %s: %s.", st.Sid, st.Reason); !slices.Contains(reasons, reason) {
				reasons = append(reasons, reason)
			}
		}
		statements += len(d.Statement)
		stars += len(which)
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %s | %d |\n", r.Name, len(d.Statement), len(actions), len(which), strings.Join(which, ", "), Size(d))
	}
	fmt.Fprintf(&b, "| all | %d | %d | %d | | |\n\nWhy `\"*\"`:\n\n%s\n", statements, len(all), stars, strings.Join(reasons, "\n"))
	return b.String()
}

// Size is how many characters of a quota a document takes: IAM does not count white space (IAM User Guide, "IAM and AWS
// STS quotas").
func Size(d policy.Document) int {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(d); err != nil {
		panic(err) // a document is strings and lists of them
	}
	return len(strings.Join(strings.Fields(text.String()), ""))
}
