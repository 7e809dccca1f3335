// Package asl runs state machines written in the Amazon States Language as AWS Step Functions
// would run them in a Standard workflow with JSONPath, or refuses them.
//
// What the language does is taken from its specification (states-language.net/spec.html) and from
// the Step Functions developer guide. Where the service was seen to behave differently, the comment
// beside the code says so. A feature that is not supported is refused when the definition is
// parsed, never skipped.
package asl

import (
	"encoding/json"
	"strconv"
)

// Machine is a parsed and checked definition. It is never changed after Parse, so any number of
// executions may share it.
type Machine struct {
	Graph
	Comment string
	// TimeoutSeconds is the most an execution may take, or 0 for no limit.
	TimeoutSeconds int
}

// Graph is a set of states with one to start at: a whole machine, a branch of a Parallel state or
// the item processor of a Map state.
type Graph struct {
	StartAt string
	States  map[string]*State
	// Names lists the states in the order in which they are written.
	Names []string
}

// Types of states.
const (
	Pass     = "Pass"
	Task     = "Task"
	Choice   = "Choice"
	Wait     = "Wait"
	Succeed  = "Succeed"
	Fail     = "Fail"
	Parallel = "Parallel"
	Map      = "Map"
)

// State is one state. Fields that do not belong to its Type are zero.
type State struct {
	Name, Type, Comment string
	// Next is the following state, unless End is set or the type has other ways out.
	Next string
	End  bool

	Resource string // Task
	// TimeoutSeconds of a Task, 0 if none is given or TimeoutSecondsPath is used. Without either the
	// service waits for ever; the 60 seconds of the specification it does not keep.
	TimeoutSeconds     int
	TimeoutSecondsPath string

	Choices []Rule // Choice
	Default string // Choice

	// Seconds of a Wait state, if it is given as a number.
	Seconds                               *int
	SecondsPath, Timestamp, TimestampPath string

	Error, Cause         string // Fail
	ErrorPath, CausePath string // Fail

	Branches       []*Graph // Parallel
	ItemProcessor  *Graph   // Map
	MaxConcurrency int      // Map

	Retry []Retrier // Task, Parallel, Map
	Catch []Catcher // Task, Parallel, Map

	// Definition is the state as it is written, after substitution.
	Definition json.RawMessage

	inputPath, outputPath      selection
	resultPath                 selection
	parameters, resultSelector *template
	itemsPath                  *path
	itemSelector               *template
	timeoutPath, waitPath      *path
	errorExpr, causeExpr       *template
	result                     any
	hasResult                  bool
	integration                integration
}

// selection is the value of InputPath, ResultPath or OutputPath: absent, null or a path.
type selection struct {
	null bool
	path *path // nil if absent
}

// Retrier is one member of a Retry list.
type Retrier struct {
	ErrorEquals []string
	// IntervalSeconds, MaxAttempts and BackoffRate hold the defaults 1, 3 and 2 if not given.
	IntervalSeconds int
	MaxAttempts     int
	BackoffRate     float64
	MaxDelaySeconds int // 0 for no limit
	FullJitter      bool
}

// Catcher is one member of a Catch list.
type Catcher struct {
	ErrorEquals []string
	Next        string
	resultPath  selection
}

// Rule is a member of a Choice state's Choices or a part of one. It has one of And, Or, Not and
// Operator.
type Rule struct {
	And, Or []Rule
	Not     *Rule
	// Variable is compared by Operator with Value: a literal or, if Operator ends in Path, a path.
	Variable, Operator string
	Value              json.RawMessage
	// Next is set for a top-level rule only.
	Next string

	variable, other *path
	literal         any
}

// Transition is one way out of a state.
type Transition struct {
	// By is what leads there: "Next", "Choices[0]", "Default" or "Catch[0]".
	By string
	To string
}

// Transitions lists the ways out of a state in the order in which they are considered. States inside
// a Parallel or Map state are no part of it.
func (s *State) Transitions() []Transition {
	var ts []Transition
	for i, r := range s.Choices {
		ts = append(ts, Transition{"Choices" + subscript(i), r.Next})
	}
	if s.Default != "" {
		ts = append(ts, Transition{"Default", s.Default})
	}
	if s.Next != "" {
		ts = append(ts, Transition{"Next", s.Next})
	}
	for i, c := range s.Catch {
		ts = append(ts, Transition{"Catch" + subscript(i), c.Next})
	}
	return ts
}

// Terminal reports whether the graph may end in this state.
func (s *State) Terminal() bool { return s.End || s.Type == Succeed || s.Type == Fail }

// Graphs lists the graphs that run inside a state.
func (s *State) Graphs() []*Graph {
	if s.ItemProcessor != nil {
		return []*Graph{s.ItemProcessor}
	}
	return s.Branches
}

// Walk visits every state of the graph and of the graphs inside, in the order in which they are
// written.
func (g *Graph) Walk(visit func(*State)) {
	for _, name := range g.Names {
		s := g.States[name]
		visit(s)
		for _, inner := range s.Graphs() {
			inner.Walk(visit)
		}
	}
}

func subscript(i int) string { return "[" + strconv.Itoa(i) + "]" }
