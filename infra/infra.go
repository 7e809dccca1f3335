// Package infra holds the files of a deployment that are deployed as they are. The CDK app and the local region read them
// from here, so that there is no second copy.
package infra

import _ "embed" // for the files

// Capture is the state machine's definition. Its ${placeholders} are filled in at deployment.
//
//go:embed capture.asl.json
var Capture string

// Rules are the event rules before a deployment's configuration is applied; config.Rules does that.
//
//go:embed rules.json
var Rules []byte
