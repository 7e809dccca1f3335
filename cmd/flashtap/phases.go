package main

// phase is what a person is told when the state machine enters a state.
type phase struct{ word, says string }

// phases names every state of infra/capture.asl.json. States that only steer have no words.
var phases = map[string]phase{
	"Begin":          {},
	"Preflight":      {"preflight", "can the source be mirrored, and where can a collector stand?"},
	"PublishRefused": {},
	"Refused":        {"refused", "nothing was made"},
	"Guard":          {"guard", "first of all a schedule that ends everything after the deadline"},
	"Held?":          {},
	"PublishJoined":  {},
	"Joined":         {"joined", "another capture of this interface runs already"},
	"Launch":         {"launch", "security group and collector"},
	"AwaitReady":     {"ready?", "waiting for the collector's first word"},
	"Ready":          {},
	"Ready?":         {},
	"WaitReady":      {},
	"Mirror":         {"mirror", "target, filter and session"},
	"AwaitProof":     {"proof?", "waiting for a packet of the source"},
	"Proof":          {},
	"Proof?":         {},
	"WaitProof":      {},
	"PublishFlowing": {"flowing", "packets of the source arrive"},
	"PublishSilent":  {"silent", "no packet yet"},
	"Hopeless?":      {},
	"NoPackets":      {"ending", "something keeps every packet away"},
	"AwaitEnd":       {"capturing", "until the deadline, the byte cap, or a stop"},
	"Watch":          {},
	"Over?":          {},
	"WaitWatch":      {},
	"Unmirror":       {"unmirror", "the session goes first"},
	"AwaitDrain":     {"drain", "the collector uploads what it still holds"},
	"Drain":          {},
	"Drained?":       {},
	"WaitDrain":      {},
	"Teardown":       {"teardown", "removing everything that was made"},
	"Clean?":         {},
	"WaitTeardown":   {},
	"PublishStuck":   {},
	"Stuck":          {"stuck", "something would not go; guard and sweep go on trying"},
	"PublishLeaking": {},
	"Leaking":        {"leaking", "teardown itself fails; guard and sweep go on trying"},
	"Seal":           {"seal", "checking every object, writing the manifest"},
	"SealFailed":     {"unsealed", "the manifest could not be written; the sweep goes on trying"},
	"PublishSealed":  {},
	"NotifyFailed":   {},
	"Whole?":         {},
	"Failed":         {},
	"Troubled":       {},
	"Done":           {},
}

// progressStates are the states whose results say how far the collector is.
var progressStates = map[string]bool{"Proof": true, "Watch": true, "Drain": true}
