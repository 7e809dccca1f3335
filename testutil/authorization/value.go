package authorization

import "flashtap/infra/policy"

// Value is what a value of a stack's template would be in the account and Region of s, as far as it can be told before a
// deployment.
func (t Templates) Value(s policy.Scope, stack string, value any) (any, error) {
	return resolver{templates: t, scope: s, stack: stack}.value(value)
}
